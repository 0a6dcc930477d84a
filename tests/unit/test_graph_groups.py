"""Several nodes as one plugin: which nodes belong together, and what stands in the rewritten model."""

from __future__ import annotations

import graphlib
import random
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from plugin_autogen import releases
from plugin_autogen.errors import SelectionError
from plugin_autogen.graph import groups
from plugin_autogen.graph.extract import extract
from plugin_autogen.graph.groups import Group
from plugin_autogen.graph.model import Model
from plugin_autogen.graph.rewrite import rewrite
from plugin_autogen.graph.selection import select
from tests.models import FLOAT, INT64, load, model, node, plugins_as_functions

V3 = releases.release("10")


@pytest.fixture
def diamond(tmp_path: Path) -> Model:
    """x -> a -> {b -> d, c -> e} -> f -> g; h reads the output of a too."""
    nodes = [
        node("Relu", "x", "ta", "a"),
        node("Exp", "ta", "tb", "b"),
        node("Neg", "ta", "tc", "c"),
        node("Sin", "tb", "td", "d"),
        node("Cos", "tc", "te", "e"),
        node("Add", "td te", "tf", "f"),
        node("Mul", "tf w", "y", "g"),
        node("Abs", "ta", "z", "h"),
    ]
    return load(
        model(
            nodes, {"x": (FLOAT, [2, 3])}, {"y": (FLOAT, [2, 3]), "z": (FLOAT, [2, 3])}, {"w": np.float32([2, 3, 4])}
        ),
        tmp_path,
    )


def groups_of(loaded: Model, *names: str, **options: object) -> list[tuple[str, ...]]:
    return [r.node_names for r in select(loaded, names, **options)]  # type: ignore[arg-type]


def test_a_key_of_several_names_is_one_plugin_in_the_order_of_the_graph(diamond: Model) -> None:
    requests = select(diamond, plugin_names={"d, b": "left", "e": "right"})
    assert [(r.name, r.node_names, r.is_named) for r in requests] == [
        ("left", ("b", "d"), True),
        ("right", ("e",), True),
    ]


def test_names_may_hold_commas(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "u", "a,b"), node("Exp", "u", "v", "b"), node("Neg", "v", "y", "a")]
    loaded = load(model(nodes, {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}), tmp_path)
    assert [r.node_names for r in select(loaded, plugin_names={"a,b": "p"})] == [("a,b",)]
    assert [r.node_names for r in select(loaded, plugin_names={"b,a,b": "p"})] == [("a,b", "b")]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"a,d": "p"}, 'plugin "p" cannot .*: "a" -> "b" -> "d"; select'),
        ({"a,g": "p"}, r'"a" -> "b" -> "d" -> "f" -> "g"'),
        # neither group alone has a path out and back in, together they feed each other
        ({"b,e": "p", "c,d": "q"}, r'plugin "p" cannot .*: "b" -> "d" -> "c" -> "e"'),
        ({"a,b": "p", "b,d": "q"}, r'node "b" \(Exp\) is selected for two plugins, "p" and "q"'),
        ({"a,nope": "p"}, 'no node named "nope"'),
        ({"a,b,": "p"}, 'no node named ""'),
    ],
)
def test_groups_that_cannot_be(diamond: Model, mapping: dict[str, str], message: str) -> None:
    with pytest.raises(SelectionError, match=message) as caught:
        select(diamond, plugin_names=mapping)
    assert "\n" not in str(caught.value)


def test_a_long_path_is_cut(tmp_path: Path) -> None:
    count = 2000
    nodes = [node("Relu", f"t{i}", f"t{i + 1}", f"n{i}") for i in range(count)]
    nodes.append(node("Add", f"t1 t{count}", "y", "end"))
    loaded = load(model(nodes, {"t0": (FLOAT, [2])}, {"y": (FLOAT, [2])}), tmp_path)
    with pytest.raises(SelectionError, match=r'"n0" -> "n1" .*-> "n1999" -> "end"') as caught:
        select(loaded, plugin_names={"n0,end": "p"})
    assert len(str(caught.value)) < 500


def test_a_subgraph_between_tensors(diamond: Model) -> None:
    (request,) = select(diamond, subgraphs=["tb,tc:tf=mine"])
    assert (request.name, request.node_names, request.is_named) == ("mine", ("d", "e", "f"), True)
    (request,) = select(diamond, subgraphs=["ta:y"])
    assert (request.name, request.node_names) == ("tpat_b", ("b", "c", "d", "e", "f", "g"))
    two = select(diamond, ["h"], subgraphs=["x:ta=first", "tb,tc:tf=second"])
    assert [r.node_names for r in two] == [("a",), ("d", "e", "f"), ("h",)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ta:tf:y=p", "no tensor"),
        ("ta,nope:y=p", 'no tensor "nope"'),
        ("ta:nope=p", 'no tensor "nope"'),
        ("ta=p", "write input1"),
        ("ta:y=", "write input1"),
        ("tb:tf=p", 'node "a" .*reads the graph\'s input "x"'),
        ("ta,z:y=p", 'do not need the input "z"'),
        ("x:x=p", "makes that tensor"),
        ("ta:y=a b", "C identifier"),
    ],
)
def test_subgraphs_that_cannot_be(diamond: Model, text: str, message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        select(diamond, subgraphs=[text])


def test_tensors_of_a_subgraph_may_hold_colons_and_constants_stay_outside(tmp_path: Path) -> None:
    nodes = [
        node("Relu", "x:0", "m/a:0", "a"),
        node("Constant", "", "two", "constant", value_float=2.0),
        node("Neg", "two", "minus_two", "fold"),
        node("Mul", "m/a:0 minus_two", "m/b:0", "b"),
        node("Exp", "m/b:0", "y:0", "c"),
    ]
    loaded = load(model(nodes, {"x:0": (FLOAT, [2])}, {"y:0": (FLOAT, [2])}), tmp_path)
    requests = select(loaded, subgraphs=["m/a:0:m/b:0,y:0=p"])
    assert [r.node_names for r in requests] == [("b", "c")]
    (subgraph,) = extract(loaded, requests, V3).subgraphs
    assert len(subgraph.inputs) == 1 and len(subgraph.outputs) == 1
    assert onnx.numpy_helper.to_array(subgraph.model.graph.initializer[0]) == -2


def test_fuse_merges_neighbours_and_never_makes_a_detour(diamond: Model) -> None:
    assert groups_of(diamond, "a", "b", "d", fuse=True) == [("a", "b", "d")]
    assert groups_of(diamond, "b", "e", fuse=True) == [("b",), ("e",)]
    # a-b-d-f with c and e left out: f reads what c makes of a's output
    assert groups_of(diamond, "a", "b", "d", "f", "g", fuse=True) == [("a", "b", "d"), ("f", "g")]
    assert groups_of(diamond, *"abcdefgh", fuse=True) == [tuple("abcdefgh")]
    assert groups_of(diamond, *"abcdefgh") == [(name,) for name in "abcdefgh"]


def test_fuse_respects_the_names_and_groups_of_the_user(diamond: Model) -> None:
    requests = select(diamond, ["a"], plugin_names={"b": "p", "d": "q", "e,f": "r"}, fuse=True)
    assert [(r.name, r.node_names) for r in requests] == [("p", ("a", "b")), ("q", ("d",)), ("r", ("e", "f"))]


def run(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def test_the_rewritten_model_is_sorted_and_computes_the_same(diamond: Model) -> None:
    # h stands behind the group's last node in no order but a sorted one; c reads from the group, before its last node
    requests = select(diamond, plugin_names={"a,b,d": "p"})
    extraction = extract(diamond, requests, V3)
    (use,) = extraction.uses
    assert use.inputs == ("x",) and use.outputs == ("ta", "td")
    rewritten = rewrite(diamond, extraction, {"p": "0"})
    assert [n.op_type for n in rewritten.graph.node] == ["p", "Neg", "Cos", "Add", "Mul", "Abs"]
    onnx.checker.check_model(rewritten)
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    for mine, theirs in zip(
        run(plugins_as_functions(rewritten, extraction), {"x": x}), run(diamond.proto, {"x": x}), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


def test_equal_groups_share_a_plugin(tmp_path: Path) -> None:
    nodes = []
    for i in range(3):
        nodes += [node("Relu", f"t{i}", f"u{i}", f"r{i}"), node("Exp", f"u{i}", f"v{i}", f"e{i}")]
        nodes.append(node("Softmax", f"v{i}", f"t{i + 1}", f"s{i}"))
    loaded = load(model(nodes, {"t0": (FLOAT, [2, 8])}, {"t3": (FLOAT, [2, 8])}), tmp_path)
    extraction = extract(loaded, select(loaded, node_types=["Relu", "Exp"], fuse=True), V3)
    assert len(extraction.subgraphs) == 1 and len(extraction.uses) == 3


def test_a_shape_that_is_not_fixed_is_computed_inside(tmp_path: Path) -> None:
    nodes = [
        node("Shape", "x", "s", "shape"),
        node("Exp", "x", "e", "exp"),
        node("Reshape", "e s", "y", "reshape"),
    ]
    dynamic = load(model(nodes, {"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["n", 3])}), tmp_path, "dynamic.onnx")
    assert [r.node_names for r in select(dynamic, subgraphs=["x:y=p"])] == [("shape", "exp", "reshape")]
    fixed = load(model(nodes, {"x": (FLOAT, [2, 3])}, {"y": (FLOAT, [2, 3])}), tmp_path, "fixed.onnx")
    assert [r.node_names for r in select(fixed, subgraphs=["x:y=p"])] == [("exp", "reshape")]


def test_a_node_whose_subgraph_captures_a_tensor_reads_it(tmp_path: Path) -> None:
    def branch(name: str, op_type: str) -> onnx.GraphProto:
        output = onnx.helper.make_tensor_value_info(name, FLOAT, [2])
        return onnx.helper.make_graph([node(op_type, "tb", name, f"n_{name}")], name, [], [output])

    nodes = [
        node("Relu", "x", "ta", "a"),
        node("Exp", "ta", "tb", "b"),
        node("If", "c", "td", "d", then_branch=branch("t", "Neg"), else_branch=branch("u", "Abs")),
        node("Add", "ta td", "y", "e"),
    ]
    loaded = load(model(nodes, {"x": (FLOAT, [2]), "c": (onnx.TensorProto.BOOL, [])}, {"y": (FLOAT, [2])}), tmp_path)
    with pytest.raises(SelectionError, match='"b" -> "d" -> "e"'):
        select(loaded, plugin_names={"a,b,e": "p"})
    assert [r.node_names for r in select(loaded, subgraphs=["ta,c:y=p"])] == [("b", "d", "e")]


def test_inputs_that_several_nodes_share_enter_once(tmp_path: Path) -> None:
    nodes = [node("Add", "x i", "u", "a"), node("Mul", "u i", "y", "b")]
    loaded = load(model(nodes, {"x": (INT64, [4]), "i": (INT64, [4])}, {"y": (INT64, [4])}), tmp_path)
    (use,) = extract(loaded, select(loaded, plugin_names={"a,b": "p"}), V3).uses
    assert use.inputs == ("x", "i") and use.outputs == ("y",)


def _is_acyclic(loaded: Model, found: list[Group]) -> bool:
    """The same question put to the standard library: each group one vertex."""
    owner = {i: number for number, group in enumerate(found) for i in group.nodes}
    before: dict[int, set[int]] = {}
    for i, made in enumerate(loaded.proto.graph.node):
        for name in made.input:
            if name in loaded.producer:
                maker = loaded.producer[name]
                first, second = owner.get(maker, ~maker), owner.get(i, ~i)
                if first != second:
                    before.setdefault(second, set()).add(first)
    try:
        tuple(graphlib.TopologicalSorter(before).static_order())
    except graphlib.CycleError:
        return False
    return True


@pytest.mark.parametrize("seed", range(150))
def test_random_graphs(seed: int) -> None:
    chance = random.Random(seed)
    count = chance.randint(2, 14)
    nodes = []
    for i in range(count):
        inputs = chance.sample([*(f"t{j}" for j in range(i)), "x"], min(i + 1, chance.randint(1, 2)))
        nodes.append(node("Sum", " ".join(inputs), f"t{i}", f"n{i}"))
    proto = model(nodes, {"x": (FLOAT, [2])}, {f"t{i}": (FLOAT, [2]) for i in range(count)})
    loaded = Model(Path("none"), proto, {}, [f"n{i}" for i in range(count)])
    chosen = chance.sample(range(count), chance.randint(1, count))

    fused = groups.fuse(loaded, [Group(frozenset({i})) for i in chosen])
    assert sorted(i for group in fused for i in group.nodes) == sorted(chosen)
    assert _is_acyclic(loaded, fused)
    groups.check_convex(loaded, fused)

    parts: list[set[int]] = [set(), set(), set()]
    for i in chosen:
        chance.choice(parts).add(i)
    made = [Group(frozenset(part), "p", is_fixed=True) for part in parts if part]
    if _is_acyclic(loaded, made):
        groups.check_convex(loaded, made)
    else:
        with pytest.raises(SelectionError, match="a path leaves them") as caught:
            groups.check_convex(loaded, made)
        names = re.findall(r'"n(\d+)"', str(caught.value))
        group = next(g for g in made if int(names[0]) in g.nodes)
        assert int(names[-1]) in group.nodes and not {int(n) for n in names[1:-1]} & group.nodes
