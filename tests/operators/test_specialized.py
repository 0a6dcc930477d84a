"""Kernels for the best sizes beside those for all sizes: which ones run is decided when the shapes are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plugin_autogen import dtypes
from plugin_autogen.codegen.plan import KernelPlan, PluginPlan
from plugin_autogen.codegen.render import render_plugin
from plugin_autogen.errors import PluginAutogenError
from plugin_autogen.graph.shapes import Range
from plugin_autogen.graph.subgraph import Subgraph
from plugin_autogen.pipeline import Check, build_plugin_plan
from tests.cpu_cuda.runner import CpuPlugin
from tests.dynamic_cases import Y2, Case, X
from tests.operators import harness
from tests.operators.test_dynamic import RTX, subgraph_of

RANGES = {"d0": Range(1, 4, 16), "d1": Range(1, 64, 128)}


def _subgraph(folder: Path) -> Subgraph:
    case = Case("Mul", X, Y2, constants={"s": np.float32([3])})
    return replace(subgraph_of(case, folder), ranges=RANGES)


def _marked(plan: KernelPlan) -> KernelPlan:
    """The kernels for the best sizes multiply by 5, so that the result tells which ones ran."""
    if plan.sizes is None:
        return plan
    source = plan.source.replace("3.000000000e+00f", "5.000000000e+00f")
    assert source != plan.source
    return replace(plan, source=source)


def test_the_sizes_decide_which_kernels_run(tmp_path: Path) -> None:
    plan, checks = build_plugin_plan(_subgraph(tmp_path), Check.CPU, precision=dtypes.FLOAT16, specialize=True)
    assert len(checks) == 4
    assert [v.sizes for v in plan.variants] == [None, None, (4, 64), (4, 64)]
    assert ["int32" in p for v in plan.variants for k in v.kernels for p in [k.parameters]] == [
        True,
        True,
        False,
        False,
    ]
    marked = PluginPlan(plan.name, tuple(map(_marked, plan.variants)))
    compiled = CpuPlugin.from_plan(marked, RTX, tmp_path, harness.sanitizer)
    for dtype in (np.float32, np.float16):
        for shape in ((4, 64), (4, 63), (5, 64), (1, 1), (16, 128)):
            x = np.random.default_rng(0).integers(-8, 8, shape).astype(dtype)
            np.testing.assert_array_equal(compiled.run([x])[0], x * dtype(5 if shape == (4, 64) else 3))


def test_without_all_ranges_there_is_no_optimum(tmp_path: Path) -> None:
    for ranges in ({"d0": RANGES["d0"]}, {**RANGES, "d1": Range(0, 16)}):
        subgraph = replace(_subgraph(tmp_path), ranges=ranges)
        assert len(build_plugin_plan(subgraph, Check.OFF, specialize=True)[0].variants) == 1


def test_the_default_takes_all_sizes(tmp_path: Path) -> None:
    plan, _ = build_plugin_plan(_subgraph(tmp_path), Check.OFF, specialize=True)
    with pytest.raises(PluginAutogenError, match="certain sizes alone"):
        render_plugin(replace(plan, variants=plan.variants[::-1]), RTX)
