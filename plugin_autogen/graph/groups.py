"""Groups of nodes that become one plugin each.

A plugin runs as a whole: no path may lead out of a group and back into it, not even through another group.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from plugin_autogen.errors import SelectionError, shorten
from plugin_autogen.graph.model import Model, read_names


@dataclass(frozen=True)
class Group:
    """Nodes of one plugin.

    Attributes:
        nodes: their places in the graph.
        name: the plugin's name that the user chose; None: a default one.
        is_fixed: the user said which nodes belong together; `fuse` leaves it alone.
    """

    nodes: frozenset[int]
    name: str | None = None
    is_fixed: bool = False


@dataclass(frozen=True)
class Boundary:
    """A part of the graph as `--subgraph` names it: between the tensors `inputs` and `outputs`."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    name: str | None


def split_names(text: str, known: Collection[str]) -> tuple[list[str], str | None]:
    """The names that the text lists, separated by commas, and the first part that is none of them (None: all are).

    A known name may hold commas itself; the longest that fits is taken.
    """
    if text in known:
        return [text], None
    most = max((name.count(",") for name in known), default=0)
    parts = text.split(",")
    found: list[str] = []
    at = 0
    while at < len(parts):
        for end in range(min(len(parts), at + 1 + most), at, -1):
            candidate = ",".join(parts[at:end])
            if candidate not in known:
                candidate = candidate.strip()
            if candidate in known:
                found.append(candidate)
                at = end
                break
        else:
            return found, parts[at].strip()
    return found, None


def parse_boundary(model: Model, text: str) -> Boundary:
    """What `--subgraph inputs:outputs=name` says. Names of tensors may hold colons, as TensorFlow's do.

    Raises:
        SelectionError: another form, a tensor that the model lacks, or colons that can be read in two ways.
    """
    shown = shorten(text, 200)
    body, equals, name = text.rpartition("=")
    if not equals:
        body, name = name, ""
    if ":" not in body or (equals and not name.strip()):
        raise SelectionError(f'--subgraph "{shown}": write input1,input2:output1,output2=plugin_name')
    tensors = model.tensor_names()
    readings: list[Boundary] = []
    unknown: str | None = None
    for i, character in enumerate(body):
        if character != ":":
            continue
        inputs, wrong_input = split_names(body[:i], tensors)
        outputs, wrong_output = split_names(body[i + 1 :], tensors)
        wrong = wrong_input if wrong_input is not None else wrong_output
        if wrong is None:
            readings.append(Boundary(tuple(inputs), tuple(outputs), name.strip() or None))
        elif unknown is None or wrong_input is None:
            unknown = wrong
    if len(readings) == 1:
        return readings[0]
    if readings:
        raise SelectionError(f'--subgraph "{shown}": the colons can be read in several ways: use -p with node names')
    raise SelectionError(f'--subgraph "{shown}": the model has no tensor "{shorten(unknown)}"')


def nodes_between(model: Model, boundary: Boundary) -> frozenset[int]:
    """Places of the nodes that compute the outputs from the inputs. What is constant stays outside.

    Raises:
        SelectionError: an output that no node makes, an input that no output needs, an input of the graph that is
            needed but not given.
    """
    label = f'subgraph of "{shorten(", ".join(boundary.outputs), 80)}"'
    for name in boundary.outputs:
        if name not in model.producer or name in boundary.inputs:
            raise SelectionError(f'{label}: no node between the inputs and "{shorten(name)}" makes that tensor')
    inputs = set(boundary.inputs)
    graph_inputs = set(model.graph_inputs)
    varying = model.varying()
    found: set[int] = set()
    reached: set[str] = set()
    stack = list(boundary.outputs)
    while stack:
        leaves: list[str] = []
        while stack:
            index = model.producer[stack.pop()]
            if index in found:
                continue
            found.add(index)
            for name in read_names(model.proto.graph.node[index]):
                if name in inputs:
                    reached.add(name)
                elif name in graph_inputs:
                    raise SelectionError(
                        f'{label}: node "{shorten(model.node_keys[index])}" reads the graph\'s input '
                        f'"{shorten(name)}", which is not among the inputs given: add it'
                    )
                elif name in varying:
                    stack.append(name)
                elif name in model.producer:
                    leaves.append(name)
        # What depends on no input's values, but on a shape that is not fixed, is computed inside.
        constants = model.constants(leaves)
        stack = [name for name in leaves if name not in constants]
    for name in boundary.inputs:
        if name not in reached:
            raise SelectionError(f'{label}: its outputs do not need the input "{shorten(name)}"')
    return frozenset(found)


def check_disjoint(model: Model, groups: Iterable[Group]) -> None:
    """Raises `SelectionError` naming a node that two groups hold."""
    owner: dict[int, Group] = {}
    for group in groups:
        for index in sorted(group.nodes):
            other = owner.setdefault(index, group)
            if other is not group:
                raise SelectionError(
                    f'node "{shorten(model.node_keys[index])}" ({shorten(model.proto.graph.node[index].op_type, 60)}) '
                    f"is selected for two plugins, {_called(model, other)} and {_called(model, group)}: a node can be "
                    "part of one only"
                )


def check_convex(model: Model, groups: Sequence[Group]) -> None:
    """Raises `SelectionError` with the path for a group that a path leaves and enters again."""
    contracted = _Contracted(model, groups)
    for number, group in enumerate(groups):
        if len(group.nodes) > 1 and (path := contracted.detour(number)):
            steps = " -> ".join(f'"{shorten(model.node_keys[i], 60)}"' for i in _cut_middle(path))
            raise SelectionError(
                f"the nodes of plugin {_called(model, group)} cannot become one plugin, because a path leaves them and "
                f"comes back: {steps}; select the nodes on that path too, or fewer of the others"
            )


def fuse(model: Model, groups: Sequence[Group]) -> list[Group]:
    """Merges groups that feed each other, as far as no path then leads out of one and back into it.

    Groups that the user made, and groups with different names, stay apart.
    """
    contracted = _Contracted(model, groups)
    for index, node in enumerate(model.proto.graph.node):
        if contracted.owner.get(index) is None:
            continue
        for name in read_names(node):
            maker = model.producer.get(name)
            if maker is not None and contracted.owner.get(maker) is not None:
                contracted.try_merge(contracted.owner[maker], contracted.owner[index])
    return [group for group in contracted.groups if group is not None]


def _called(model: Model, group: Group) -> str:
    return f'"{shorten(group.name or "of node " + model.node_keys[min(group.nodes)], 80)}"'


def _cut_middle(path: Sequence[int], most: int = 12) -> Sequence[int]:
    return path if len(path) <= most else (*path[: most - 2], *path[-2:])


class _Contracted:
    """The graph with each group as one vertex. A vertex is a group's number, or ~place for a node of no group."""

    def __init__(self, model: Model, groups: Sequence[Group]) -> None:
        self.model = model
        self.groups: list[Group | None] = list(groups)
        self.owner: dict[int, int] = {i: number for number, group in enumerate(groups) for i in group.nodes}
        count = len(model.proto.graph.node)
        self._readers: list[list[int]] = [[] for _ in range(count)]
        self._makers: list[list[int]] = [[] for _ in range(count)]
        for index, node in enumerate(model.proto.graph.node):
            makers = {model.producer[name] for name in read_names(node) if name in model.producer}
            self._makers[index] = sorted(makers)
            for maker in makers:
                self._readers[maker].append(index)

    def _vertex(self, index: int) -> int:
        return self.owner.get(index, ~index)

    def _members(self, vertex: int) -> Iterable[int]:
        if vertex < 0:
            return (~vertex,)
        group = self.groups[vertex]
        assert group is not None
        return sorted(group.nodes)

    def _edges(self, vertex: int) -> Iterator[tuple[int, int]]:
        """(node inside, node outside that reads from it)."""
        for index in self._members(vertex):
            for reader in self._readers[index]:
                if self._vertex(reader) != vertex:
                    yield index, reader

    def detour(self, start: int) -> list[int]:
        """Places of the nodes on a shortest way out of the group and back into it; none where there is no such way."""
        # The graph is sorted: a node behind all of the group's does not lead back, unless its own group does.
        last = max(self._members(start))
        came: dict[int, tuple[int, int, int]] = {}
        queue = deque([start])
        while queue:
            vertex = queue.popleft()
            for inside, outside in self._edges(vertex):
                following = self._vertex(outside)
                if following == start:
                    return self._path(came, vertex, start, [inside, outside])
                if following in came or (following < 0 and outside > last):
                    continue
                came[following] = (vertex, inside, outside)
                queue.append(following)
        return []

    @staticmethod
    def _path(came: Mapping[int, tuple[int, int, int]], vertex: int, start: int, tail: list[int]) -> list[int]:
        path = tail
        while vertex != start:
            vertex, inside, outside = came[vertex]
            path = [inside, *([] if outside == path[0] else [outside]), *path]
        return path

    def _leads(self, a: int, b: int) -> bool:
        """Whether a path leads from the group `a` over others to the group `b`. Searched from the smaller one."""
        first, second = self.groups[a], self.groups[b]
        assert first is not None and second is not None
        forward = len(first.nodes) < len(second.nodes)
        start, target, following = (a, b, self._readers) if forward else (b, a, self._makers)
        limit = max(second.nodes) if forward else min(first.nodes)
        seen = {start}
        stack = [start]
        while stack:
            vertex = stack.pop()
            for index in self._members(vertex):
                for neighbour in following[index]:
                    other = self._vertex(neighbour)
                    if other == target and vertex != start:
                        return True
                    beyond = other < 0 and (neighbour > limit if forward else neighbour < limit)
                    if other not in seen and other != target and not beyond:
                        seen.add(other)
                        stack.append(other)
        return False

    def try_merge(self, a: int, b: int) -> None:
        first, second = self.groups[a], self.groups[b]
        if a == b or first is None or second is None or first.is_fixed or second.is_fixed:
            return
        if first.name is not None and second.name is not None and first.name != second.name:
            return
        if self._leads(a, b) or self._leads(b, a):
            return
        name = first.name if first.name is not None else second.name
        self.groups[a], self.groups[b] = Group(first.nodes | second.nodes, name), None
        self.owner.update(dict.fromkeys(second.nodes, a))
