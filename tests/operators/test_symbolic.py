"""Movement, indexing, scatter, scan and products with symbolic dimensions: one lowering, several shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest

from plugin_autogen import dtypes
from plugin_autogen.codegen.plan_builder import build_plan
from plugin_autogen.graph.subgraph import BorderTensor, Subgraph
from plugin_autogen.lowering.importer import import_subgraph
from plugin_autogen.lowering.legalize import legalize, to_calls
from plugin_autogen.schedule.default import schedule_module
from plugin_autogen.schedule.target import cuda_target
from plugin_autogen.verify.compare import difference
from plugin_autogen.verify.cpu import run_on_cpu
from plugin_autogen.verify.reference import reference_outputs

RNG = np.random.default_rng(0)
Shape = tuple[int | str, ...]
Typed = tuple[str, Shape]
FLOAT, INT = "float32", "int64"

# operator → attributes, inputs (type and shape, or a constant), type and shape of the output
CASES: dict[str, tuple[str, dict[str, Any], list[Typed | np.ndarray], Typed]] = {
    "gather": ("Gather", {"axis": 1}, [(FLOAT, ("n", "m")), (INT, ("k",))], (FLOAT, ("n", "k"))),
    "gather_nd": ("GatherND", {}, [(FLOAT, ("n", "m")), (INT, ("k", 2))], (FLOAT, ("k",))),
    "slice": (
        "Slice",
        {},
        [(FLOAT, ("n", "m")), np.array([-3]), np.array([2**62]), np.array([1]), np.array([1])],
        (FLOAT, ("n", "q")),
    ),
    "slice_backwards": (
        "Slice",
        {},
        [(FLOAT, ("n", "m")), np.array([-1]), np.array([-(2**62)]), np.array([0]), np.array([-2])],
        (FLOAT, ("q", "m")),
    ),
    "pad": ("Pad", {"mode": "edge"}, [(FLOAT, ("n", "m")), np.array([1, 0, 2, 1])], (FLOAT, ("q", "r"))),
    "reshape": ("Reshape", {}, [(FLOAT, ("n", "m", 4)), np.array([0, -1])], (FLOAT, ("n", "q"))),
    "concat": ("Concat", {"axis": 0}, [(FLOAT, ("n", "m")), (FLOAT, ("k", "m"))], (FLOAT, ("q", "m"))),
    "scatter_nd": (
        "ScatterND",
        {"reduction": "add"},
        [(FLOAT, ("n", "m")), (INT, ("k", 1)), (FLOAT, ("k", "m"))],
        (FLOAT, ("n", "m")),
    ),
    "cumsum": ("CumSum", {}, [(FLOAT, ("n", "m")), np.array(1)], (FLOAT, ("n", "m"))),
    "argmax": ("ArgMax", {"axis": 1}, [(FLOAT, ("n", "m"))], (INT, ("n", 1))),
    "matmul": ("MatMul", {}, [(FLOAT, ("n", "m")), (FLOAT, ("m", "k"))], (FLOAT, ("n", "k"))),
    "einsum": (
        "Einsum",
        {"equation": "bij,bjk->bik"},
        [(FLOAT, ("b", "n", "m")), (FLOAT, ("b", "m", "k"))],
        (FLOAT, ("b", "n", "k")),
    ),
    "one_hot": ("OneHot", {}, [(INT, ("n", "m")), np.array([6]), (FLOAT, (2,))], (FLOAT, ("n", "m", 6))),
    "topk": ("TopK", {}, [(FLOAT, ("n", 50)), np.array([3])], (FLOAT, ("n", 3))),
}


@pytest.mark.parametrize("name", CASES)
def test_symbolic(name: str) -> None:
    operator, attributes, inputs, output = CASES[name]
    subgraph = _subgraph(operator, attributes, inputs, output)
    module = import_subgraph(subgraph)
    for sizes in ({"b": 2, "n": 5, "m": 7, "k": 3}, {"b": 1, "n": 9, "m": 40, "k": 1}, dict.fromkeys("bnmk", 1)):
        feeds = {
            info.name: _values(t, sizes) for info, t in zip(subgraph.model.graph.input, subgraph.inputs, strict=True)
        }
        expected, _ = reference_outputs(subgraph.model, feeds)
        for mine, theirs in zip(run_on_cpu(subgraph, module, feeds), expected, strict=True):
            assert difference(mine, np.asarray(theirs)).message is None
    target = cuda_target()
    calls = to_calls(legalize(module, target), target)
    functions = schedule_module(calls, target)
    build_plan(subgraph, calls, functions, module, target)
    assert "serial" not in {f.rule for f in functions.values()}


def _values(tensor: BorderTensor, sizes: dict[str, int]) -> np.ndarray:
    shape = tuple(d if isinstance(d, int) else sizes[d] for d in tensor.shape)
    if tensor.dtype is dtypes.INT64:
        return RNG.integers(-1, 1, shape)
    return RNG.standard_normal(shape).astype(np.float32)


def _subgraph(operator: str, attributes: dict[str, Any], inputs: list[Typed | np.ndarray], output: Typed) -> Subgraph:
    def info(name: str, typed: Typed) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, dtypes.from_name(typed[0]).onnx, typed[1])

    def border(name: str, typed: Typed) -> BorderTensor:
        dtype = dtypes.from_name(typed[0])
        return BorderTensor(name, dtype, typed[1], dtype)

    given = {f"x{i}": t for i, t in enumerate(inputs) if not isinstance(t, np.ndarray)}
    constants = {f"x{i}": v for i, v in enumerate(inputs) if isinstance(v, np.ndarray)}
    results = {"y": output} | ({"z": (INT, output[1])} if operator == "TopK" else {})
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, [f"x{i}" for i in range(len(inputs))], list(results), **attributes)],
        "symbolic",
        [info(n, t) for n, t in given.items()],
        [info(n, t) for n, t in results.items()],
        [onnx.numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    borders = [tuple(border(n, t) for n, t in side.items()) for side in (given, results)]
    return Subgraph("tpat_symbolic", model, borders[0], borders[1], ("node",), (operator,))
