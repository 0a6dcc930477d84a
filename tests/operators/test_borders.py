"""Values at the borders of plugins, which no type on the way may narrow."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from plugin_autogen import dtypes, releases
from plugin_autogen.graph.extract import extract
from plugin_autogen.graph.selection import select
from plugin_autogen.pipeline import Check, build_plugin_plan
from tests.cpu_cuda.runner import CpuPlugin, output_specs
from tests.models import INT64, load, model, node


def test_int64_beyond_32_bits_survives_the_border(tmp_path: Path) -> None:
    proto = load(model([node("Abs", "x", "y", "n")], {"x": (INT64, [4])}, {"y": (INT64, [4])}, opset=17), tmp_path)
    release = releases.release("10")
    (subgraph,) = extract(proto, select(proto, ["n"]), release).subgraphs
    assert {t.border_dtype for t in (*subgraph.inputs, *subgraph.outputs)} == {dtypes.INT64}
    plan, _ = build_plugin_plan(subgraph, Check.CPU)
    x = np.array([-(2**40) - 3, 2**62 + 1, -5, 2**31 + 7], np.int64)
    (y,) = CpuPlugin.from_plan(plan, release, tmp_path).run([x], output_specs(plan, [x]))
    assert y.dtype == np.int64 and y.tolist() == np.abs(x).tolist()
