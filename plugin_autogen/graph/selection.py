"""Which nodes become plugins, and under which names."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plugin_autogen.errors import SelectionError, shorten
from plugin_autogen.graph import groups, naming
from plugin_autogen.graph.groups import Group
from plugin_autogen.graph.model import Model, subgraphs_of

if TYPE_CHECKING:
    import onnx

_COMPARED = 200
"""Characters of a name that the search for near matches looks at: its time grows with the square of the length."""


@dataclass(frozen=True)
class Selection:
    """What the user selects.

    Attributes:
        node_names: names of nodes. A name that several nodes bear selects them all.
        node_types: ONNX operator types, `OneHot`.
        plugin_names: node name -> plugin name, for some or all of the nodes; a key of several names, separated by
            commas, makes them one plugin. Nodes without an entry get `tpat_<node name made safe>`.
        subgraphs: `inputs:outputs=plugin_name`, names of tensors separated by commas: the nodes between them become
            one plugin. `=plugin_name` may be left out.
        auto: all nodes that the target TensorRT's parser refuses.
        fuse: selected nodes that feed each other become one plugin.
    """

    node_names: Sequence[str] = ()
    node_types: Sequence[str] = ()
    plugin_names: Mapping[str, str] = field(default_factory=dict)
    subgraphs: Sequence[str] = ()
    auto: bool = False
    fuse: bool = False

    @property
    def names_something(self) -> bool:
        """Whether it selects nodes beside those of `auto`."""
        return bool(self.node_names or self.node_types or self.plugin_names or self.subgraphs)


@dataclass(frozen=True)
class PluginRequest:
    """Nodes that shall become one plugin.

    Attributes:
        name: the plugin's name.
        node_names: keys of the nodes (`Model.node_keys`), in the graph's order.
        is_named: the user chose the name; otherwise it is a default one, which equal nodes may give up for another's.
    """

    name: str
    node_names: tuple[str, ...]
    is_named: bool = False


def parse_plugin_names(text: str) -> dict[str, str]:
    """The mapping node name -> plugin name that `-p` gives as JSON.

    Raises:
        SelectionError: no JSON, no object, an empty one, a key given twice, or a name that is no string.
    """

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, value in pairs:
            if key in mapping:
                raise SelectionError(f'the plugin names map node "{shorten(key)}" twice: give each node one name')
            mapping[key] = value
        return mapping

    example = """'{"node name": "plugin_name"}'"""
    try:
        mapping = json.loads(text, object_pairs_hook=collect)
    except (ValueError, RecursionError) as error:
        raise SelectionError(f"the plugin names are not JSON ({shorten(error)}): write {example}") from error
    if not isinstance(mapping, dict):
        raise SelectionError(f"the plugin names are no JSON object: write {example}")
    if not mapping:
        raise SelectionError(f"the plugin names are an empty JSON object: write {example}")
    for key, value in mapping.items():
        if not isinstance(value, str):
            raise SelectionError(
                f'the plugin name of node "{shorten(key)}" is {shorten(json.dumps(value), 40)}, no string: '
                f"write {example}"
            )
    return mapping


def select(
    model: Model,
    node_names: Sequence[str] | None = None,
    node_types: Sequence[str] | None = None,
    plugin_names: Mapping[str, str] | None = None,
    subgraphs: Sequence[str] = (),
    fuse: bool = False,
    keys: Sequence[str] = (),
) -> list[PluginRequest]:
    """One request for each plugin that shall stand in the graph, in the order of their first nodes.

    Args:
        model: the model.
        node_names: this and the following as in `Selection`.
        keys: more nodes, by `Model.node_keys`.

    Raises:
        SelectionError: nothing is selected, a name or type that the model lacks, a node inside another's subgraph or
            inside a local function, a plugin name that is not free, a node in two groups, a group that a path leaves
            and enters again.
    """
    by_name: dict[str, list[int]] = {}
    for i, (key, node) in enumerate(zip(model.node_keys, model.proto.graph.node, strict=True)):
        by_name.setdefault(node.name, []).append(i)
        if key != node.name:
            by_name.setdefault(key, []).append(i)
    named = _named_groups(model, by_name, plugin_names or {})
    for text in subgraphs:
        boundary = groups.parse_boundary(model, text)
        named.append(Group(groups.nodes_between(model, boundary), boundary.name, is_fixed=True))
    groups.check_disjoint(model, named)
    chosen = {model.index[key] for key in keys}
    for name in node_names or ():
        if name not in by_name:
            raise SelectionError(_unknown_name(model, name, list(by_name)))
        chosen.update(by_name[name])
    types = {node.op_type for node in model.proto.graph.node}
    for op_type in node_types or ():
        if op_type not in types:
            raise SelectionError(_unknown_type(model, op_type, types))
        chosen.update(i for i, node in enumerate(model.proto.graph.node) if node.op_type == op_type)
    chosen.difference_update(*(group.nodes for group in named))
    found = [*named, *(Group(frozenset({i})) for i in chosen)]
    if not found:
        raise SelectionError("no node is selected: give node names, node types, or a mapping of nodes to plugin names")
    groups.check_convex(model, found)
    if fuse:
        found = groups.fuse(model, found)
    return _requests(model, sorted(found, key=lambda group: min(group.nodes)))


def _named_groups(model: Model, by_name: Mapping[str, list[int]], plugin_names: Mapping[str, str]) -> list[Group]:
    """The groups that the keys of the mapping stand for."""
    found = []
    for text, plugin in plugin_names.items():
        names, unknown = groups.split_names(text, by_name)
        if unknown is not None:
            raise SelectionError(_unknown_name(model, unknown, list(by_name)))
        nodes = [i for name in names for i in by_name[name]]
        if len(names) > 1:
            found.append(Group(frozenset(nodes), plugin, is_fixed=True))
        else:
            found.extend(Group(frozenset({i}), plugin) for i in nodes)
    return found


def _requests(model: Model, chosen: Sequence[Group]) -> list[PluginRequest]:
    """The groups under names that are free."""
    for group in chosen:
        if group.name is not None:
            naming.check_plugin_name(group.name)
    # The parser takes an operator of the name of a local function for that function, and plugin libraries that the
    # model already relies on may define an operator that stays.
    foreign = {
        function.name: "a local function of the model"
        for function in model.proto.functions
        if (function.domain, function.name) not in model.given_functions
    }
    replaced = {i for group in chosen for i in group.nodes}
    for i, node in enumerate(model.proto.graph.node):
        if i not in replaced:
            foreign.setdefault(node.op_type, f'the operator of node "{shorten(node.name)}", which stays')
    for group in chosen:
        if group.name in foreign:
            raise SelectionError(
                f'plugin name "{group.name}" for node "{shorten(model.node_keys[min(group.nodes)])}" is also '
                f"{foreign[group.name]}: choose another name"
            )
    taken = {*foreign, *(group.name for group in chosen if group.name is not None)}
    requests = []
    for group in chosen:
        keys = tuple(model.node_keys[i] for i in sorted(group.nodes))
        name = group.name or naming.default_plugin_name(keys[0], taken)
        taken.add(name)
        requests.append(PluginRequest(name, keys, is_named=group.name is not None))
    return requests


def _near(name: str, names: Iterable[str]) -> str:
    """`; did you mean "a", "b"?`, or nothing."""
    short: dict[str, str] = {}
    for candidate in names:
        short.setdefault(candidate[:_COMPARED], candidate)
    lowered = {s.lower(): s for s in short}
    found = difflib.get_close_matches(name[:_COMPARED].lower(), lowered, n=3, cutoff=0.6)
    if not found:
        return ""
    return "; did you mean " + ", ".join(f'"{shorten(short[lowered[f]], 80)}"' for f in found) + "?"


def _nested(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    for graph in subgraphs_of(node):
        for inner in graph.node:
            yield inner
            yield from _nested(inner)


def _unknown_name(model: Model, name: str, names: list[str]) -> str:
    shown = shorten(name)
    for outer in model.proto.graph.node:
        for inner in _nested(outer):
            if inner.name == name:
                return (
                    f'node "{shown}" ({inner.op_type}) lies inside a subgraph of "{shorten(outer.name)}" '
                    f"({outer.op_type}): only nodes of the main graph can become plugins; simplify the model so that "
                    "the node lies there"
                )
    for function in model.proto.functions:
        if any(inner.name == name for inner in function.node):
            return (
                f'node "{shown}" lies inside the local function {shorten(function.name, 60)}: select the node that '
                "calls the function, or inline the model's functions"
            )
    near = _near(name, names)
    return f'the model has no node named "{shown}"{near or f": it has {len(names)} nodes of other names"}'


def _unknown_type(model: Model, op_type: str, types: set[str]) -> str:
    shown = shorten(op_type, 60)
    for outer in model.proto.graph.node:
        if any(inner.op_type == op_type for inner in _nested(outer)):
            return (
                f'nodes of type "{shown}" lie only inside the subgraphs of other nodes, of "{shorten(outer.name)}" '
                f"({outer.op_type}) for one: only nodes of the main graph can become plugins"
            )
    return f'no node has the type "{shown}"; the model\'s types are {shorten(", ".join(sorted(types)), 600)}'
