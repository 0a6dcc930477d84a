"""Operators with symbolic dimensions, and shapes for them: sizes 0 and 1 among random ones."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from tests.models import BOOL, FLOAT, INT8, INT32, INT64, UINT8, model, node

Sizes = dict[str, int]
Draw = Callable[[Sizes, np.random.Generator], Sizes]
Spec = tuple[int, Sequence[int | str]]

SHAPE_SETS = 20
LARGEST = 20


@dataclass(frozen=True)
class Case:
    """A node with symbolic dimensions.

    Attributes:
        inputs: type and shape of each input that is no constant, by name; the symbols in them are drawn.
        constants: the other inputs.
        names: of all inputs in the node's order; by default inputs, then constants.
        outputs: type and shape; None as a dimension where inference finds it.
        attributes: of the node.
        never_zero: symbols that ONNX, or its references, want to be at least 1.
        fit: makes drawn sizes fit each other.
        largest: of a dimension.
        opset: of the model.
    """

    operator: str
    inputs: Mapping[str, Spec]
    outputs: Mapping[str, Spec] = field(default_factory=lambda: {"y": (FLOAT, ())})
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    names: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    never_zero: str = ""
    fit: Draw = lambda sizes, rng: sizes
    largest: int = LARGEST
    opset: int = 21

    @property
    def symbols(self) -> list[str]:
        return list(dict.fromkeys(d for _, shape in self.inputs.values() for d in shape if isinstance(d, str)))


def _weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _integers(*shape: int, dtype: type = np.int8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


def _at_least(**least: int) -> Draw:
    return lambda sizes, rng: {s: max(size, least.get(s, 0)) for s, size in sizes.items()}


def _broadcast(sizes: Sizes, rng: np.random.Generator) -> Sizes:
    """`p` meets `m` and `q` meets `n`: each is its partner's size or 1, or the partner is 1."""
    for one, other in (("p", "m"), ("q", "n")):
        if one in sizes:
            choice = int(rng.integers(3))
            if choice == 0:
                sizes[one] = 1
            elif choice == 1:
                sizes[one] = sizes[other]
            else:
                sizes[other] = 1
    return sizes


def _nothing_from_nothing(count: str, *sources: str) -> Draw:
    """No indices into an axis without elements."""

    def fit(sizes: Sizes, rng: np.random.Generator) -> Sizes:
        return {**sizes, count: 0} if any(sizes[s] == 0 for s in sources) else sizes

    return fit


def _no_more_than(**bounds: str) -> Draw:
    """Updates that fit into the data."""
    return lambda sizes, rng: {s: min(size, sizes[bounds[s]]) if s in bounds else size for s, size in sizes.items()}


X = {"x": (FLOAT, ("n", "m"))}
X3 = {"x": (FLOAT, ("n", "m", "k"))}
IMAGE = {"x": (FLOAT, ("n", 4, "h", "w"))}
Y2, Y3 = {"y": (FLOAT, (None, None))}, {"y": (FLOAT, (None, None, None))}
Y4 = {"y": (FLOAT, (None, None, None, None))}
WINDOW = _at_least(h=2, w=2)

CASES: dict[str, Case] = {
    "Add": Case("Add", {"x": (FLOAT, ("n", "m", "k")), "b": (FLOAT, ("p", "k"))}, Y3, fit=_broadcast),
    "Mul_unknown_broadcast": Case(
        "Mul", {"x": (FLOAT, ("n", "m")), "b": (FLOAT, ("q", "p"))}, Y2, fit=_broadcast
    ),
    "Where": Case(
        "Where",
        {"c": (BOOL, ("n", "m")), "a": (FLOAT, ("p",)), "b": (FLOAT, ("q", "m"))},
        Y2,
        fit=_broadcast,
    ),
    "IsInf": Case("IsInf", X, {"y": (BOOL, (None, None))}),
    "BitShift": Case(
        "BitShift",
        {"x": (UINT8, ("n", "m")), "b": (UINT8, ("q", "m"))},
        {"y": (UINT8, (None, None))},
        attributes={"direction": "LEFT"},
        fit=_broadcast,
    ),
    "Softmax": Case("Softmax", X3, Y3, attributes={"axis": 1}),
    "Softmax_last": Case("Softmax", X, Y2, attributes={"axis": -1}),
    "LayerNormalization": Case(
        "LayerNormalization",
        {"x": (FLOAT, ("n", "k", "m")), "scale": (FLOAT, ("m",)), "bias": (FLOAT, ("m",))},
        Y3,
        never_zero="m",
    ),
    "LayerNormalization_constant": Case(
        "LayerNormalization", {"x": (FLOAT, ("n", "k", 48))}, Y3, {"scale": _weights(48), "bias": _weights(48)}
    ),
    "InstanceNormalization": Case(
        "InstanceNormalization", IMAGE, Y4, {"scale": _weights(4), "bias": _weights(4)}, never_zero="hw"
    ),
    "ReduceMax": Case("ReduceMax", X3, Y3, {"axes": np.array([1])}, never_zero="m"),
    "ReduceMean": Case("ReduceMean", X3, Y2, {"axes": np.array([-1])}, attributes={"keepdims": 0}, never_zero="k"),
    "ReduceSum": Case("ReduceSum", X3, {"y": (FLOAT, (None,))}, {"axes": np.array([0, 2])}, attributes={"keepdims": 0}),
    "ArgMax": Case("ArgMax", X, {"y": (INT64, (None, None))}, attributes={"axis": 1}, never_zero="m"),
    "CumSum": Case("CumSum", X, Y2, {"axis": np.array(1)}),
    "TopK": Case(
        "TopK", {"x": (FLOAT, ("n", 50))}, {"y": (FLOAT, (None, 3)), "i": (INT64, (None, 3))}, {"k": np.array([3])}
    ),
    "TopK_symbolic_axis": Case(
        "TopK",
        X,
        {"y": (FLOAT, (None, 3)), "i": (INT64, (None, 3))},
        {"k": np.array([3])},
        fit=lambda sizes, rng: {"n": sizes["n"] % 4, "m": max(sizes["m"], 3)},
        largest=1500,
    ),
    "TopK_first_axis": Case(
        "TopK",
        X,
        {"y": (FLOAT, (5, None)), "i": (INT64, (5, None))},
        {"k": np.array([5])},
        attributes={"axis": 0, "largest": 0},
        fit=_at_least(n=5),
    ),
    "MatMul_weight": Case("MatMul", {"x": (FLOAT, ("n", "m", 24))}, Y3, {"w": _weights(24, 20)}),
    "MatMul": Case("MatMul", {"x": (FLOAT, ("b", "n", "k")), "z": (FLOAT, ("b", "k", "m"))}, Y3),
    "MatMulInteger": Case(
        "MatMulInteger",
        {"x": (UINT8, ("n", "k")), "z": (INT8, ("k", "m"))},
        {"y": (INT32, (None, None))},
        {"xz": np.array(7, np.uint8)},
    ),
    "Einsum": Case(
        "Einsum",
        {"x": (FLOAT, ("b", "n", "k")), "z": (FLOAT, ("b", "m", "k"))},
        Y3,
        attributes={"equation": "bij,bkj->bik"},
    ),
    "Conv": Case(
        "Conv", IMAGE, Y4, {"w": _weights(6, 4, 3, 3), "b": _weights(6)},
        attributes={"pads": [1, 1, 1, 1], "strides": [2, 1]}, never_zero="hw", largest=12,
    ),
    "Conv_depthwise": Case(
        "Conv", IMAGE, Y4, {"w": _weights(4, 1, 3, 3)}, attributes={"pads": [1, 1, 1, 1], "group": 4},
        never_zero="hw", largest=12,
    ),
    "ConvInteger": Case(
        "ConvInteger", {"x": (UINT8, ("n", 4, "h", "w"))}, {"y": (INT32, (None,) * 4)},
        {"w": _integers(6, 4, 3, 3), "xz": np.array(3, np.uint8)},
        attributes={"pads": [1, 1, 1, 1]}, never_zero="hw", largest=12,
    ),
    "MaxPool": Case(
        "MaxPool", IMAGE, Y4, attributes={"kernel_shape": [2, 2], "strides": [2, 2]}, fit=WINDOW, largest=12
    ),
    "AveragePool": Case(
        "AveragePool", IMAGE, Y4, attributes={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, fit=WINDOW, largest=12
    ),
    "GlobalAveragePool": Case("GlobalAveragePool", IMAGE, Y4, never_zero="hw", largest=12),
    "Resize_linear": Case(
        "Resize", IMAGE, Y4, {"scales": np.array([1, 1, 2, 2.5], np.float32)}, names="x - scales",
        attributes={"mode": "linear"}, never_zero="hw", largest=12,
    ),
    "Resize_nearest": Case(
        "Resize", IMAGE, Y4, {"scales": np.array([1, 1, 2, 0.5], np.float32)}, names="x - scales",
        attributes={"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        fit=WINDOW, largest=12,
    ),
    "Resize_cubic": Case(
        "Resize", IMAGE, Y4, {"scales": np.array([1, 1, 3, 2], np.float32)}, names="x - scales",
        attributes={"mode": "cubic", "coordinate_transformation_mode": "align_corners"}, never_zero="hw", largest=10,
    ),
    "GridSample": Case(
        "GridSample", {"x": (FLOAT, ("n", 3, "h", "w")), "g": (FLOAT, ("n", "p", "q", 2))}, Y4, never_zero="hw",
        largest=10,
    ),
    "OneHot": Case(
        "OneHot", {"i": (INT64, ("n", "m")), "v": (FLOAT, (2,))}, Y3, {"d": np.array(6)}, names="i d v"
    ),
    "Gather": Case(
        "Gather", {"x": (FLOAT, ("n", "m")), "i": (INT64, ("k", "l"))}, Y3, attributes={"axis": 1},
        fit=_nothing_from_nothing("k", "m"),
    ),
    "GatherElements": Case(
        "GatherElements", {"x": (FLOAT, ("n", "m")), "i": (INT64, ("n", "k"))}, Y2, attributes={"axis": 1},
        fit=_nothing_from_nothing("k", "m"),
    ),
    "GatherND": Case(
        "GatherND", {"x": (FLOAT, ("n", "m", "l")), "i": (INT64, ("k", 2))}, Y2,
        fit=_nothing_from_nothing("k", "n", "m"),
    ),
    "GatherND_batch": Case(
        "GatherND", {"x": (FLOAT, ("b", "m", "l")), "i": (INT64, ("b", "k", 1))}, Y3, attributes={"batch_dims": 1},
        fit=_nothing_from_nothing("k", "m"),
    ),
    "ScatterND": Case(
        "ScatterND", {"x": (FLOAT, ("n", "m")), "i": (INT64, ("k", 1)), "u": (FLOAT, ("k", "m"))}, Y2,
        fit=_no_more_than(k="n"),
    ),
    "ScatterND_add": Case(
        "ScatterND", {"x": (FLOAT, ("n", "m")), "i": (INT64, ("k", 2)), "u": (FLOAT, ("k",))}, Y2,
        attributes={"reduction": "add"}, fit=_nothing_from_nothing("k", "n", "m"),
    ),
    "ScatterElements": Case(
        "ScatterElements", {"x": (FLOAT, ("n", "m")), "i": (INT64, ("n", "k")), "u": (FLOAT, ("n", "k"))}, Y2,
        attributes={"axis": 1}, fit=_no_more_than(k="m"),
    ),
    "Transpose": Case("Transpose", X3, Y3, attributes={"perm": [2, 0, 1]}),
    "Concat": Case("Concat", {"x": (FLOAT, ("n", "m")), "z": (FLOAT, ("k", "m"))}, Y2, attributes={"axis": 0}),
    "Slice": Case(
        "Slice", X, Y2,
        {"s": np.array([-5, 1]), "e": np.array([2**40, -1]), "a": np.array([0, 1]), "st": np.array([2, 1])},
    ),
    "Slice_backwards": Case(
        "Slice", X, Y2, {"s": np.array([-1]), "e": np.array([-(2**40)]), "a": np.array([1]), "st": np.array([-1])}
    ),
    "Pad": Case("Pad", X, Y2, {"p": np.array([1, 0, 2, 3])}),
    "Pad_reflect": Case(
        "Pad", X, Y2, {"p": np.array([1, 2, 2, 0])}, attributes={"mode": "reflect"}, fit=_at_least(n=3, m=3)
    ),
    "Expand": Case("Expand", {"x": (FLOAT, ("n", 1, "m"))}, Y4, {"s": np.array([3, 1, 5, 1])}),
    "Tile": Case("Tile", X, Y2, {"r": np.array([2, 3])}),
    "Trilu": Case("Trilu", X3, Y3, {"k": np.array(1)}, attributes={"upper": 0}),
    "Reshape": Case("Reshape", {"x": (FLOAT, ("n", "m", 4))}, Y2, {"s": np.array([0, -1])}, never_zero="n"),
    "Flatten": Case("Flatten", X3, Y2, attributes={"axis": 2}),
    "Split": Case(
        "Split", {"x": (FLOAT, ("n", 9, "m"))}, {"y": (FLOAT, (None,) * 3), "z": (FLOAT, (None,) * 3)},
        {"s": np.array([4, 5])}, attributes={"axis": 1},
    ),
    "DynamicQuantizeLinear": Case(
        "DynamicQuantizeLinear", X, {"y": (UINT8, (None, None)), "s": (FLOAT, ()), "z": (UINT8, ())}, never_zero="nm"
    ),
    "QuantizeLinear": Case(
        "QuantizeLinear", X, {"y": (INT8, (None, None))}, {"s": np.array(0.1, np.float32), "z": np.array(3, np.int8)}
    ),
    "Attention": Case(
        "Attention",
        {"q": (FLOAT, ("b", 2, "s", 8)), "k": (FLOAT, ("b", 2, "t", 8)), "v": (FLOAT, ("b", 2, "t", 8))},
        Y4, never_zero="t", opset=23, largest=20,
    ),
}  # fmt: skip


def model_of(case: Case) -> onnx.ModelProto:
    """The model with the one node, which is called n."""
    names = case.names or " ".join([*case.inputs, *case.constants])
    nodes = [node(case.operator, names, " ".join(case.outputs), "n", **case.attributes)]
    return model(nodes, case.inputs, case.outputs, case.constants, case.opset, ir_version=10)


def shape_sets(case: Case, count: int = SHAPE_SETS) -> list[Sizes]:
    """Sizes of the case's symbols: all 1, each one 0 and each one 1 in turn, then at random."""
    rng = np.random.default_rng(zlib.crc32(case.operator.encode()))
    forced: list[Sizes] = [dict.fromkeys(case.symbols, 1)]
    forced += [{s: 0} for s in case.symbols if s not in case.never_zero]
    forced += [{s: 1} for s in case.symbols]
    drawn = []
    for i in range(count):
        sizes = {s: int(rng.integers(1, case.largest + 1)) for s in case.symbols}
        drawn.append(case.fit({**sizes, **(forced[i] if i < len(forced) else {})}, rng))
    return drawn
