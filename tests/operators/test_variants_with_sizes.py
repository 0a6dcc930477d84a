"""Variants of plugins whose shape inputs or data decide sizes: narrow types, and kernels for the best shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from plugin_autogen import dtypes, releases
from plugin_autogen.codegen.plan import KernelPlan, PluginPlan
from plugin_autogen.graph.extract import extract
from plugin_autogen.graph.selection import PluginRequest
from plugin_autogen.graph.shapes import Range
from plugin_autogen.pipeline import Check, build_plugin_plan
from tests.cpu_cuda.runner import Call, CpuPlugin, output_specs
from tests.models import BOOL, FLOAT, INT64, load, model, node
from tests.operators import harness

RTX = releases.release("rtx")
RANGES = {"d0": Range(1, 4, 16), "d1": Range(1, 6, 16)}
Array = np.ndarray


def _variants(proto: onnx.ModelProto, folder: Path) -> PluginPlan:
    """All nodes as one plugin: two types, each in general and for the best shapes, where 5 takes the place of 3."""
    loaded = load(proto, folder)
    request = PluginRequest("tpat_group", tuple(loaded.node_keys))
    (subgraph,) = extract(loaded, [request], RTX, allow_symbolic=True, in_network=False).subgraphs
    plan, checks = build_plugin_plan(
        replace(subgraph, ranges=RANGES), Check.CPU, precision=dtypes.FLOAT16, specialize=True
    )
    assert len(checks) == 4
    assert [v.made_for for v in plan.variants] == [None, None, (4, 6), (4, 6)]
    return replace(plan, variants=tuple(map(_marked, plan.variants)))


def _marked(plan: KernelPlan) -> KernelPlan:
    if plan.made_for is None:
        return plan
    source = plan.source.replace("3.000000000e+00f", "5.000000000e+00f")
    assert source != plan.source
    return replace(plan, source=source)


def _run(plan: PluginPlan, given: list[dict[str, Array]], folder: Path) -> list[list[Array]]:
    """The outputs for each of the inputs by name."""
    compiled = CpuPlugin.from_plan(plan, RTX, folder, harness.sanitizer)
    calls = []
    for feeds in given:
        inputs = [feeds[t.name] for t in plan.default.inputs]
        shapes = [feeds[s.name] for s in plan.default.shape_inputs]
        calls.append(Call(inputs, output_specs(plan, inputs, shapes), shapes=shapes))
    results = compiled.library.run_many(plan.name, calls, fingerprint=plan.fingerprint)
    return [result.outputs for result in results]


def _whole_numbers(*shape: int) -> Array:
    return np.random.default_rng(0).integers(-8, 8, shape).astype(np.float32)


def _factor(feeds: Mapping[str, Array]) -> int:
    return 5 if feeds["x"].shape == (4, 6) else 3


def test_sizes_of_the_data(tmp_path: Path) -> None:
    """Their outputs stay int64, and the kernels for the best shapes read them on the device too."""
    proto = model(
        [
            node("Mul", "x three", "h"),
            node("Compress", "h chosen", "rows", axis=0),
            node("MatMul", "rows w", "product"),
            node("Relu", "rows", "positive"),
        ],
        {"x": (FLOAT, ["a", "b"]), "chosen": (BOOL, ["a"])},
        {"product": (FLOAT, [None, None]), "positive": (FLOAT, [None, "b"])},
        {"three": np.float32(3), "w": np.ones((1, 5), np.float32)},
    )
    proto.graph.node[2].input[0] = "sums"
    proto.graph.node.insert(2, node("ReduceSum", "rows axes", "sums", keepdims=1))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "axes"))
    plan = _variants(proto, tmp_path)
    assert [[t.dtype.name for t in v.outputs] for v in plan.variants] == 2 * [
        ["float32", "float32", "int64"],
        ["float16", "float16", "int64"],
    ]
    (size,) = plan.default.sizes
    assert size.output == 2
    given = [
        {"x": _whole_numbers(*shape).astype(dtype), "chosen": np.arange(shape[0]) % 3 == rest}
        for dtype in (np.float32, np.float16)
        for shape in ((4, 6), (4, 5), (7, 6))
        for rest in (0, 1, 5)
    ]
    for feeds, (product, positive, count) in zip(given, _run(plan, given, tmp_path), strict=True):
        rows = feeds["x"][feeds["chosen"]] * feeds["x"].dtype.type(_factor(feeds))
        np.testing.assert_array_equal(positive, np.maximum(rows, 0), strict=True)
        np.testing.assert_array_equal(product, np.repeat(rows.sum(1, keepdims=True), 5, 1), strict=True)
        assert count == len(rows)


def test_shape_inputs(tmp_path: Path) -> None:
    """The dimensions of inputs decide which kernels run; what shape inputs decide is open in all of them."""
    proto = model(
        [node("Mul", "x three", "h"), node("Tile", "h repeats", "y")],
        {"x": (FLOAT, ["a", "b"]), "repeats": (INT64, [2])},
        {"y": (FLOAT, [None, None])},
        {"three": np.float32(3)},
    )
    plan = _variants(proto, tmp_path)
    given = [
        {"x": _whole_numbers(*shape).astype(dtype), "repeats": np.array(repeats)}
        for dtype in (np.float32, np.float16)
        for shape in ((4, 6), (6, 4))
        for repeats in ((1, 1), (2, 3), (0, 1))
    ]
    for feeds, (y,) in zip(given, _run(plan, given, tmp_path), strict=True):
        np.testing.assert_array_equal(y, np.tile(feeds["x"] * feeds["x"].dtype.type(_factor(feeds)), feeds["repeats"]))
        assert y.dtype == feeds["x"].dtype
