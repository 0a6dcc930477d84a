"""If, Loop and Scan: branches selected, loops unrolled."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest

from plugin_autogen import dtypes
from plugin_autogen.errors import UnsupportedError
from plugin_autogen.graph.subgraph import BorderTensor, Subgraph
from plugin_autogen.verify.reference import reference_outputs
from tests.operators.harness import Lowered, lower_and_compare

FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def _info(name: str, dtype: int, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, dtype, shape)


def _check(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, np.ndarray],
    outputs: dict[str, tuple[int, tuple[int, ...]]],
    constants: dict[str, np.ndarray] | None = None,
) -> Lowered:
    def border(name: str, dtype: int, shape: tuple[int, ...]) -> BorderTensor:
        kind = dtypes.from_onnx(dtype)
        return BorderTensor(name, kind, shape, kind)

    given = {n: (onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in inputs.items()}
    graph = onnx.helper.make_graph(
        nodes,
        "control",
        [_info(n, *t) for n, t in given.items()],
        [_info(n, *t) for n, t in outputs.items()],
        [onnx.numpy_helper.from_array(v, n) for n, v in (constants or {}).items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    borders = [tuple(border(n, *t) for n, t in side.items()) for side in (given, outputs)]
    subgraph = Subgraph("tpat_control", model, borders[0], borders[1], ("node",), ("If",))
    return lower_and_compare(subgraph, inputs, [np.asarray(v) for v in reference_outputs(model, inputs)[0]])


def _branch(operator: str, shape: tuple[int, ...] = (2, 3)) -> onnx.GraphProto:
    node = onnx.helper.make_node(operator, ["x"], ["inner"])
    return onnx.helper.make_graph([node], operator, [], [_info("inner", FLOAT, shape)])


def _if() -> onnx.NodeProto:
    return onnx.helper.make_node("If", ["c"], ["y"], then_branch=_branch("Neg"), else_branch=_branch("Exp"))


@pytest.mark.parametrize("condition", [True, False])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_if_at_run_time(condition: bool, shape: tuple[int, ...]) -> None:
    _check([_if()], {"c": np.full(shape, condition), "x": X}, {"y": (FLOAT, (2, 3))})


def test_if_with_a_known_condition_keeps_one_branch() -> None:
    lowered = _check([_if()], {"x": X}, {"y": (FLOAT, (2, 3))}, {"c": np.array(False)})
    assert lowered.kernels == 1
    assert "exp" in lowered.plan.source


def test_branches_of_different_shapes_are_refused() -> None:
    node = _if()
    sum_ = onnx.helper.make_graph(
        [onnx.helper.make_node("Transpose", ["x"], ["inner"])], "else", [], [_info("inner", FLOAT, (3, 2))]
    )
    next(a for a in node.attribute if a.name == "else_branch").g.CopyFrom(sum_)
    with pytest.raises(UnsupportedError, match="the branches give 'y' the shapes"):
        _check([node], {"c": np.array(True), "x": X}, {"y": (FLOAT, (2, 3))})


def _loop_body(stop: bool) -> onnx.GraphProto:
    nodes = [
        onnx.helper.make_node("Cast", ["step"], ["as_float"], to=FLOAT),
        onnx.helper.make_node("Add", ["state", "as_float"], ["sum"]),
        onnx.helper.make_node("Mul", ["sum", "x"], ["next"]),  # x comes from outside
        onnx.helper.make_node("ReduceMax", ["next"], ["largest"], keepdims=0),
        onnx.helper.make_node("Less", ["largest", "limit"], ["go_on"]),
        onnx.helper.make_node("Identity", ["condition"], ["same"]),
    ]
    return onnx.helper.make_graph(
        nodes,
        "body",
        [_info("step", INT64, ()), _info("condition", BOOL, ()), _info("state", FLOAT, (2, 3))],
        [_info("go_on" if stop else "same", BOOL, ()), _info("next", FLOAT, (2, 3))]
        + ([] if stop else [_info("largest", FLOAT, ())]),
    )


def test_loop_is_unrolled() -> None:
    node = onnx.helper.make_node("Loop", ["m", "", "x"], ["last", "all"], body=_loop_body(stop=False))
    outputs = {"last": (FLOAT, (2, 3)), "all": (FLOAT, (4,))}
    _check([node], {"x": X, "limit": np.array(50, np.float32)}, outputs, {"m": np.array(4)})


@pytest.mark.parametrize("limit", [0, 30, 1e9])
def test_loop_that_the_data_ends(limit: float) -> None:
    node = onnx.helper.make_node("Loop", ["m", "c", "x"], ["last"], body=_loop_body(stop=True))
    constants = {"m": np.array(4), "c": np.array(True)}
    _check([node], {"x": X, "limit": np.array(limit, np.float32)}, {"last": (FLOAT, (2, 3))}, constants)


def test_trip_count_at_run_time_is_refused() -> None:
    node = onnx.helper.make_node("Loop", ["m", "", "x"], ["last"], body=_loop_body(stop=True))
    inputs = {"x": X, "limit": np.array(1, np.float32), "m": np.array(2)}
    with pytest.raises(UnsupportedError, match="trip count must be constant"):
        _check([node], inputs, {"last": (FLOAT, (2, 3))})


@pytest.mark.parametrize(("direction", "output_direction"), [(0, 0), (1, 0), (0, 1)])
def test_scan(direction: int, output_direction: int) -> None:
    body = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Add", ["state", "part"], ["sum"]),
            onnx.helper.make_node("Mul", ["sum", "part"], ["out"]),
        ],
        "body",
        [_info("state", FLOAT, (2,)), _info("part", FLOAT, (2,))],
        [_info("sum", FLOAT, (2,)), _info("out", FLOAT, (2,))],
    )
    node = onnx.helper.make_node(
        "Scan",
        ["s", "x"],
        ["last", "all"],
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_output_axes=[1],
        scan_input_directions=[direction],
        scan_output_directions=[output_direction],
    )
    _check([node], {"s": np.zeros(2, np.float32), "x": X}, {"last": (FLOAT, (2,)), "all": (FLOAT, (2, 3))})
