import os
import stat
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from plugin_autogen.errors import OutputError
from plugin_autogen.graph import rewrite as rewriting
from plugin_autogen.graph.extract import Extraction, extract
from plugin_autogen.graph.model import Model, load_model
from plugin_autogen.graph.rewrite import rewrite, save_model
from plugin_autogen.graph.selection import select
from plugin_autogen.releases import release
from tests.models import (
    BOOL,
    DOUBLE,
    FLOAT,
    INT32,
    INT64,
    UINT8,
    UINT16,
    load,
    model,
    node,
    plugins_as_functions,
    quantized_pair,
)

V2, V3 = release("8"), release("10")


def rewritten(
    loaded: Model,
    names: list[str] | None = None,
    types: list[str] | None = None,
    target: object = V3,
) -> tuple[onnx.ModelProto, Extraction]:
    extraction = extract(loaded, select(loaded, names, types), target)  # type: ignore[arg-type]
    proto = rewrite(loaded, extraction, {s.name: f"{i:016x}" for i, s in enumerate(extraction.subgraphs)})
    onnx.checker.check_model(proto, full_check=True)
    return proto, extraction


def run(proto: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def assert_same_results(loaded: Model, proto: onnx.ModelProto, extraction: Extraction, **inputs: np.ndarray) -> None:
    expected = run(loaded.proto, inputs)
    found = run(plugins_as_functions(proto, extraction), inputs)
    for e, f in zip(expected, found, strict=True):
        assert e.dtype == f.dtype
        np.testing.assert_allclose(f, e, rtol=1e-6)


def ops(proto: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in proto.graph.node]


def test_a_plugin_takes_the_place_of_its_node(tmp_path: Path) -> None:
    nodes = [
        node("Constant", "", "depth", "depth_constant", value=numpy_helper.from_array(np.array(4))),
        node("Abs", "i", "j", "before"),
        node("OneHot", "j depth values", "hot", "hot"),
        node("Mul", "hot factor", "y", "after"),
    ]
    constants = {"values": np.array([0, 1], np.float32), "factor": np.float32(3), "idle": np.float32(1)}
    loaded = load(model(nodes, {"i": (INT64, [2])}, {"y": (FLOAT, [2, 4])}, constants), tmp_path)
    before = loaded.proto.SerializeToString()
    proto, extraction = rewritten(loaded, ["hot"])
    assert loaded.proto.SerializeToString() == before
    assert [(n.name, n.op_type, n.domain) for n in proto.graph.node] == [
        ("before", "Abs", ""),
        ("hot", "tpat_hot", "plugin_autogen"),
        ("after", "Mul", ""),
    ]
    plugin = proto.graph.node[1]
    assert (list(plugin.input), list(plugin.output)) == (["j"], ["hot"])
    assert {a.name: helper.get_attribute_value(a) for a in plugin.attribute} == {
        "plugin_version": b"1",
        "plugin_namespace": b"",
        "fingerprint": b"0" * 16,
    }
    assert [t.name for t in proto.graph.initializer] == ["factor"]
    assert [v.name for v in proto.graph.input] == ["i"] and [v.name for v in proto.graph.output] == ["y"]
    (hot,) = [v for v in proto.graph.value_info if v.name == "hot"]
    assert [d.dim_value for d in hot.type.tensor_type.shape.dim] == [2, 4]
    assert_same_results(loaded, proto, extraction, i=np.array([-1, 3]))


def test_bits_travel_between_plugins_without_casts(tmp_path: Path) -> None:
    loaded = load(quantized_pair(), tmp_path)
    for target in (V2, V3):
        proto, extraction = rewritten(loaded, ["quantize", "conv"], target=target)
        assert ops(proto) == ["tpat_quantize", "tpat_conv", "Cast", "Mul"]
        quantize, conv = proto.graph.node[:2]
        assert list(quantize.output) == ["q_bits_as_int8", "scale", "zero_bits_as_int8"]
        assert list(conv.input) == ["q_bits_as_int8", "zero_bits_as_int8"]
        types = {v.name: v.type.tensor_type.elem_type for v in proto.graph.value_info}
        assert types["q_bits_as_int8"] == TensorProto.INT8 and "q" not in types
        x = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
        assert_same_results(loaded, proto, extraction, x=x)


def test_a_cast_of_a_widened_output_reads_the_plugin(tmp_path: Path) -> None:
    nodes = [
        node("DynamicQuantizeLinear", "x", "q scale zero", "quantize"),
        node("Cast", "q", "f", "to_float", to=FLOAT),
        node("Cast", "zero", "z", "to_int", to=INT32),
    ]
    loaded = load(model(nodes, {"x": (FLOAT, [4])}, {"f": (FLOAT, [4]), "z": (INT32, [])}), tmp_path)
    proto, extraction = rewritten(loaded, ["quantize"])
    assert ops(proto) == ["tpat_quantize", "Cast", "Cast"]
    assert [list(n.input) for n in proto.graph.node[1:]] == [["q_as_int32"], ["zero_as_int32"]]
    assert list(proto.graph.node[0].output) == ["q_as_int32", "zero_as_int32"]
    assert_same_results(loaded, proto, extraction, x=np.array([-1, 0, 0.5, 3], np.float32))


def test_the_borders_of_the_graph_keep_their_types(tmp_path: Path) -> None:
    nodes = [node("Transpose", "x", "t", "t1", perm=[1, 0]), node("Transpose", "t", "y", "t2", perm=[1, 0])]
    loaded = load(model(nodes, {"x": (UINT8, [2, 3])}, {"t": (UINT8, [3, 2]), "y": (UINT8, [2, 3])}), tmp_path)
    proto, extraction = rewritten(loaded, None, ["Transpose"])
    assert ops(proto) == ["Cast", "tpat_t1", "Cast", "tpat_t2", "Cast"]
    assert list(proto.graph.node[3].input) == ["t_as_int32"]
    assert [v.type.tensor_type.elem_type for v in (*proto.graph.input, *proto.graph.output)] == [UINT8] * 3
    assert_same_results(loaded, proto, extraction, x=np.arange(250, 256, dtype=np.uint8).reshape(2, 3))


def test_one_cast_serves_all_plugins(tmp_path: Path) -> None:
    nodes = [node("Not", "b", "n", "not"), node("And", "b n", "y", "and"), node("Or", "b n", "z", "or")]
    loaded = load(model(nodes, {"b": (BOOL, [3])}, {"y": (BOOL, [3]), "z": (BOOL, [3])}), tmp_path)
    proto, extraction = rewritten(loaded, ["and", "or"], target=V2)
    assert ops(proto) == ["Not", "Cast", "Cast", "tpat_and", "Cast", "tpat_or", "Cast"]
    assert_same_results(loaded, proto, extraction, b=np.array([True, False, True]))
    same, _ = rewritten(loaded, ["and", "or"], target=V3)
    assert ops(same) == ["Not", "tpat_and", "tpat_or"]


def test_casts_to_types_that_tensorrt_lacks_are_bypassed(tmp_path: Path) -> None:
    nodes = [
        node("Cast", "x", "u", "to_uint16", to=UINT16),
        node("Mod", "u s", "v", "mod"),
        node("Cast", "v", "y", "back", to=FLOAT),
    ]
    proto = model(nodes, {"x": (INT32, [3])}, {"y": (FLOAT, [3])}, {"s": np.array([1000, 7, 300], np.uint16)})
    loaded = load(proto, tmp_path)
    proto, extraction = rewritten(loaded, ["mod"])
    types = [helper.get_attribute_value(n.attribute[0]) for n in proto.graph.node if n.op_type == "Cast"]
    assert ops(proto) == ["Cast", "tpat_mod", "Cast"] and types == [INT32, FLOAT]
    assert_same_results(loaded, proto, extraction, x=np.array([70_000, 65_535, -8], np.int32))


def test_double_travels_as_float(tmp_path: Path) -> None:
    nodes = [node("Sin", "x", "a", "sin"), node("Add", "a a", "y", "add")]
    loaded = load(model(nodes, {"x": (DOUBLE, [2])}, {"y": (DOUBLE, [2])}), tmp_path)
    proto, extraction = rewritten(loaded, ["sin"])
    assert ops(proto) == ["Cast", "tpat_sin", "Cast", "Add"]
    assert len(extraction.warnings) == 2
    assert_same_results(loaded, proto, extraction, x=np.array([0.5, 2.0]))


def test_omitted_inputs_are_left_out_and_unused_outputs_too(tmp_path: Path) -> None:
    nodes = [
        node("Clip", "x - high", "c", "clip"),
        node("TopK", "c k", "values indices", "top"),
        node("Cast", "indices", "y", "cast", to=FLOAT),
    ]
    loaded = load(
        model(nodes, {"x": (FLOAT, [4]), "high": (FLOAT, [])}, {"y": (FLOAT, [2])}, {"k": np.array([2])}), tmp_path
    )
    proto, extraction = rewritten(loaded, ["clip", "top"])
    assert [(list(n.input), list(n.output)) for n in proto.graph.node[:2]] == [
        (["x", "high"], ["c"]),
        (["c"], ["indices"]),
    ]
    x = np.array([1, 5, 2, 4], np.float32)
    assert_same_results(loaded, proto, extraction, x=x, high=np.array(3, np.float32))


def test_only_what_the_plugin_took_in_goes(tmp_path: Path) -> None:
    nodes = [
        node("Shape", "x", "s", "shape"),
        node("Mul", "s two", "target", "double"),
        node("Gather", "s zero", "first", "first"),
        node("Abs", "x", "idle", "idle"),
        node("Expand", "z target", "e", "expand"),
        node("Cast", "first", "f", "cast", to=FLOAT),
        node("Add", "e f", "y", "add"),
    ]
    constants = {"two": np.array([2, 1]), "zero": np.array(0)}
    loaded = load(
        model(nodes, {"x": (FLOAT, [2, 3]), "z": (FLOAT, [1, 3])}, {"y": (FLOAT, [4, 3])}, constants), tmp_path
    )
    proto, extraction = rewritten(loaded, ["expand"])
    assert [n.name for n in proto.graph.node] == ["shape", "first", "idle", "expand", "cast", "add"]
    assert [t.name for t in proto.graph.initializer] == ["zero"]
    x, z = np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)
    assert_same_results(loaded, proto, extraction, x=x, z=z)


def test_what_branches_read_stays(tmp_path: Path) -> None:
    then = helper.make_graph([node("Add", "q k", "t")], "then", [], [helper.make_tensor_value_info("t", BOOL, [2])])
    then.node[0].op_type = "Or"
    other = helper.make_graph([node("And", "q k", "u")], "else", [], [helper.make_tensor_value_info("u", BOOL, [2])])
    nodes = [
        node("Not", "x", "q", "not"),
        helper.make_node("If", ["c"], ["y"], "if", then_branch=then, else_branch=other),
        node("Xor", "x k", "z", "xor"),
    ]
    proto = model(
        nodes, {"x": (BOOL, [2]), "c": (BOOL, [])}, {"y": (BOOL, [2]), "z": (BOOL, [2])}, {"k": np.array([True, False])}
    )
    loaded = load(proto, tmp_path)
    proto, extraction = rewritten(loaded, ["not", "xor"], target=V2)
    assert ops(proto) == ["Cast", "tpat_not", "Cast", "If", "tpat_xor", "Cast"]
    assert [t.name for t in proto.graph.initializer] == ["k"]
    x = np.array([True, True])
    for c in (True, False):
        assert_same_results(loaded, proto, extraction, x=x, c=np.array(c))


def test_shared_plugins_and_old_ir(tmp_path: Path) -> None:
    nodes = [node("Reshape", "x s", "a", "r1"), node("Reshape", "u s", "y", "r2"), node("Abs", "a", "z", "abs")]
    inputs = {"x": (FLOAT, [2, 3]), "u": (FLOAT, [2, 3])}
    loaded = load(model(nodes, inputs, {"y": (FLOAT, [6]), "z": (FLOAT, [6])}, {"s": np.array([6])}, 9, 3), tmp_path)
    proto, _ = rewritten(loaded, None, ["Reshape"])
    assert ops(proto) == ["tpat_r1", "tpat_r1", "Abs"]
    assert [v.name for v in proto.graph.input] == ["x", "u"] and not proto.graph.initializer


def test_new_names_keep_clear_of_old_ones(tmp_path: Path) -> None:
    nodes = [
        node("Neg", "b_as_int32", "n", "cast_b_as_int32_2"),
        node("Not", "b", "y", "not"),
    ]
    proto = model(nodes, {"b": (BOOL, [2]), "b_as_int32": (INT32, [2])}, {"y": (BOOL, [2]), "n": (INT32, [2])})
    loaded = load(proto, tmp_path)
    proto, extraction = rewritten(loaded, ["not"], target=V2)
    assert "b_as_int32_2" in proto.graph.node[1].output
    assert len({n.name for n in proto.graph.node}) == len(proto.graph.node)
    assert_same_results(loaded, proto, extraction, b=np.array([True, False]), b_as_int32=np.array([1, 2], np.int32))


def test_hostile_names_go_through(tmp_path: Path) -> None:
    hostile = ['"\n../../x', "n" * 10_000, "卷积;$(rm)"]
    nodes = [
        helper.make_node("Not", ["x"], [hostile[0]], hostile[0]),
        helper.make_node("And", [hostile[0], "x"], [hostile[1]], hostile[1]),
        helper.make_node("Or", [hostile[1], "x"], ["y"], hostile[2]),
    ]
    loaded = load(model(nodes, {"x": (BOOL, [2])}, {"y": (BOOL, [2])}), tmp_path)
    proto, extraction = rewritten(loaded, hostile, target=V2)
    first, long, last = (n.name for n in proto.graph.node if n.op_type != "Cast")
    assert (first, last) == (hostile[0], hostile[2])
    assert long.startswith("nnn")  # TensorRT takes no name beyond 4096 characters
    assert all(len(n.name) < 4096 for n in proto.graph.node)
    save_model(proto, tmp_path / "out.onnx")
    assert_same_results(loaded, load_model(tmp_path / "out.onnx").proto, extraction, x=np.array([True, False]))


# --- writing ----------------------------------------------------------------------------------------------------------


def test_the_file_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "new folder" / "out.onnx"
    save_model(quantized_pair(), target)
    assert onnx.load(target) == quantized_pair()
    assert stat.S_IMODE(target.stat().st_mode) & 0o444 == stat.S_IMODE((tmp_path / "new folder").stat().st_mode) & 0o444
    assert [p.name for p in target.parent.iterdir()] == ["out.onnx"]

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    before = target.read_bytes()
    with pytest.raises(OutputError, match="No space left"):
        save_model(onnx.ModelProto(), target)
    assert target.read_bytes() == before and [p.name for p in target.parent.iterdir()] == ["out.onnx"]


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="choose a folder that is writable"):
        save_model(quantized_pair(), tmp_path / "file" / "out.onnx")
    with pytest.raises(OutputError, match="is a folder"):
        save_model(quantized_pair(), tmp_path)
    with pytest.raises(OutputError):
        save_model(quantized_pair(), tmp_path / ("n" * 300))
    with pytest.raises(OutputError):
        save_model(quantized_pair(), tmp_path / "a\0b")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def external(folder: Path) -> Model:
    rng = np.random.default_rng(0)
    proto = model(
        [node("MatMul", "x w", "a", "mm"), node("MatMul", "a v", "y", "mm2")],
        {"x": (FLOAT, [2, 64])},
        {"y": (FLOAT, [2, 64])},
        {"w": rng.normal(size=(64, 64)).astype(np.float32), "v": rng.normal(size=(64, 64)).astype(np.float32)},
    )
    onnx.save(proto, folder / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=16)
    return load_model(folder / "m.onnx")


def test_external_data_moves_along(tmp_path: Path) -> None:
    loaded = external(tmp_path)
    proto, extraction = rewritten_without_check(loaded, ["mm"])
    save_model(proto, tmp_path / "elsewhere" / "out.onnx", loaded.base_dir)
    assert {p.name for p in (tmp_path / "elsewhere").iterdir()} == {"out.onnx", "out.onnx.data"}
    onnx.checker.check_model(str(tmp_path / "elsewhere" / "out.onnx"))
    assert (tmp_path / "elsewhere" / "out.onnx").stat().st_size < 4096
    assert proto.graph.initializer[0].external_data[0].value == "weights.bin"
    found = run(
        plugins_as_functions(onnx.load(tmp_path / "elsewhere" / "out.onnx"), extraction),
        {"x": np.ones((2, 64), np.float32)},
    )
    whole = onnx.load(tmp_path / "m.onnx")
    np.testing.assert_allclose(found[0], run(whole, {"x": np.ones((2, 64), np.float32)})[0], rtol=1e-5)


def rewritten_without_check(loaded: Model, names: list[str]) -> tuple[onnx.ModelProto, Extraction]:
    extraction = extract(loaded, select(loaded, names), V3)
    return rewrite(loaded, extraction, {s.name: "0" * 16 for s in extraction.subgraphs}), extraction


def test_a_model_may_be_overwritten_with_its_own_external_data(tmp_path: Path) -> None:
    loaded = external(tmp_path)
    save_model(loaded.proto, tmp_path / "out.onnx", loaded.base_dir)
    again = load_model(tmp_path / "out.onnx")
    save_model(again.proto, tmp_path / "out.onnx", again.base_dir)
    for ours, original in zip(
        onnx.load(tmp_path / "out.onnx").graph.initializer,
        onnx.load(tmp_path / "m.onnx").graph.initializer,
        strict=True,
    ):
        np.testing.assert_array_equal(numpy_helper.to_array(ours), numpy_helper.to_array(original))


def test_large_models_go_to_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewriting, "PROTOBUF_LIMIT", 10_000)
    proto = model(
        [node("Add", "x w", "y", "add")],
        {"x": (FLOAT, [8192])},
        {"y": (FLOAT, [8192])},
        {"w": np.arange(8192, dtype=np.float32)},
    )
    save_model(proto, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx.data").stat().st_size == 4 * 8192
    assert onnx.load(tmp_path / "out.onnx").graph.initializer[0].raw_data == proto.graph.initializer[0].raw_data


def test_a_bypassed_cast_of_a_plugins_output_reads_its_carrier(tmp_path: Path) -> None:
    nodes = [
        node("DynamicQuantizeLinear", "x", "q scale zero", "quantize"),
        node("Cast", "q", "u", "to_uint16", to=UINT16),
        node("Mod", "u s", "v", "mod"),
        node("Cast", "v", "y", "back", to=FLOAT),
    ]
    proto = model(nodes, {"x": (FLOAT, [3])}, {"y": (FLOAT, [3])}, {"s": np.array([100, 7, 30], np.uint16)})
    loaded = load(proto, tmp_path)
    proto, extraction = rewritten(loaded, ["quantize", "mod"])
    assert ops(proto) == ["tpat_quantize", "Cast", "tpat_mod", "Cast"]
    assert list(proto.graph.node[1].input) == ["q_as_int32"]
    assert_same_results(loaded, proto, extraction, x=np.array([-1, 0.5, 3], np.float32))
