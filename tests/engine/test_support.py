"""What TensorRT-RTX's own parser refuses, node by node, and whether its table says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.compose
import pytest

from plugin_autogen import releases
from plugin_autogen.graph.support import by_table, find_support
from tests.acceptance_cases import CASES
from tests.models import FLOAT, UINT8, load, model, node

RTX = releases.release("rtx")


@pytest.fixture(scope="module")
def cases() -> onnx.ModelProto:
    """All acceptance cases side by side in one model."""
    merged = None
    for name, make in CASES.items():
        case = onnx.compose.add_prefix(make(), f"{name}_")
        merged = case if merged is None else onnx.compose.merge_models(merged, case, io_map=[])
    assert merged is not None
    return merged


def test_parser_and_table_agree(cases: onnx.ModelProto, tmp_path: Path) -> None:
    loaded = load(cases, tmp_path)
    asked, table = find_support(loaded, RTX), by_table(loaded, RTX)
    assert asked.judge.startswith("TensorRT-RTX") and table.judge.startswith("the operator table")
    assert set(table.refused) == {"DynamicQuantizeLinear_n", "MatMulInteger_n", "ConvInteger_n", "BitShift_n"}
    # a uint8 tensor inside the network, made by a Cast; beside a plugin for BitShift the Cast goes
    assert set(asked.refused) == {*table.refused, "BitShift_widen"}


def test_reasons_behind_the_first_ones_are_found_too(tmp_path: Path) -> None:
    proto = model(
        [
            node("Det", "x", "d", "first"),
            node("Reshape", "x two", "wrong", "behind"),  # six values: the parser tells once it makes the network
            node("DynamicQuantizeLinear", "x", "q s z", "second"),
            node("Transpose", "q", "qt", "reads_uint8", perm=[1, 0]),
            node("Relu", "d", "y", "fine"),
        ],
        {"x": (FLOAT, [3, 3])},
        {"y": (FLOAT, []), "wrong": (FLOAT, None), "qt": (UINT8, [3, 3])},
        {"two": np.array([2, 2], np.int64)},
    )
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    refused = find_support(load(proto, tmp_path), RTX).refused
    assert {"first", "second", "reads_uint8"} <= set(refused) and "fine" not in refused


def test_nodes_inside_a_branch_count_for_the_if(tmp_path: Path) -> None:
    def branch(operator: str) -> onnx.GraphProto:
        output = onnx.helper.make_tensor_value_info(f"o_{operator}", FLOAT, [4])
        return onnx.helper.make_graph([node(operator, "x", f"o_{operator}", operator)], operator, [], [output])

    proto = model(
        [
            node("Abs", "x", "t", "before"),
            node("Det", "m", "d", "det"),
            node("If", "c", "y", "branches", then_branch=branch("Bernoulli"), else_branch=branch("Cos")),
        ],
        {"x": (FLOAT, [4]), "m": (FLOAT, [3, 3]), "c": (onnx.TensorProto.BOOL, [])},
        {"y": (FLOAT, [4]), "t": (FLOAT, [4]), "d": (FLOAT, [])},
    )
    assert set(find_support(load(proto, tmp_path), RTX).refused) == {"det", "branches"}


def test_another_release_goes_by_its_table(tmp_path: Path) -> None:
    proto = model([node("HardSwish", "x", "y", "n")], {"x": (FLOAT, [4])}, {"y": (FLOAT, [4])})
    loaded = load(proto, tmp_path)
    assert find_support(loaded, releases.release("8.2")).judge == "the operator table of TensorRT 8.2"
    assert find_support(loaded, releases.release("8.2")).refused and not find_support(loaded, RTX).refused
