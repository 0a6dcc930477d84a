"""One plugin, many shapes: operators with symbolic dimensions at 20 shape sets each, sizes 0 and 1 among them.

Each case goes from the ONNX node to the generated plugin, which is compiled once and answers all shapes through
TensorRT's interface, under one profile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from plugin_autogen import releases
from plugin_autogen.codegen import expr as ex
from plugin_autogen.codegen.plan import launches
from plugin_autogen.graph.extract import extract
from plugin_autogen.graph.selection import select
from plugin_autogen.graph.subgraph import Subgraph
from plugin_autogen.pipeline import Check, build_plugin_plan
from plugin_autogen.releases import Release
from plugin_autogen.schedule.atomics import order_changes_bits
from plugin_autogen.verify.compare import difference
from plugin_autogen.verify.cpu import decode, encode
from plugin_autogen.verify.inputs import random_inputs
from plugin_autogen.verify.reference import reference_outputs
from tests.cpu_cuda.runner import Call, CpuPlugin, Profile, output_specs
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


def answers_every_shape(case: Case, tmp_path: Path, release: Release) -> None:
    """Compiles the plugin once and compares its outputs at all shapes with the reference's."""
    subgraph = subgraph_of(case, tmp_path, release)
    plugin, _ = build_plugin_plan(subgraph, Check.OFF)
    plan = plugin.default
    assert (ex.ONE,) * 3 not in [launch.block for launch in launches(plan.steps)], "left to one thread"
    compiled = CpuPlugin.from_plan(plugin, release, tmp_path, harness.sanitizer)
    tops = {s: max([sizes[s] for sizes in shape_sets(case)]) for s in case.symbols}
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


def _feeds(subgraph: Subgraph, case: Case, sizes: Sizes, seed: int) -> dict[str, np.ndarray]:
    """Random inputs; the subgraph's symbols have names of their own."""
    own: Sizes = {}
    for tensor, (_, shape) in zip(subgraph.inputs, case.inputs.values(), strict=True):
        own.update((a, sizes[b]) for a, b in zip(tensor.shape, shape, strict=True) if isinstance(a, str))
    return random_inputs(subgraph, seed, own)
