from pathlib import Path

import pytest
from onnx import helper

from plugin_autogen.errors import SelectionError
from plugin_autogen.graph.model import Model
from plugin_autogen.graph.selection import parse_plugin_names, select
from tests.models import BOOL, FLOAT, load, model, node

HOSTILE = 'say "hi";\n../../x 卷积'
LONG = "n" * 10_000


@pytest.fixture
def sample(tmp_path: Path) -> Model:
    then = helper.make_graph(
        [node("Elu", "x", "t", "inner")], "then", [], [helper.make_tensor_value_info("t", FLOAT, [2])]
    )
    other = helper.make_graph(
        [node("Neg", "x", "u", "other")], "else", [], [helper.make_tensor_value_info("u", FLOAT, [2])]
    )
    nodes = [
        node("Relu", "x", "a", "backbone/relu_1"),
        node("Relu", "a", "b", "backbone/relu_2"),
        node("Abs", "b", "d", HOSTILE),
        node("Neg", "d", "e", LONG),
        node("Sin", "e", "f", "twin"),
        node("Cos", "f", "g", "twin"),
        helper.make_node("If", ["c"], ["y"], "branch", then_branch=then, else_branch=other),
        node("Exp", "g", "z"),
    ]
    return load(model(nodes, {"x": (FLOAT, [2]), "c": (BOOL, [])}, {"y": (FLOAT, [2]), "z": (FLOAT, [2])}), tmp_path)


def test_by_name_type_and_mapping_in_the_order_of_the_graph(sample: Model) -> None:
    requests = select(sample, ["Exp_7", HOSTILE], ["Relu"], {LONG: "my_neg"})
    assert [r.node_names for r in requests] == [
        ("backbone/relu_1",), ("backbone/relu_2",), (HOSTILE,), (LONG,), ("Exp_7",),
    ]  # fmt: skip
    assert [r.name for r in requests] == [
        "tpat_backbone_relu_1", "tpat_backbone_relu_2", "tpat_say_hi_x", "my_neg", "tpat_Exp_7",
    ]  # fmt: skip
    assert [r.is_named for r in requests] == [False, False, False, True, False]


def test_a_node_selected_twice_is_one_request(sample: Model) -> None:
    assert len(select(sample, ["backbone/relu_1", "backbone/relu_1"], ["Relu"], {"backbone/relu_1": "r"})) == 2


def test_a_name_that_two_nodes_bear_selects_both(sample: Model) -> None:
    requests = select(sample, ["twin"])
    assert [r.node_names for r in requests] == [("twin",), ("twin_2",)]
    assert len({r.name for r in requests}) == 2
    assert [r.node_names for r in select(sample, ["twin_2"])] == [("twin_2",)]


def test_default_names_keep_clear_of_chosen_ones(sample: Model) -> None:
    requests = select(sample, None, ["Relu"], {HOSTILE: "tpat_backbone_relu_1"})
    assert len({r.name for r in requests}) == 3


@pytest.mark.parametrize(
    ("names", "types", "mapping", "message"),
    [
        (["backbone/relu1"], None, None, 'did you mean "backbone/relu_1", "backbone/relu_2"'),
        (["BACKBONE/RELU_1"], None, None, 'did you mean "backbone/relu_1"'),
        (["nothing like it"], None, None, 'no node named "nothing like it"'),
        (["m" * 10_000], None, None, "no node named"),
        (["n" * 9_999], None, None, "did you mean"),
        (None, ["Softmax"], None, "types are Abs, Cos, Exp, If, Neg, Relu, Sin"),
        (None, ["Elu"], None, 'inside the subgraphs of other nodes, of "branch"'),
        (["inner"], None, None, r'"inner" \(Elu\) lies inside a subgraph of "branch" \(If\)'),
        (None, None, {"nope": "p"}, 'no node named "nope"'),
        (None, None, {HOSTILE: "a b"}, "C identifier"),
        (None, None, {HOSTILE: "Relu"}, "parser imports"),
        (None, None, {HOSTILE: "If"}, "parser imports"),
        (None, None, None, "no node is selected"),
        ([], [], {}, "no node is selected"),
    ],
)
def test_what_does_not_fit(
    sample: Model, names: list[str] | None, types: list[str] | None, mapping: dict[str, str] | None, message: str
) -> None:
    with pytest.raises(SelectionError, match=message) as caught:
        select(sample, names, types, mapping)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_names_of_local_functions_and_of_foreign_operators(tmp_path: Path) -> None:
    function = helper.make_function(
        "mine",
        "Swish2",
        ["a"],
        ["b"],
        [node("Sigmoid", "a", "s", "sig"), node("Mul", "a s", "b")],
        [helper.make_opsetid("", 17)],
    )
    nodes = [
        node("Swish2", "x", "a", "call", domain="mine"),
        node("Their", "a", "b", "their", domain="theirs"),
        node("Relu", "b", "y", "r"),
    ]
    proto = model(
        nodes, {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}, domains={"mine": 1, "theirs": 1}, functions=[function]
    )
    loaded = load(proto, tmp_path)
    with pytest.raises(SelectionError, match="local function"):
        select(loaded, None, None, {"r": "Swish2"})
    with pytest.raises(SelectionError, match='the operator of node "their"'):
        select(loaded, None, None, {"r": "Their"})
    with pytest.raises(SelectionError, match="inside the local function Swish2"):
        select(loaded, ["sig"])
    assert select(loaded, None, None, {"their": "Their"})[0].name == "Their"


def test_mapping_from_json() -> None:
    assert parse_plugin_names('{"a/b": "x", "\\u5377": "y"}') == {"a/b": "x", "卷": "y"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{'a': 'b'}", "not JSON"),
        ('{"a": "b"', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('["a"]', "no JSON object"),
        ("null", "no JSON object"),
        ("{}", "empty"),
        ('{"a": "b", "a": "c"}', 'node "a" twice'),
        ('{"a": 3}', "no string"),
        ('{"a": ["b"]}', "no string"),
    ],
)
def test_malformed_mappings(text: str, message: str) -> None:
    with pytest.raises(SelectionError, match=message) as caught:
        parse_plugin_names(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
