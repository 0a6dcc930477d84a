from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from plugin_autogen import dtypes
from plugin_autogen.errors import ModelError, SelectionError, UnsupportedError
from plugin_autogen.graph.extract import extract
from plugin_autogen.graph.model import Model
from plugin_autogen.graph.selection import PluginRequest, select
from plugin_autogen.graph.subgraph import Encoding, Subgraph
from plugin_autogen.releases import release
from tests.models import BOOL, DOUBLE, FLOAT, INT8, INT32, INT64, UINT8, UINT16, load, model, node, quantized_pair

V2, V3 = release("8"), release("10")


def only(loaded: Model, *names: str) -> Subgraph:
    (subgraph,) = extract(loaded, select(loaded, list(names)), V3).subgraphs
    onnx.checker.check_model(subgraph.model, full_check=True)
    return subgraph


def run(proto: onnx.ModelProto, *inputs: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {f"input_{i}": array for i, array in enumerate(inputs)}))


def test_a_node_with_a_constant_input_stands_alone(tmp_path: Path) -> None:
    proto = model(
        [node("OneHot", "i depth values", "y", "hot", axis=0)],
        {"i": (INT64, [3])},
        {"y": (FLOAT, [5, 3])},
        {"depth": np.array(5), "values": np.array([0, 1], np.float32)},
    )
    subgraph = only(load(proto, tmp_path), "hot")
    assert [t.name for t in subgraph.inputs] == ["i"] and [t.shape for t in subgraph.outputs] == [(5, 3)]
    assert [t.name for t in subgraph.model.graph.initializer] == ["constant_0", "constant_1"]
    assert (subgraph.op_types, subgraph.node_names) == (("OneHot",), ("hot",))
    (found,) = run(subgraph.model, np.array([4, 0, 2]))
    np.testing.assert_array_equal(found, np.eye(5, dtype=np.float32)[:, [4, 0, 2]])


def test_computed_constants_become_initializers(tmp_path: Path) -> None:
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s one", "width"),
        node("Unsqueeze", "width zero", "w1"),
        node("Concat", "minus w1", "target", axis=0),
        node("Reshape", "t target", "y", "reshape"),
    ]
    constants = {"one": np.array(1), "zero": np.array([0]), "minus": np.array([-1])}
    proto = model(nodes, {"x": (FLOAT, [2, 3]), "t": (FLOAT, [12])}, {"y": (FLOAT, [4, 3])}, constants)
    subgraph = only(load(proto, tmp_path), "reshape")
    assert [t.name for t in subgraph.inputs] == ["t"]
    assert numpy_helper.to_array(subgraph.model.graph.initializer[0]).tolist() == [-1, 3]


@pytest.mark.parametrize(
    ("made", "role"),
    [
        (node("Reshape", "x n", "y", "it"), "shape"),
        (node("TopK", "x n", "y z", "it"), "k"),
        (node("Slice", "x zero n", "y", "it"), "ends"),
        (node("OneHot", "n n values", "y", "it"), "depth"),
        (node("Resize", "x - - n", "y", "it"), "sizes"),
        (node("ReduceSum", "x n", "y", "it"), "axes"),
    ],
)
def test_inputs_that_must_be_constant(tmp_path: Path, made: onnx.NodeProto, role: str) -> None:
    constants = {"zero": np.array([0]), "values": np.array([0, 1], np.float32)}
    proto = model([made], {"x": (FLOAT, [4]), "n": (INT64, [1])}, {"y": (FLOAT, ["a"])}, constants)
    with pytest.raises(
        UnsupportedError, match=rf'node "it" \({made.op_type}\): input \d \("{role}"\) must be constant'
    ):
        loaded = load(proto, tmp_path)
        extract(loaded, select(loaded, ["it"]), V3)


def test_omitted_inputs_and_unused_outputs(tmp_path: Path) -> None:
    nodes = [
        node("Resize", "x - scales", "r", "resize", mode="nearest"),
        node("TopK", "r k", "values indices", "top"),
        node("Cast", "indices", "y", to=FLOAT),
    ]
    proto = model(
        nodes,
        {"x": (FLOAT, [1, 1, 2, 4])},
        {"y": (FLOAT, [1, 1, 4, 3])},
        {"scales": np.array([1, 1, 2, 1], np.float32), "k": np.array([3])},
    )
    loaded = load(proto, tmp_path)
    resize, top = extract(loaded, select(loaded, ["resize", "top"]), V3).subgraphs
    assert list(resize.model.graph.node[0].input) == ["input_0", "", "constant_0"]
    assert [t.name for t in top.outputs] == ["indices"]
    assert list(top.model.graph.node[0].output) == ["value_0", "output_0"]
    for subgraph in (resize, top):
        onnx.checker.check_model(subgraph.model, full_check=True)
    (found,) = run(top.model, np.array([[[[3, 1, 4, 1], [5, 9, 2, 6]] * 2]], np.float32))
    assert found[0, 0, 1].tolist() == [1, 3, 0]


def test_outputs_that_nobody_reads_stay_when_there_are_no_others(tmp_path: Path) -> None:
    nodes = [node("Abs", "x", "dead", "dead_node"), node("Neg", "x", "y", "live")]
    loaded = load(model(nodes, {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}), tmp_path)
    assert [t.name for t in only(loaded, "dead_node").outputs] == ["dead"]


def test_an_input_used_twice_appears_once(tmp_path: Path) -> None:
    nodes = [node("Mul", "x x", "a", "square"), node("Mul", "a x", "y", "other")]
    loaded = load(model(nodes, {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}), tmp_path)
    extraction = extract(loaded, select(loaded, None, ["Mul"]), V3)
    assert [[t.name for t in s.inputs] for s in extraction.subgraphs] == [["x"], ["a", "x"]]
    assert list(extraction.subgraphs[0].model.graph.node[0].input) == ["input_0", "input_0"]


def test_all_inputs_constant(tmp_path: Path) -> None:
    nodes = [
        node("Gather", "table index", "g", "gather"),
        node("ConstantOfShape", "shape", "c", "fill"),
        node("Add", "g x", "a", "add"),
        node("Add", "a c", "y", "add2"),
    ]
    constants = {"table": np.eye(4, dtype=np.float32), "index": np.array([1, 2]), "shape": np.array([2, 4])}
    loaded = load(model(nodes, {"x": (FLOAT, [2, 4])}, {"y": (FLOAT, [2, 4])}, constants), tmp_path)
    assert [t.name for t in only(loaded, "gather").inputs] == ["table", "index"]
    with pytest.raises(UnsupportedError, match=r'"fill" \(ConstantOfShape\): all its inputs are constant'):
        extract(loaded, select(loaded, ["fill"]), V3)


def conv_like(tmp_path: Path, **changes: object) -> Model:
    weight = np.arange(4, dtype=np.float32)
    second = {"axis": 0, "weight": weight.copy(), "shape": [4, 4], **changes}
    nodes = [
        node("Softmax", "x", "a", "s1", axis=0),
        node("Softmax", "u", "b", "s2", axis=second["axis"]),
        node("Mul", "a w1", "y", "m1"),
        node("Mul", "b w2", "z", "m2"),
    ]
    shape = second["shape"]
    return load(
        model(
            nodes,
            {"x": (FLOAT, [4, 4]), "u": (FLOAT, shape)},
            {"y": (FLOAT, [4, 4]), "z": (FLOAT, shape)},
            {"w1": weight, "w2": np.asarray(second["weight"])},
        ),
        tmp_path,
    )


def test_equal_nodes_share_a_plugin(tmp_path: Path) -> None:
    loaded = conv_like(tmp_path)
    extraction = extract(loaded, select(loaded, None, ["Softmax", "Mul"]), V3)
    assert [s.name for s in extraction.subgraphs] == ["tpat_s1", "tpat_m1"]
    assert [(u.plugin, u.node_names, u.inputs, u.outputs) for u in extraction.uses] == [
        ("tpat_s1", ("s1",), ("x",), ("a",)),
        ("tpat_s1", ("s2",), ("u",), ("b",)),
        ("tpat_m1", ("m1",), ("a",), ("y",)),
        ("tpat_m1", ("m2",), ("b",), ("z",)),
    ]


def test_chosen_names_win_over_default_ones(tmp_path: Path) -> None:
    loaded = conv_like(tmp_path)
    extraction = extract(loaded, select(loaded, None, ["Softmax"], {"s2": "mine"}), V3)
    assert [u.plugin for u in extraction.uses] == ["mine", "mine"]
    both = extract(loaded, select(loaded, None, None, {"s1": "one", "s2": "two"}), V3)
    assert [u.plugin for u in both.uses] == ["one", "two"]
    same = extract(loaded, select(loaded, None, None, {"s1": "one", "s2": "one"}), V3)
    assert [u.plugin for u in same.uses] == ["one", "one"] and len(same.subgraphs) == 1


@pytest.mark.parametrize(
    ("changes", "names", "difference"),
    [
        ({"axis": 1}, ("s1", "s2"), 'attribute "axis"'),
        ({"shape": [4, 8, 4]}, ("s1", "s2"), r"the shape of input 0 \(4x4 and 4x8x4\)"),
        ({"weight": np.ones(4, np.float32)}, ("m1", "m2"), "the values of constant input 0"),
        ({"weight": np.ones((4, 4), np.float32)}, ("m1", "m2"), "the type or shape of constant input 0"),
        ({}, ("s1", "m1"), r"their operators \(Softmax and Mul\)"),
    ],
)
def test_different_nodes_of_one_name(
    tmp_path: Path, changes: dict[str, object], names: tuple[str, str], difference: str
) -> None:
    loaded = conv_like(tmp_path, **changes)
    requests = select(loaded, None, None, dict.fromkeys(names, "shared"))
    with pytest.raises(SelectionError, match=rf'"{names[0]}" and "{names[1]}".*"shared" but differ in {difference}'):
        extract(loaded, requests, V3)
    default = extract(loaded, select(loaded, list(names)), V3)
    assert len(default.subgraphs) == 2


def test_constants_stored_differently_are_equal(tmp_path: Path) -> None:
    loaded = conv_like(tmp_path)
    tensor = loaded.initializers["w2"]
    tensor.float_data.extend(numpy_helper.to_array(tensor).tolist())
    tensor.ClearField("raw_data")
    assert len(extract(loaded, select(loaded, None, ["Mul"]), V3).subgraphs) == 1


def test_symbolic_shapes_need_leave_and_get_canonical_names(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "a", "r1"), node("Relu", "u", "b", "r2"), node("Concat", "a b", "y", axis=0)]
    proto = model(nodes, {"x": (FLOAT, ["n\n;", 3]), "u": (FLOAT, ["m", 3])}, {"y": (FLOAT, [None, 3])})
    loaded = load(proto, tmp_path)
    requests = select(loaded, None, ["Relu"])
    with pytest.raises(ModelError, match=r"\(n ;, 3\).*override-input-shapes") as caught:
        extract(loaded, requests, V3)
    assert "\n" not in str(caught.value)
    extraction = extract(loaded, requests, V3, allow_symbolic=True)
    assert [s.inputs[0].shape for s in extraction.subgraphs] == [("d0", 3)]
    assert extraction.subgraphs[0].outputs[0].shape == ("d0", 3)


def test_unknown_types_and_ranks(tmp_path: Path) -> None:
    nodes = [node("Mystery", "x", "m", "mystery", domain="theirs"), node("Relu", "m", "y", "relu")]
    proto = model(nodes, {"x": (FLOAT, [2])}, {"y": (FLOAT, ["k"])}, domains={"theirs": 1})
    loaded = load(proto, tmp_path)
    with pytest.raises((ModelError, UnsupportedError), match=r'"relu".*"m"'):
        extract(loaded, select(loaded, ["relu"]), V3)
    proto.graph.value_info.append(helper.make_tensor_value_info("m", FLOAT, None))
    loaded = load(proto, tmp_path)
    with pytest.raises(ModelError, match='not even the rank of tensor "m"'):
        extract(loaded, select(loaded, ["relu"]), V3, allow_symbolic=True)


def test_sequences_and_strings_are_refused(tmp_path: Path) -> None:
    nodes = [
        node("SequenceConstruct", "x x", "s", "seq"),
        node("SequenceAt", "s i", "y", "at"),
        node("StringNormalizer", "t", "z", "lower", domain=""),
    ]
    proto = model(
        nodes,
        {"x": (FLOAT, [2]), "t": (TensorProto.STRING, [2])},
        {"y": (FLOAT, [2]), "z": (TensorProto.STRING, [2])},
        {"i": np.array(0)},
    )
    loaded = load(proto, tmp_path)
    with pytest.raises(UnsupportedError, match=r'"at" \(SequenceAt\): its tensor "s" is a sequence'):
        extract(loaded, select(loaded, ["at"]), V3)
    with pytest.raises(UnsupportedError, match=r'"lower" \(StringNormalizer\): tensor "t": ONNX element type STRING'):
        extract(loaded, select(loaded, ["lower"]), V3)


def test_local_functions_and_foreign_domains_come_along(tmp_path: Path) -> None:
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    inner = helper.make_function("mine", "Inner", ["a"], ["b"], [node("Sigmoid", "a", "b")], opset)
    outer = helper.make_function(
        "mine", "Outer", ["a"], ["b"], [node("Inner", "a", "s", domain="mine"), node("Mul", "a s", "b")], opset
    )
    unused = helper.make_function("mine", "Unused", ["a"], ["b"], [node("Neg", "a", "b")], opset)
    nodes = [node("Outer", "x", "y", "call", domain="mine")]
    proto = model(
        nodes, {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}, domains={"mine": 1}, functions=[inner, outer, unused]
    )
    subgraph = only(load(proto, tmp_path), "call")
    assert [f.name for f in subgraph.model.functions] == ["Inner", "Outer"]
    assert {o.domain: o.version for o in subgraph.model.opset_import} == {"": 17, "mine": 1}
    x = np.array([1, -2], np.float32)
    np.testing.assert_allclose(run(subgraph.model, x)[0], x / (1 + np.exp(-x)), rtol=1e-6)


def test_attributes_and_exotic_constants_survive(tmp_path: Path) -> None:
    weight = np.arange(-4, 4, dtype=np.int8).astype(ml_dtypes.int4)
    nodes = [
        node("Squeeze", "x", "s", "squeeze", axes=[0]),
        node("DequantizeLinear", "w scale", "d", "dequantize", axis=0),
        node("Add", "s d", "y", "add"),
        helper.make_node("Their", ["x"], ["t"], "their", domain="theirs", empty=None),
    ]
    nodes[3].attribute.append(helper.make_attribute("empty", [], attr_type=onnx.AttributeProto.INTS))
    proto = model(
        nodes[1:3],
        {"s": (FLOAT, [8])},
        {"y": (FLOAT, [8])},
        {"w": weight, "scale": np.float32(0.5)},
        opset=21,
        ir_version=10,
    )
    subgraph = only(load(proto, tmp_path), "dequantize")
    assert subgraph.inputs[0].dtype in (dtypes.INT4, dtypes.FLOAT32)
    proto = model([nodes[3]], {"x": (FLOAT, [8])}, {"t": (FLOAT, [8])}, domains={"theirs": 1})
    (attribute,) = only(load(proto, tmp_path), "their").model.graph.node[0].attribute
    assert attribute.type == onnx.AttributeProto.INTS and not attribute.ints


def test_captured_tensors_become_inputs(tmp_path: Path) -> None:
    then = helper.make_graph([node("Relu", "a", "t")], "then", [], [helper.make_tensor_value_info("t", FLOAT, [2])])
    other = helper.make_graph([node("Mul", "a k", "e")], "else", [], [helper.make_tensor_value_info("e", FLOAT, [2])])
    nodes = [
        node("Abs", "x", "a", "abs"),
        helper.make_node("If", ["c"], ["y"], "if", then_branch=then, else_branch=other),
    ]
    proto = model(nodes, {"x": (FLOAT, [2]), "c": (BOOL, [])}, {"y": (FLOAT, [2])}, {"k": np.array([3, 4], np.float32)})
    subgraph = only(load(proto, tmp_path), "if")
    assert [t.name for t in subgraph.inputs] == ["c", "a"]
    session = ort.InferenceSession(subgraph.model.SerializeToString())
    a = np.array([-1, 2], np.float32)
    assert session.run(None, {"input_0": np.array(True), "input_1": a})[0].tolist() == [0, 2]
    assert session.run(None, {"input_0": np.array(False), "input_1": a})[0].tolist() == [-3, 8]


def test_several_nodes_in_one_request(tmp_path: Path) -> None:
    nodes = [node("Abs", "x", "a", "abs"), node("Mul", "a k", "b", "mul"), node("Neg", "b", "y", "neg")]
    loaded = load(model(nodes, {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}, {"k": np.float32(2)}), tmp_path)
    (subgraph,) = extract(loaded, [PluginRequest("pair", ("abs", "mul"))], V3).subgraphs
    onnx.checker.check_model(subgraph.model, full_check=True)
    assert ([t.name for t in subgraph.inputs], [t.name for t in subgraph.outputs]) == (["x"], ["b"])
    assert {v.name for v in subgraph.model.graph.value_info} == {"value_0"}
    assert run(subgraph.model, np.array([-3, 1], np.float32))[0].tolist() == [6, 2]


# --- borders ----------------------------------------------------------------------------------------------------------


def test_uint8_between_plugins_keeps_its_bits(tmp_path: Path) -> None:
    loaded = load(quantized_pair(), tmp_path)
    for target in (V2, V3):
        extraction = extract(loaded, select(loaded, ["quantize", "conv"]), target)
        quantize, conv = extraction.subgraphs
        shown = [(t.name, t.dtype.name, t.border_dtype.name, t.encoding) for t in (*quantize.outputs, *conv.inputs)]
        assert shown == [
            ("q", "uint8", "int8", Encoding.BITS),
            ("scale", "float32", "float32", Encoding.SAME),
            ("zero", "uint8", "int8", Encoding.BITS),
            ("q", "uint8", "int8", Encoding.BITS),
            ("zero", "uint8", "int8", Encoding.BITS),
        ]


def test_uint8_elsewhere_is_widened_or_refused(tmp_path: Path) -> None:
    loaded = load(quantized_pair(), tmp_path)
    with pytest.raises(UnsupportedError, match=r'"q" is uint8.*"conv" \(ConvInteger\): select that node too'):
        extract(loaded, select(loaded, ["quantize"]), V3)
    with pytest.raises(UnsupportedError, match=r'"conv" \(ConvInteger\).*"quantize" \(DynamicQuantizeLinear\): select'):
        extract(loaded, select(loaded, ["conv"]), V3)
    free = extract(loaded, select(loaded, ["quantize"]), V3, in_network=False).subgraphs[0]
    assert [(t.border_dtype.name, t.encoding) for t in free.outputs[:1]] == [("int32", Encoding.CAST)]


@pytest.mark.parametrize(
    ("target", "dtype", "border", "lost"),
    [
        (V2, BOOL, "int32", ""),
        (V3, BOOL, "bool", ""),
        (V2, INT64, "int32", "beyond 2^31"),
        (V3, INT64, "int64", ""),
        (V3, DOUBLE, "float32", "float32's 24 bits"),
        (V2, TensorProto.BFLOAT16, "float32", ""),
        (V3, TensorProto.BFLOAT16, "bfloat16", ""),
        (V3, UINT8, "int32", ""),
        (V3, UINT16, "int32", ""),
        (V3, TensorProto.UINT32, "int64", ""),
        (V2, TensorProto.UINT32, "int32", "beyond 2^31"),
        (V3, TensorProto.UINT64, "int64", "beyond 2^63"),
        (V3, INT8, "int8", ""),
        (V3, INT32, "int32", ""),
    ],
)
def test_types_at_the_border(tmp_path: Path, target: object, dtype: int, border: str, lost: str) -> None:
    proto = model([node("Transpose", "x", "y", "t", perm=[1, 0])], {"x": (dtype, [2, 3])}, {"y": (dtype, [3, 2])})
    loaded = load(proto, tmp_path)
    extraction = extract(loaded, select(loaded, ["t"]), target, in_network=False)  # type: ignore[arg-type]
    (subgraph,) = extraction.subgraphs
    assert [t.border_dtype.name for t in (*subgraph.inputs, *subgraph.outputs)] == [border, border]
    assert subgraph.model.graph.input[0].type.tensor_type.elem_type == dtype
    assert len(extraction.warnings) == (2 if lost else 0) and all(lost in w for w in extraction.warnings)


def test_types_that_no_network_has(tmp_path: Path) -> None:
    proto = model([node("BitShift", "x s", "y", "shift", direction="LEFT")], {"x": (UINT16, [2])}, {"y": (UINT16, [2])},
                  {"s": np.array([1, 2], np.uint16)})  # fmt: skip
    loaded = load(proto, tmp_path)
    with pytest.raises(UnsupportedError, match=r'"shift" \(BitShift\): tensor "x" is uint16.*Cast to another type'):
        extract(loaded, select(loaded, ["shift"]), V3)


def test_what_a_plugin_makes_inside_may_be_unknown(tmp_path: Path) -> None:
    nodes = [
        node("NonZero", "x", "places", "a"),
        node("ReduceMax", "places", "size", "b", keepdims=0),
        node("Reshape", "size minus", "sizes", "c"),
        node("Expand", "one sizes", "y", "d"),
    ]
    constants = {"one": np.ones(1, np.float32), "minus": np.array([-1])}
    loaded = load(model(nodes, {"x": (FLOAT, [2, 3])}, {"y": (FLOAT, [2])}, constants), tmp_path)
    (subgraph,) = extract(loaded, [PluginRequest("tpat_all", ("a", "b", "c", "d"))], V3).subgraphs
    onnx.checker.check_model(subgraph.model)
    assert [t.name for t in subgraph.inputs] == ["x"] and [t.shape for t in subgraph.outputs] == [(2,)]
    (places,) = (v.type.tensor_type for v in subgraph.model.graph.value_info if v.name == "value_0")
    assert places.elem_type == INT64 and not places.HasField("shape")
    with pytest.raises(UnsupportedError, match=r'"d" \(Expand\): input 1 \("shape"\) must be constant'):
        extract(loaded, [PluginRequest("tpat_one", ("d",))], V3)


def test_shapes_behind_an_if_inside_stay_unstated(tmp_path: Path) -> None:
    def branch(name: str, output: str, size: int) -> onnx.GraphProto:
        value = numpy_helper.from_array(np.ones(size, np.float32))
        info = helper.make_tensor_value_info(output, TensorProto.FLOAT, [size])
        return helper.make_graph([helper.make_node("Constant", [], [output], value=value)], name, [], [info])

    nodes = [
        node("If", "c", "a", "if", then_branch=branch("then", "t", 1), else_branch=branch("else", "e", 3)),
        node("Neg", "a", "b", "neg"),
        node("Add", "b x", "y", "add"),
    ]
    proto = model(nodes, {"c": (BOOL, []), "x": (FLOAT, [3])}, {"y": (FLOAT, [3])})
    extraction = extract(load(proto, tmp_path), [PluginRequest("tpat_all", ("if", "neg", "add"))], V3)
    infos = extraction.subgraphs[0].model.graph.value_info
    assert len(infos) == 2 and not any(v.type.tensor_type.HasField("shape") for v in infos)


def test_only_outside_a_network_may_a_plugin_have_no_inputs(tmp_path: Path) -> None:
    proto = model([node("ConstantOfShape", "s", "y", "n")], {}, {"y": (FLOAT, [2, 3])}, {"s": np.array([2, 3])})
    loaded = load(proto, tmp_path)
    with pytest.raises(UnsupportedError, match="nothing to compute at run time"):
        extract(loaded, select(loaded, ["n"]), V3)
    (subgraph,) = extract(loaded, select(loaded, ["n"]), V3, in_network=False).subgraphs
    assert not subgraph.inputs and [t.shape for t in subgraph.outputs] == [(2, 3)]


def test_hostile_names_go_through(tmp_path: Path) -> None:
    hostile = ['"\n../../x', "n" * 10_000, "卷积;$(rm)", "a b"]
    nodes = [
        node("Abs", "x", "PLACE", hostile[0]),
        helper.make_node("Neg", [hostile[0]], [hostile[1]], hostile[1]),
        helper.make_node("Sin", [hostile[1]], ["y"], hostile[2]),
    ]
    nodes[0].output[0] = hostile[0]
    loaded = load(model(nodes, {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}), tmp_path)
    extraction = extract(loaded, select(loaded, hostile[:3]), V3)
    assert len(extraction.subgraphs) == 3
    for subgraph in extraction.subgraphs:
        text = onnx.printer.to_text(subgraph.model)
        assert not any(name in text for name in hostile)
