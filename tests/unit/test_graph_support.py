"""What each TensorRT release takes, by the tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from plugin_autogen import releases
from plugin_autogen.errors import SelectionError
from plugin_autogen.graph.support import _data, _version, by_table
from tests.models import BOOL, DOUBLE, FLOAT, INT8, INT32, INT64, load, model, node

BFLOAT16 = onnx.TensorProto.BFLOAT16
SHAPE = [1, 4, 8, 8]


def why(proto: onnx.ModelProto, release: str, folder: Path) -> dict[str, str]:
    return dict(by_table(load(proto, folder), releases.release(release)).refused)


def one(operator: str, inputs: dict[str, tuple[int, list[int]]], output: tuple[int, list[int]], **more: object):  # type: ignore[no-untyped-def]
    constants = more.pop("constants", {})
    opset = more.pop("opset", 17)
    names = " ".join([*inputs, *constants])  # type: ignore[misc]
    return model([node(operator, names, "y", "n", **more)], inputs, {"y": output}, constants, opset=opset)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("operator", "since"),
    [
        ("Relu", "8.2"),
        ("HardSwish", "8.4"),
        ("IsInf", "8.6"),
        ("Hardmax", "10.0"),
        ("HannWindow", "10.4"),
        ("Det", None),
    ],
)
def test_operators_come_with_releases(operator: str, since: str | None, tmp_path: Path) -> None:
    if operator == "HannWindow":
        proto = one(operator, {"x": (INT32, [])}, (FLOAT, [8]))
    else:
        shape = [] if operator == "Det" else [3, 3]
        proto = one(operator, {"x": (FLOAT, [3, 3])}, (BOOL if operator == "IsInf" else FLOAT, shape))
    for release in ("8.2", "8.4", "8.5", "8.6", "10.0", "10.4", "11.0", "rtx"):
        taken = since is not None and (release == "rtx" or _version(since) <= _version(release))
        reasons = why(proto, release, tmp_path)
        assert (not reasons) == taken, (release, reasons)
        if not taken:
            assert f"no {operator}" in reasons["n"] and ((f"before {since}" in reasons["n"]) == (since is not None))


@pytest.mark.parametrize(
    ("proto", "release", "reason"),
    [
        (one("ArgMax", {"x": (INT32, [4, 4])}, (INT64, [1, 4]), axis=0), "8.5", "not of int32"),
        (one("ArgMax", {"x": (INT32, [4, 4])}, (INT64, [1, 4]), axis=0), "10", None),
        (one("Neg", {"x": (INT64, [4])}, (INT64, [4])), "8.5", None),  # cast to int32
        (one("Neg", {"x": (DOUBLE, [4])}, (DOUBLE, [4])), "8", None),  # cast to float32
        (one("Abs", {"x": (BFLOAT16, [4])}, (BFLOAT16, [4])), "8.6", "not of bfloat16"),
        (one("Abs", {"x": (BFLOAT16, [4])}, (BFLOAT16, [4])), "10", None),
        (one("Abs", {"x": (onnx.TensorProto.UINT16, [4])}, (onnx.TensorProto.UINT16, [4])), "11", "not of uint16"),
        (one("Cast", {"x": (FLOAT, [4])}, (onnx.TensorProto.INT16, [4]), to=onnx.TensorProto.INT16), "10", "of int16"),
        (one("Where", {"c": (BOOL, [4]), "a": (FLOAT, [4]), "b": (FLOAT, [4])}, (FLOAT, [4])), "8.2", None),
        (one("GridSample", {"x": (FLOAT, [1, 2, 4, 4, 4]), "g": (FLOAT, [1, 3, 3, 3, 3])},
             (FLOAT, [1, 2, 3, 3, 3]), opset=20, mode="linear"), "10", "4 dimensions, not 5"),
        (one("GridSample", {"x": (FLOAT, SHAPE), "g": (FLOAT, [1, 3, 3, 2])}, (FLOAT, [1, 4, 3, 3])), "8.5", None),
        (one("Resize", {"x": (FLOAT, SHAPE)}, (FLOAT, SHAPE), mode="cubic",
             constants={"roi": np.float32([]), "scales": np.ones(4, np.float32)}), "10", "mode is nearest or linear"),
        (one("ScatterND", {"x": (FLOAT, [4]), "i": (INT64, [2, 1]), "u": (FLOAT, [2])}, (FLOAT, [4]),
             reduction="add"), "11", "reduction is none, not add"),
        (one("MaxPool", {"x": (FLOAT, SHAPE)}, (FLOAT, [1, 4, 4, 4]), kernel_shape=[3, 3], dilations=[2, 2]), "10",
         "dilations are 1"),
        (one("Einsum", {"x": (FLOAT, [4, 4])}, (FLOAT, [4]), equation="ii->i"), "10.5", "diagonals"),
        (one("Einsum", {"x": (FLOAT, [4, 4])}, (FLOAT, [4]), equation="ii->i"), "10.12", None),
        (one("QuantizeLinear", {"x": (FLOAT, [4])}, (INT8, [4]),
             constants={"scale": np.float32(1), "zero": np.int8(3)}), "10", "input 2 is zero"),
        (one("QuantizeLinear", {"x": (FLOAT, [4])}, (INT8, [4]),
             constants={"scale": np.float32(1), "zero": np.int8(0)}), "10", None),
        (one("CumSum", {"x": (FLOAT, [4]), "axis": (INT64, [])}, (FLOAT, [4])), "10.7", "constant input 1"),
        (one("CumSum", {"x": (FLOAT, [4]), "axis": (INT64, [])}, (FLOAT, [4])), "10.8", None),
    ],
)  # fmt: skip
def test_types_and_limits(proto: onnx.ModelProto, release: str, reason: str | None, tmp_path: Path) -> None:
    reasons = why(proto, release, tmp_path)
    if reason is None:
        assert not reasons
    else:
        assert reason in reasons["n"]


def test_outputs_that_nobody_uses_do_not_count(tmp_path: Path) -> None:
    pool = node("MaxPool", "x", "y i", "n", kernel_shape=[2, 2], strides=[2, 2])
    inputs, outputs = {"x": (FLOAT, SHAPE)}, {"y": (FLOAT, [1, 4, 4, 4])}
    assert not why(model([pool], inputs, outputs), "10", tmp_path)
    assert "1 output" in why(model([pool], inputs, {**outputs, "i": (INT64, [1, 4, 4, 4])}), "10", tmp_path)["n"]


def test_what_shapes_and_constants_decide_counts_by_its_operator_alone(tmp_path: Path) -> None:
    nodes = [
        node("Shape", "x", "s", "shape"),
        node("ReduceProd", "s", "p", "size", keepdims=1),  # of int32 in no table before 10.0
        node("Reshape", "x p", "y", "flat"),
    ]
    assert not why(model(nodes, {"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["m"])}), "8.5", tmp_path)


def test_inner_nodes_functions_and_foreign_domains(tmp_path: Path) -> None:
    def branch(operator: str) -> onnx.GraphProto:
        output = helper.make_tensor_value_info(f"o_{operator}", FLOAT, [4])
        return helper.make_graph([node(operator, "x", f"o_{operator}", operator)], operator, [], [output])

    function = helper.make_function(
        "mine",
        "Both",
        ["a"],
        ["b"],
        [node("Celu", "a", "c"), node("Bernoulli", "c", "b")],
        [helper.make_opsetid("", 17)],
    )
    plain = helper.make_function("mine", "Plain", ["a"], ["b"], [node("Celu", "a", "b")], [helper.make_opsetid("", 17)])
    nodes = [
        node("If", "c", "t0", "takes", then_branch=branch("Sin"), else_branch=branch("Cos")),
        node("If", "c", "t1", "refuses", then_branch=branch("Tan"), else_branch=branch("Bernoulli")),
        node("Both", "x", "t2", "both", domain="mine"),
        node("Plain", "x", "t3", "plain", domain="mine"),
        node("Theirs", "x", "t4", "theirs", domain="theirs"),
        node("CoordConvAC", "x", "t5", "plugin", domain="theirs"),
    ]
    proto = model(
        nodes,
        {"x": (FLOAT, [4]), "c": (BOOL, [])},
        {f"t{i}": (FLOAT, [4]) for i in range(6)},
        domains={"mine": 1, "theirs": 1},
        functions=[function, plain],
    )
    reasons = why(proto, "10", tmp_path)
    assert reasons == {
        "refuses": "inside If: its parser has no Bernoulli",
        "both": "in the function Both: its parser has no Bernoulli",
        "theirs": "its parser has no theirs::Theirs",
    }
    assert "local functions" in why(proto, "8.6", tmp_path)["plain"]


def test_releases_and_their_minor_versions() -> None:
    assert releases.release("8.5").interface is releases.Interface.V2
    assert releases.release("10.13").key == "10" and releases.release("10.13").version == (10, 13)
    for wrong in ("8.1", "9.0", "7", "10.x", "", "10.1.2", "../8"):
        with pytest.raises(SelectionError, match="unknown TensorRT release"):
            releases.release(wrong)


def test_the_data_file_holds_together() -> None:
    data = _data()
    listed = {v for entry in (*data["operators"].values(), *data["limits"].values()) for v in entry}
    assert listed <= data["sources"].keys()
    assert all(list(e) == sorted(e, key=_version) for e in (*data["operators"].values(), *data["limits"].values()))
    assert data["limits"].keys() <= data["operators"].keys()
    assert set(data["rtx"]["without"]) <= data["operators"].keys()
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    # what ONNX dropped long ago and the parser still takes
    assert data["operators"].keys() - known <= {"ImageScaler", "ParametricSoftplus", "ScaledTanh"}
