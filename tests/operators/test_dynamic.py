"""One plugin, many shapes: operators with symbolic dimensions at 20 shape sets each, sizes 0 and 1 among them.

Each case goes from the ONNX node to the generated plugin, which is compiled once and answers all shapes through
TensorRT's interface, under one profile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from plugin_autogen import releases
from plugin_autogen.codegen import expr as ex
from plugin_autogen.codegen.plan import PluginPlan, launches
from plugin_autogen.graph.extract import extract
from plugin_autogen.graph.selection import select
from plugin_autogen.graph.shapes import Range
from plugin_autogen.graph.subgraph import Subgraph
from plugin_autogen.pipeline import Check, build_plugin_plan
from plugin_autogen.releases import Release
from plugin_autogen.schedule.atomics import order_changes_bits
from plugin_autogen.verify.compare import difference
from plugin_autogen.verify.cpu import decode, encode
from plugin_autogen.verify.inputs import random_inputs
from plugin_autogen.verify.reference import reference_outputs
from tests.cpu_cuda.runner import Call, CpuPlugin, PluginFailure, Profile, output_specs
from tests.dynamic_cases import CASES, Case, Sizes, model_of, shape_sets
from tests.models import load
from tests.operators import harness

RTX = releases.release("rtx")


def subgraph_of(case: Case, folder: Path, release: Release = RTX) -> Subgraph:
    """The node, cut out of a model with symbolic dimensions as the pipeline does it."""
    loaded = load(model_of(case), folder, "case.onnx")
    extraction = extract(loaded, select(loaded, ["n"]), release, allow_symbolic=True, in_network=False)
    return extraction.subgraphs[0]


@pytest.mark.parametrize("name", CASES)
def test_one_plugin_answers_every_shape(name: str, tmp_path: Path) -> None:
    assert len(CASES[name].symbols) >= 2 or name == "TopK"
    answers_every_shape(CASES[name], tmp_path, RTX)


@pytest.mark.parametrize("name", ["Add", "Conv", "Resize_linear", "Slice_backwards"])
def test_one_plugin_of_tensorrt_8_answers_every_shape(name: str, tmp_path: Path) -> None:
    answers_every_shape(CASES[name], tmp_path, releases.release("8"))


@pytest.mark.parametrize("name", ["Add", "Softmax_last", "MatMul", "Transpose", "Conv_depthwise", "Slice"])
def test_ranges_give_32_bit_indices_that_hold_for_no_more(name: str, tmp_path: Path) -> None:
    plugin = answers_every_shape(CASES[name], tmp_path, RTX, ranged=True)
    kernels = [kernel.parameters for kernel in plugin.default.kernels]
    assert not any("int64" in parameters for parameters in kernels), kernels


def answers_every_shape(case: Case, tmp_path: Path, release: Release, ranged: bool = False) -> PluginPlan:
    """Compiles the plugin once and compares its outputs at all shapes with the reference's.

    `ranged` tells the plugin's maker the largest sizes.
    """
    subgraph = subgraph_of(case, tmp_path, release)
    tops = {s: max([sizes[s] for sizes in shape_sets(case)]) for s in case.symbols}
    if ranged:
        subgraph = replace(
            subgraph, ranges={own: Range(0, 4, tops[s]) for own, s in _own_symbols(subgraph, case).items()}
        )
    plugin, *_ = build_plugin_plan(subgraph, Check.OFF)
    plan = plugin.default
    assert (ex.ONE,) * 3 not in [launch.block for launch in launches(plan.steps)], "left to one thread"
    compiled = CpuPlugin.from_plan(plugin, release, tmp_path, harness.sanitizer)
    profiles = [_profile(shape, tops) for _, shape in case.inputs.values()]
    calls, expected = [], []
    for seed, sizes in enumerate(shape_sets(case)):
        feeds = _feeds(subgraph, case, sizes, seed)
        expected.append(_expected(subgraph, feeds))
        inputs = [
            encode(feeds[info.name], tensor)
            for info, tensor in zip(subgraph.model.graph.input, subgraph.inputs, strict=True)
        ]
        calls.append(Call(inputs, output_specs(plugin, inputs), profiles))
    results = compiled.library.run_many(
        plugin.name, calls, fingerprint=plugin.fingerprint, stable=not order_changes_bits(plan.source)
    )
    for call, result, wanted in zip(calls, results, expected, strict=True):
        for tensor, actual, theirs in zip(subgraph.outputs, result.outputs, wanted, strict=True):
            message = difference(decode(actual, tensor), theirs).message
            assert message is None, f"input shapes {[np.shape(a) for a in call.inputs]}: {message}"
    return plugin


def _profile(shape: Sequence[int | str], tops: Sizes) -> Profile:
    def at(sizes: Callable[[str], int]) -> tuple[int, ...]:
        return tuple(d if isinstance(d, int) else sizes(d) for d in shape)

    return Profile(at(lambda s: 0), at(lambda s: min(4, tops[s])), at(lambda s: tops[s]))


def _expected(subgraph: Subgraph, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """ONNX Runtime's outputs. For tensors without elements it has garbage, or dies, in places where ONNX's reference
    evaluator knows better: that is asked first then, though it cannot compute everything either.
    """
    if not all(value.size for value in feeds.values()):
        with contextlib.suppress(Exception):
            return [np.asarray(w) for w in ReferenceEvaluator(subgraph.model).run(None, dict(feeds))]
    return [np.asarray(w) for w in reference_outputs(subgraph.model, feeds)[0]]


def _own_symbols(subgraph: Subgraph, case: Case) -> dict[str, str]:
    """The subgraph's symbols and the case's."""
    shapes = [shape for _, shape in case.inputs.values()]
    return {
        a: str(b)
        for tensor, shape in zip(subgraph.inputs, shapes, strict=True)
        for a, b in zip(tensor.shape, shape, strict=True)
        if isinstance(a, str)
    }


def _feeds(subgraph: Subgraph, case: Case, sizes: Sizes, seed: int) -> dict[str, np.ndarray]:
    """Random inputs."""
    own = {symbol: sizes[s] for symbol, s in _own_symbols(subgraph, case).items()}
    return random_inputs(subgraph, seed, own)


def test_a_size_beyond_the_range_is_refused(tmp_path: Path) -> None:
    case = CASES["Transpose"]
    subgraph = subgraph_of(case, tmp_path)
    subgraph = replace(subgraph, ranges=dict.fromkeys(_own_symbols(subgraph, case), Range(1, 4, 8)))
    plugin, *_ = build_plugin_plan(subgraph, Check.OFF)
    assert [dimension.limit for dimension in plugin.default.dimensions] == [8, 8, 8]
    compiled = CpuPlugin.from_plan(plugin, RTX, tmp_path, harness.sanitizer)
    x = np.zeros((8, 8, 9), np.float32)
    with pytest.raises(PluginFailure, match=r"dimension 2 of input 0 is 9, .* up to 8: .* larger --maxShapes"):
        compiled.run([x])
    np.testing.assert_array_equal(compiled.run([x[:, :, :8]])[0], np.zeros((8, 8, 8), np.float32))


def test_a_range_too_large_for_32_bits_keeps_64(tmp_path: Path) -> None:
    subgraph = subgraph_of(CASES["Transpose"], tmp_path)
    symbols = _own_symbols(subgraph, CASES["Transpose"])
    for largest, kind in ((1200, "int32"), (1300, "int64")):  # 1290 ** 3 is about 2 ** 31
        ranged = replace(subgraph, ranges=dict.fromkeys(symbols, Range(1, 4, largest)))
        plan = build_plugin_plan(ranged, Check.OFF)[0].default
        assert {p for kernel in plan.kernels for p in kernel.parameters} == {"pointer", kind}
        assert [d.limit for d in plan.dimensions] == [largest if kind == "int32" else None] * 3
