"""Plugins of two precisions: the float32 and the float16 kernels of one plugin, through TensorRT's interface.

One library answers both kinds of borders; each answer is compared with the reference at its own tolerance.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from plugin_autogen import dtypes, releases
from plugin_autogen.codegen.plan import KernelPlan, PluginPlan, launches
from plugin_autogen.dtypes import ElementType
from plugin_autogen.graph.subgraph import Subgraph
from plugin_autogen.pipeline import Check, build_plugin_plan
from plugin_autogen.releases import Release
from plugin_autogen.verify.compare import difference
from plugin_autogen.verify.reference import reference_outputs
from tests.cpu_cuda.runner import CpuPlugin, PluginFailure
from tests.models import FLOAT, INT64, model, node
from tests.operators import harness

Array = np.ndarray
RTX = releases.release("rtx")
TENSOR_CORES = "wmma::mma_sync"


@dataclass(frozen=True)
class Case:
    """Nodes from `inputs` to `outputs` (name → element type and shape), as one plugin."""

    nodes: Sequence[onnx.NodeProto]
    inputs: Mapping[str, Array]
    outputs: Mapping[str, tuple[int, Sequence[int]]]
    constants: Mapping[str, Array]

    def subgraph(self) -> Subgraph:
        infos = {name: (helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for name, a in self.inputs.items()}
        proto = model(self.nodes, infos, self.outputs, self.constants, opset=21, ir_version=10)
        borders = [
            tuple(harness.border(name, dtypes.from_onnx(dtype), shape) for name, (dtype, shape) in group.items())
            for group in (infos, self.outputs)
        ]
        names = tuple(n.op_type for n in self.nodes)
        return Subgraph("tpat_case", proto, borders[0], borders[1], names, names)


def _random(*shape: int, scale: float = 1.0) -> Array:
    return (scale * np.random.default_rng(sum(shape)).standard_normal(shape)).astype(np.float32)


def _attention() -> Case:
    """Two products of matrices with everything between them inside: its operands are float16, its sums float32."""
    nodes = [
        node("MatMul", "x wq", "q"),
        node("Transpose", "k", "kt", perm=[1, 0]),
        node("MatMul", "q kt", "scores"),
        node("Softmax", "scores", "p"),
        node("MatMul", "p v", "o"),
        node("Add", "o x", "y"),
    ]
    inputs = {"x": _random(40, 32), "k": _random(36, 32, scale=0.2), "v": _random(36, 32)}
    return Case(nodes, inputs, {"y": (FLOAT, (40, 32))}, {"wq": _random(32, 32, scale=0.2)})


def _mixed_types() -> Case:
    """Indices come out, a double is computed inside: neither of them changes its type."""
    nodes = [
        node("TopK", "x k", "v i", axis=-1),
        node("Cast", "v", "d", to=onnx.TensorProto.DOUBLE),
        node("Exp", "d", "e"),
        node("Cast", "e", "y", to=FLOAT),
    ]
    return Case(
        nodes,
        {"x": np.random.default_rng(0).permutation(48).reshape(4, 12).astype(np.float32) / 8},
        {"y": (FLOAT, (4, 3)), "i": (INT64, (4, 3))},
        {"k": np.array([3])},
    )


CASES = {
    "elementwise": lambda: Case(
        [node("Mul", "x s", "m"), node("Tanh", "m", "t"), node("Add", "t b", "y")],
        {"x": _random(5, 7), "b": _random(7)},
        {"y": (FLOAT, (5, 7))},
        {"s": np.float32([0.1])},
    ),
    "reduction": lambda: Case(
        [node("ReduceSumSquare", "x axes", "y", keepdims=0)],
        {
            "x": _random(6, 40, scale=20)
        },  # the squares' sum is within float16, at 16,000 with rounded partial sums less so
        {"y": (FLOAT, (6,))},
        {"axes": np.array([1])},
    ),
    "normalization": lambda: Case(
        [node("LayerNormalization", "x s b", "y")],
        {"x": 300 * _random(6, 64)},  # squares beyond float16
        {"y": (FLOAT, (6, 64))},
        {"s": _random(64), "b": _random(64)},
    ),
    "movement": lambda: Case(
        [node("Transpose", "x", "t", perm=[1, 0]), node("Concat", "t z", "y", axis=0)],
        {"x": _random(4, 6), "z": _random(3, 4)},
        {"y": (FLOAT, (9, 4))},
        {},
    ),
    "convolution": lambda: Case(
        [node("Conv", "x w b", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "y")],
        {"x": _random(1, 16, 8, 8)},
        {"y": (FLOAT, (1, 32, 8, 8))},
        {"w": _random(32, 16, 3, 3, scale=0.1), "b": _random(32)},
    ),
    "attention": _attention,
    "mixed_types": _mixed_types,
}


@functools.cache
def lowered(name: str, precision: ElementType = dtypes.FLOAT16) -> tuple[Subgraph, PluginPlan]:
    """The plugin of both precisions; the pipeline's own check of both numbers has passed."""
    subgraph = CASES[name]().subgraph()
    plan, checks = build_plugin_plan(subgraph, Check.CPU, precision=precision)
    assert len(checks) == 2
    return subgraph, plan


@pytest.mark.parametrize("name", CASES)
def test_one_plugin_answers_both_types(name: str, tmp_path: Path) -> None:
    subgraph, plan = lowered(name)
    wide, narrow = plan.variants
    assert len(launches(narrow.steps)) <= len(launches(wide.steps)), "conversions are no kernels of their own"
    _answers(name, subgraph, plan, RTX, tmp_path)


@pytest.mark.parametrize("name", ["elementwise"])
def test_one_plugin_of_tensorrt_8_answers_both_types(name: str, tmp_path: Path) -> None:
    _answers(name, *lowered(name), releases.release("8"), tmp_path)


def test_bfloat16_on_v3(tmp_path: Path) -> None:
    _answers("normalization", *lowered("normalization", dtypes.BFLOAT16), RTX, tmp_path)


def _answers(name: str, subgraph: Subgraph, plan: PluginPlan, release: Release, folder: Path) -> None:
    compiled = CpuPlugin.from_plan(plan, release, folder, harness.sanitizer)
    given = CASES[name]().inputs
    for variant in plan.variants:
        inputs = [a.astype(t.dtype.numpy) for a, t in zip(given.values(), variant.inputs, strict=True)]
        feeds = {key: a.astype(given[key].dtype) for key, a in zip(given, inputs, strict=True)}
        expected, _ = reference_outputs(subgraph.model, feeds)
        for actual, wanted, tensor in zip(compiled.run(inputs), expected, variant.outputs, strict=True):
            assert actual.dtype == tensor.dtype.numpy
            message = difference(actual, wanted.astype(tensor.dtype.numpy)).message
            assert message is None, f"{tensor.dtype}: {message}"


def _types(plan: KernelPlan) -> list[str]:
    return [t.dtype.name for t in (*plan.inputs, *plan.outputs)]


def test_the_borders_change_together_and_other_types_stay() -> None:
    _, plan = lowered("mixed_types")
    assert [_types(v) for v in plan.variants] == [["float32", "float32", "int64"], ["float16", "float16", "int64"]]


def test_other_combinations_of_types_are_refused(tmp_path: Path) -> None:
    _, plan = lowered("movement")
    compiled = CpuPlugin.from_plan(plan, RTX, tmp_path, harness.sanitizer)
    x, z = CASES["movement"]().inputs.values()
    with pytest.raises(PluginFailure, match="refuses"):
        compiled.run([x.astype(np.float16), z])


@pytest.mark.parametrize(("name", "products"), [("attention", 3), ("convolution", 1)])
def test_products_are_for_tensor_cores_where_float16_allows_it(name: str, products: int) -> None:
    wide, narrow = lowered(name)[1].variants
    assert TENSOR_CORES not in wide.source
    assert narrow.source.count(TENSOR_CORES) >= products


def test_weights_are_converted_once_and_other_constants_shared() -> None:
    wide, narrow = lowered("convolution")[1].variants
    assert sorted((c.dtype.name, c.shape) for c in wide.constants) == [("float32", (32,)), ("float32", (32, 16, 3, 3))]
    assert sorted((c.dtype.name, c.shape) for c in narrow.constants) == [
        ("float16", (32, 16, 3, 3)),
        ("float32", (32,)),
    ]
    (weight,) = (c for c in narrow.constants if c.dtype is dtypes.FLOAT16)
    given = CASES["convolution"]().constants["w"]
    np.testing.assert_array_equal(
        np.frombuffer(weight.data, np.float16).reshape(weight.shape), given.astype(np.float16)
    )


def test_weights_beyond_float16_stay_float32() -> None:
    case = CASES["convolution"]()
    weights = {**case.constants, "w": case.constants["w"] * np.float32(1e6)}
    plan, _ = build_plugin_plan(
        Case(case.nodes, case.inputs, case.outputs, weights).subgraph(), Check.OFF, precision=dtypes.FLOAT16
    )
    assert {c.dtype for c in plan.variants[1].constants} == {dtypes.FLOAT32}


def test_operands_beyond_float16_stay_float32() -> None:
    """The product of matrices is small, its operands are not."""
    nodes = [node("Mul", "x big", "l"), node("MatMul", "l w", "m"), node("Mul", "m small", "y")]
    constants = {"w": _random(32, 32), "big": np.float32([1e5]), "small": np.float32([1e-5])}
    case = Case(nodes, {"x": _random(32, 32)}, {"y": (FLOAT, (32, 32))}, constants)
    plan, checks = build_plugin_plan(case.subgraph(), Check.CPU, precision=dtypes.FLOAT16)
    assert [c.wide_operands for c in checks] == [False, True]
    assert TENSOR_CORES not in plan.variants[1].source


def test_a_plugin_without_float32_has_one_variant() -> None:
    case = Case([node("Abs", "x", "y")], {"x": np.arange(4)}, {"y": (INT64, (4,))}, {})
    plan, checks = build_plugin_plan(case.subgraph(), Check.CPU, precision=dtypes.FLOAT16)
    assert len(plan.variants) == len(checks) == 1
