"""Outputs whose size the data decide: one plugin, many sizes, and nodes behind them in the same plugin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from plugin_autogen import releases
from plugin_autogen.codegen.plan import PluginPlan
from plugin_autogen.graph.extract import extract
from plugin_autogen.graph.selection import PluginRequest
from plugin_autogen.pipeline import Check, build_plugin_plan
from plugin_autogen.schedule.atomics import order_changes_bits
from plugin_autogen.verify.compare import difference
from plugin_autogen.verify.reference import reference_outputs
from tests.cpu_cuda.runner import Call, CpuPlugin, Profile, output_specs
from tests.models import BOOL, FLOAT, INT64, load, model, node
from tests.operators import harness

RTX = releases.release("rtx")
RNG = np.random.default_rng(0)
Array = np.ndarray


def answers(
    proto: onnx.ModelProto, feeds: Sequence[Mapping[str, Array]], folder: Path, release: releases.Release = RTX
) -> PluginPlan:
    """All nodes of the model as one plugin, compiled once, gives the reference's outputs for all the inputs."""
    loaded = load(proto, folder)
    request = PluginRequest("tpat_group", tuple(loaded.node_keys))
    (subgraph,) = extract(loaded, [request], release, allow_symbolic=True, in_network=False).subgraphs
    plugin, checked = build_plugin_plan(subgraph, Check.CPU, interface=release.interface)
    assert checked is not None
    compiled = CpuPlugin.from_plan(plugin, release, folder, harness.sanitizer)
    calls, expected = [], []
    for given in feeds:
        inputs = [given[tensor.name] for tensor in subgraph.inputs]
        profiles = [Profile((0,) * x.ndim, x.shape, tuple(2 * d for d in x.shape)) for x in inputs]
        fixed = all(isinstance(d, int) for t in subgraph.inputs for d in t.shape)
        calls.append(Call(inputs, output_specs(plugin, inputs), None if fixed else profiles))
        wanted = reference_outputs(proto, dict(given))[0]
        by_name = dict(zip((o.name for o in proto.graph.output), wanted, strict=True))
        expected.append([by_name[tensor.name] for tensor in subgraph.outputs])
    stable = not order_changes_bits(plugin.default.source)
    results = compiled.library.run_many(plugin.name, calls, fingerprint=plugin.fingerprint, stable=stable)
    for call, result, wanted in zip(calls, results, expected, strict=True):
        for i, theirs in enumerate(wanted):
            message = difference(result.outputs[i], theirs).message
            assert message is None, f"output {i}, input shapes {[x.shape for x in call.inputs]}: {message}"
    return plugin


def sparse(*shape: int, share: float = 0.4) -> Array:
    return (RNG.standard_normal(shape) * (RNG.random(shape) < share)).astype(np.float32)


def test_non_zero(tmp_path: Path) -> None:
    proto = model([node("NonZero", "x", "y")], {"x": (FLOAT, ["a", "b"])}, {"y": (INT64, [2, None])})
    shapes = [(3, 5), (1, 1), (40, 50), (0, 7), (7, 0)]
    feeds = [{"x": sparse(*shape)} for shape in shapes] + [{"x": np.zeros((4, 4), np.float32)}]
    plugin = answers(proto, feeds, tmp_path)
    (size,) = plugin.default.sizes
    assert size.output == 1 and len(plugin.default.outputs) == 2
