from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from plugin_autogen.errors import ModelError
from plugin_autogen.graph.model import load_model
from tests.models import BOOL, FLOAT, INT64, load, model, node, quantized_pair


def one_line(error: pytest.ExceptionInfo[ModelError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_missing_empty_truncated_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist") as caught:
        load_model(tmp_path / "no\nsuch.onnx")
    one_line(caught)
    with pytest.raises(ModelError, match="is not a file"):
        load_model(tmp_path)
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ModelError, match="is empty"):
        load_model(tmp_path / "empty.onnx")
    (tmp_path / "text.onnx").write_text("this is no protobuf at all\n" * 50)
    with pytest.raises(ModelError, match="truncated or no ONNX file"):
        load_model(tmp_path / "text.onnx")
    whole = quantized_pair().SerializeToString()
    for part in (10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.onnx").write_bytes(whole[:part])
        with pytest.raises(ModelError, match=r"truncated|not valid") as caught:
            load_model(tmp_path / "cut.onnx")
        one_line(caught)
    with pytest.raises(ModelError):
        load_model("a\0b.onnx")


def test_invalid_graph_is_refused_in_one_line(tmp_path: Path) -> None:
    proto = model([node("Relu", "nowhere", "y", "r")], {"x": (FLOAT, [1])}, {"y": (FLOAT, [1])})
    with pytest.raises(ModelError, match="not valid ONNX") as caught:
        load(proto, tmp_path)
    one_line(caught)


def test_foreign_operator_in_the_default_domain_is_a_warning(tmp_path: Path) -> None:
    proto = model([node("EfficientNMS_TRT", "x", "y", "nms")], {"x": (FLOAT, [1])}, {"y": (FLOAT, [1])})
    loaded = load(proto, tmp_path)
    assert len(loaded.warnings) == 1 and "EfficientNMS_TRT" in loaded.warnings[0]


def test_inference_that_gives_up_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current = tmp_path / "current"
    current.mkdir()
    monkeypatch.chdir(current)
    proto = model(
        [node("NoSuchOperator", "x", "a", "n"), node("Relu", "a", "y", "r")], {"x": (FLOAT, [1])}, {"y": (FLOAT, None)}
    )
    assert load(proto, tmp_path).value("a").shape is None
    assert not list(current.iterdir())


def test_unnamed_nodes_get_names_and_named_ones_keep_theirs(tmp_path: Path) -> None:
    nodes = [
        node("Relu", "x", "a", "Abs_1"),
        node("Abs", "a", "b"),
        node("Abs", "b", "c", "x"),
        node("Neg", "c", "y", "x"),
    ]
    loaded = load(model(nodes, {"x": (FLOAT, [1])}, {"y": (FLOAT, [1])}), tmp_path)
    assert [n.name for n in loaded.proto.graph.node] == ["Abs_1", "Abs_1_2", "x", "x"]
    assert loaded.node_keys == ["Abs_1", "Abs_1_2", "x", "x_2"]


def test_shapes_that_constants_decide_are_found(tmp_path: Path) -> None:
    # Reshape's target goes through float arithmetic, which ONNX's own data propagation does not follow.
    nodes = [
        node("Shape", "x", "s"),
        node("Cast", "s", "sf", to=FLOAT),
        node("Mul", "sf factor", "tf"),
        node("Cast", "tf", "t", to=INT64),
        node("Reshape", "x t", "r", "reshape"),
        node("Relu", "r", "y"),
    ]
    constants = {"factor": np.array([2, 0.5], np.float32)}
    proto = model(nodes, {"x": (FLOAT, [4, 6])}, {"y": (FLOAT, None)}, constants)
    loaded = load(proto, tmp_path)
    assert loaded.value("r").shape == (8, 3) and loaded.value("y").shape == (8, 3)
    assert loaded.value("t").dtype == INT64 and loaded.value("t").shape == (2,)
    assert [n.op_type for n in loaded.proto.graph.node] == [n.op_type for n in nodes]
    assert numpy_helper.to_array(loaded.constants(["t"])["t"]).tolist() == [8, 3]


def test_constants_come_from_everywhere(tmp_path: Path) -> None:
    nodes = [
        node("Constant", "", "c", value=numpy_helper.from_array(np.array([1, 2], np.int64))),
        node("Constant", "", "f", value_floats=[1.0, 2.0]),
        node("Constant", "", "e", value_ints=[7]),
        node("Add", "c i", "sum"),
        node("Shape", "x", "shape"),
        node("Gather", "shape one", "width"),
        node("RandomNormal", "", "noise", shape=[2]),
        node("Add", "x f", "xf"),
        node("Size", "xf", "size"),
        node("Add", "xf noise", "y"),
    ]
    proto = model(
        nodes,
        {"x": (FLOAT, ["batch", 2])},
        {"y": (FLOAT, ["batch", 2])},
        {"i": np.array([10, 20]), "one": np.array(1)},
    )
    loaded = load(proto, tmp_path)
    found = loaded.constants(["c", "f", "e", "i", "sum", "width", "noise", "x", "xf", "size", "shape", "", "no such"])
    values = {name: numpy_helper.to_array(tensor).tolist() for name, tensor in found.items()}
    assert values == {"c": [1, 2], "f": [1.0, 2.0], "e": [7], "i": [10, 20], "sum": [11, 22], "width": 2}
    assert loaded.constants(["sum"])["sum"].name == "sum"


def test_old_models_list_initializers_as_inputs(tmp_path: Path) -> None:
    proto = model(
        [node("Reshape", "x s", "y", "r")], {"x": (FLOAT, [2, 3])}, {"y": (FLOAT, [6])}, {"s": np.array([6])}, 9, 3
    )
    loaded = load(proto, tmp_path)
    assert loaded.graph_inputs == ["x"]
    assert loaded.value("y").shape == (6,)
    assert list(loaded.constants(["s"])) == ["s"]


def external(folder: Path) -> Path:
    proto = model(
        [node("MatMul", "x w", "y", "mm"), node("Relu", "y", "z", "relu")],
        {"x": (FLOAT, [2, 64])},
        {"z": (FLOAT, [2, 64])},
        {"w": np.arange(64 * 64, dtype=np.float32).reshape(64, 64)},
    )
    onnx.save(proto, folder / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=16)
    return folder / "m.onnx"


def test_external_data_is_read_when_needed(tmp_path: Path) -> None:
    loaded = load_model(external(tmp_path))
    assert not loaded.initializers["w"].HasField("raw_data")
    assert numpy_helper.to_array(loaded.constants(["w"])["w"])[63, 63] == 64 * 64 - 1
    assert not loaded.initializers["w"].HasField("raw_data")


def test_broken_external_data(tmp_path: Path) -> None:
    path = external(tmp_path)
    loaded = load_model(path)
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match=r'"w".*cut short'):
        loaded.constants(["w"])
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r'"w".*cannot be read'):
        loaded.constants(["w"])
    with pytest.raises(ModelError, match=r"weights\.bin.*is missing"):
        load_model(path)


def test_a_part_of_a_shape_is_folded_as_that_part(tmp_path: Path) -> None:
    nodes = [
        node("Shape", "x", "height", start=2, end=3),
        node("Shape", "x", "last", start=-1),
        node("Shape", "x", "first", end=-3),
        node("Concat", "height last first", "sizes", axis=0),
        node("ConstantOfShape", "sizes", "y"),
    ]
    loaded = load(model(nodes, {"x": (FLOAT, [2, 3, 4, 6])}, {"y": (FLOAT, None)}, opset=19), tmp_path)
    assert loaded.value("y").shape == (4, 6, 2)
    found = {name: numpy_helper.to_array(t).tolist() for name, t in loaded.constants(["last", "sizes"]).items()}
    assert found == {"last": [6], "sizes": [4, 6, 2]}


def test_external_data_outside_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    path = external(tmp_path / "inner")
    (tmp_path / "weights.bin").write_bytes(bytes(64 * 64 * 4))
    proto = onnx.load(path, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../weights.bin"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError):
        load_model(path).constants(["w"])


def test_kinds_of_values(tmp_path: Path) -> None:
    nodes = [node("SequenceConstruct", "x x", "s", "seq"), node("SequenceAt", "s i", "y", "at")]
    loaded = load(model(nodes, {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}, {"i": np.array(0)}), tmp_path)
    assert loaded.value("s").kind == "sequence"


def test_branches_count_as_readers(tmp_path: Path) -> None:
    then = helper.make_graph(
        [node("Relu", "a", "t", "inner")], "then", [], [helper.make_tensor_value_info("t", FLOAT, [2])]
    )
    other = helper.make_graph(
        [node("Neg", "x", "e", "inner2")], "else", [], [helper.make_tensor_value_info("e", FLOAT, [2])]
    )
    nodes = [
        node("Abs", "x", "a", "abs"),
        helper.make_node("If", ["c"], ["y"], "if", then_branch=then, else_branch=other),
    ]
    loaded = load(model(nodes, {"x": (FLOAT, [2]), "c": (BOOL, [])}, {"y": (FLOAT, [2])}), tmp_path)
    assert loaded.readers == {"x": [0, 1], "c": [1], "a": [1]} and loaded.captured == {"a", "x"}


def test_stale_shapes_in_the_file_do_not_win(tmp_path: Path) -> None:
    proto = model([node("Relu", "x", "a"), node("Neg", "a", "y")], {"x": (FLOAT, [2, 3])}, {"y": (FLOAT, [1, 3])})
    proto.graph.value_info.append(helper.make_tensor_value_info("a", FLOAT, [1, 3]))
    loaded = load(proto, tmp_path)
    assert loaded.value("a").shape == (2, 3) and loaded.value("y").shape == (2, 3)
    (warning,) = loaded.warnings
    assert '"y" is float (2, 3), not float (1, 3), and 1 more' in warning


def test_what_the_file_states_of_foreign_operators_counts(tmp_path: Path) -> None:
    nodes = [
        node("Mystery", "x", "m", domain="theirs"),
        node("Relu", "m", "r"),
        node("Mystery", "r", "y", domain="theirs"),
    ]
    proto = model(nodes, {"x": (FLOAT, [2])}, {"y": (FLOAT, [5])}, domains={"theirs": 1})
    proto.graph.value_info.append(helper.make_tensor_value_info("m", FLOAT, [7]))
    loaded = load(proto, tmp_path)
    assert loaded.value("r").shape == (7,) and loaded.value("y").shape == (5,) and not loaded.warnings


def test_a_constant_read_for_its_shape_and_its_values(tmp_path: Path) -> None:
    nodes = [
        node("Concat", "k k", "t", axis=0),
        node("Shape", "t", "s"),
        node("Concat", "t s", "both", axis=0),
        node("Reshape", "x both", "y", "reshape"),
    ]
    loaded = load(model(nodes, {"x": (FLOAT, [4])}, {"y": (FLOAT, [1, 1, 2])}, {"k": np.array([1])}), tmp_path)
    assert numpy_helper.to_array(loaded.constants(["both"])["both"]).tolist() == [1, 1, 2]
