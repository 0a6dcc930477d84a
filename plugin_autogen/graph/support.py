"""Which nodes the target TensorRT imports by itself: asked of its own parser, or looked up in tables per release.

The tables (`parser_operators.json`) are NVIDIA's; what they say of an operator's types and limits is checked on each
node. The parser is asked when the release that is generated for is installed.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugin_autogen import dtypes
from plugin_autogen.errors import EngineError, UnsupportedError, shorten
from plugin_autogen.graph.model import Model, all_tensors, is_default_domain, read_names, subgraphs_of
from plugin_autogen.graph.reserved_names import PARSER_OPERATORS, TENSORRT_PLUGINS
from plugin_autogen.releases import Release

if TYPE_CHECKING:
    import onnx

    from plugin_autogen.engine.build import RefusedNode
    from plugin_autogen.engine.runtime_library import Backend

Version = tuple[int, int]


@dataclass(frozen=True)
class Support:
    """What a TensorRT takes of a model.

    Attributes:
        judge: who said so, for messages.
        refused: key of each node that is not taken -> why, in the order of the graph.
    """

    judge: str
    refused: Mapping[str, str]


def find_support(model: Model, release: Release) -> Support:
    """The nodes that the parser of this release refuses.

    Its own parser is asked where that release is installed for this Python and can read the model, else the tables.
    """
    backend = _installed(release)
    if backend is None:
        return by_table(model, release)
    try:
        return by_parser(model, backend)
    except EngineError as error:
        table = by_table(model, release)
        return Support(f"{table.judge} (its own parser could not be asked: {shorten(error, 160)})", table.refused)


_NAMED_AS_MEANT = frozenset({"", "ai.onnx", "com.microsoft", "trt", "plugin_autogen"})


def _misread(node: onnx.NodeProto) -> str | None:
    """Why the parser takes the node for something else: it goes by the operator's name, whatever the domain."""
    import onnx.defs

    if node.domain in _NAMED_AS_MEANT or node.op_type not in PARSER_OPERATORS or not onnx.defs.has(node.op_type):
        return None
    return f"its parser takes {shorten(f'{node.domain}::{node.op_type}', 80)} for ONNX's {node.op_type}"


# --- the parser -------------------------------------------------------------------------------------------------------


def _installed(release: Release) -> Backend | None:
    from plugin_autogen.engine import runtime_library

    for backend in runtime_library.installed():
        if backend.is_rtx != (release.key == "rtx") or not backend.takes_plugins:
            continue
        if backend.is_rtx or (
            str(backend.version[0]) == release.key and release.version in (None, tuple(backend.version[:2]))
        ):
            return backend
    return None


def by_parser(model: Model, backend: Backend) -> Support:
    """What the parser of an installed TensorRT says.

    It tells some reasons only once no other is left, so it is asked again without the nodes that it refused, until it
    takes the rest.

    Raises:
        EngineError: it cannot read the model at all.
    """
    from plugin_autogen.engine.build import supports

    name = "rtx" if backend.is_rtx else "tensorrt"
    found: dict[int, str] = {}
    places = list(range(len(model.proto.graph.node)))
    with tempfile.TemporaryDirectory(prefix="plugin_autogen-") as scratch:
        path = model.path
        while True:
            try:
                refused = supports(path, builder=name)
            except EngineError:
                if found:  # a tensor that a refused node made is of a type that no network's input has
                    break
                raise
            fresh = {}
            for node in refused:
                place = _place(model, node, places)
                if place not in found:
                    fresh[place] = shorten(node.reason, 200)
            found.update(fresh)
            places = [i for i in range(len(model.proto.graph.node)) if i not in found]
            if not fresh or not places:
                break
            path = Path(scratch) / "rest.onnx"
            if not _write_rest(model, places, path):
                break
    for i, node in enumerate(model.proto.graph.node):
        if i not in found and (reason := _misread(node)):
            found[i] = reason
    return Support(f"{backend}'s parser", {model.node_keys[i]: found[i] for i in sorted(found)})


def _place(model: Model, refused: RefusedNode, places: Sequence[int]) -> int:
    """The node of the main graph: the one of that number, or the one whose subgraph holds it."""
    place = places[refused.index]
    node = model.proto.graph.node[place]
    if node.op_type == refused.op_type:
        return place
    for i in places:
        outer = model.proto.graph.node[i]
        if any(n.op_type == refused.op_type and n.name == refused.name for n in _inner_nodes(outer)):
            return i
    return place


def _inner_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    for graph in subgraphs_of(node):
        for inner in graph.node:
            yield inner
            yield from _inner_nodes(inner)


def _write_rest(model: Model, places: Sequence[int], path: Path) -> bool:
    """Writes the model of these nodes; what the others made becomes an input. False where a type is not known."""
    import onnx
    from onnx import external_data_helper, helper

    graph = model.proto.graph
    nodes = [graph.node[i] for i in places]
    made = {name for node in nodes for name in node.output}
    missing = dict.fromkeys(n for node in nodes for n in read_names(node) if n in model.producer and n not in made)
    if any(not model.value(name).dtype for name in missing):
        return False
    rest = onnx.ModelProto()
    rest.CopyFrom(model.proto)
    del rest.graph.node[:]
    del rest.graph.output[:]
    del rest.functions[:]
    rest.functions.extend(f for f in model.proto.functions if (f.domain, f.name) not in model.given_functions)
    rest.graph.node.extend(nodes)
    rest.graph.output.extend(o for o in graph.output if o.name in made)
    rest.graph.input.extend(
        helper.make_tensor_value_info(n, model.value(n).dtype, model.value(n).shape) for n in missing
    )
    if not rest.graph.output:
        last = nodes[-1].output[0]
        rest.graph.output.append(helper.make_tensor_value_info(last, model.value(last).dtype, model.value(last).shape))
    for tensor in all_tensors(rest.graph):
        if external_data_helper.uses_external_data(tensor):
            location = external_data_helper.ExternalDataInfo(tensor).location
            link = path.parent / location
            if not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(Path(model.base_dir) / location)
    path.write_bytes(rest.SerializeToString())
    return True


# --- the tables -------------------------------------------------------------------------------------------------------

_OLDEST: Mapping[str, Version] = {"8": (8, 2), "10": (10, 0), "11": (11, 0)}
"""What is generated for a release without a minor version must work with the oldest of it."""

# The input that holds an operator's data where it is not the first; -1: its first output.
_DATA_INPUT: Mapping[str, int] = {
    "BlackmanWindow": -1,
    "ConstantOfShape": -1,
    "EyeLike": -1,
    "HammingWindow": -1,
    "HannWindow": -1,
    "If": -1,
    "OneHot": 2,
    "RandomNormalLike": -1,
    "RandomUniformLike": -1,
    "Where": 1,
}


def by_table(model: Model, release: Release) -> Support:
    """What the tables say of the release, or of the oldest of its major version."""
    table = _Table(release)
    functions = {
        (f.domain, f.name): f for f in model.proto.functions if (f.domain, f.name) not in model.given_functions
    }
    varying = model.varying()
    refused = {}
    for key, node in zip(model.node_keys, model.proto.graph.node, strict=True):
        reason = table.refusal(model, node, functions, any(name in varying for name in node.output))
        if reason is not None:
            refused[key] = reason
    return Support(f"the operator table of {table.title}", refused)


@functools.cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Path(__file__).with_name("parser_operators.json").read_text())
    return data


class _Table:
    def __init__(self, release: Release) -> None:
        data = _data()
        self._without: frozenset[str] = frozenset()
        self._limits_of: Mapping[str, Any] = data["limits"]
        if release.key == "rtx":
            self.title = release.title
            self._version = _version(data["rtx"]["as"])
            self._without = frozenset(data["rtx"]["without"])
            self._limits_of = {**data["limits"], **data["rtx"]["limits"]}
        else:
            self._version = release.version or _OLDEST[release.key]
            self.title = "TensorRT " + ".".join(map(str, self._version))

    def refusal(
        self,
        model: Model,
        node: onnx.NodeProto,
        functions: Mapping[tuple[str, str], onnx.FunctionProto],
        varies: bool,
    ) -> str | None:
        """Why the node is not taken; None where it is. What no input decides is folded, so its types do not count."""
        reason = self._operator(node, functions, frozenset())
        if reason is not None or not varies or (node.domain, node.op_type) in functions:
            return reason
        return self._types(model, node) or self._limits(model, node)

    def _operator(
        self, node: onnx.NodeProto, functions: Mapping[tuple[str, str], onnx.FunctionProto], above: frozenset[Any]
    ) -> str | None:
        key = (node.domain, node.op_type)
        if node.op_type not in self._without and self._newest(_data()["operators"].get(node.op_type, {})) is not None:
            if reason := _misread(node):
                return reason
        elif key in functions and key not in above:
            if self._version < (9, 0):
                return "its parser does not expand local functions"
            return self._all(functions[key].node, functions, above | {key}, f"in the function {node.op_type}")
        shown = shorten(node.op_type if is_default_domain(node.domain) else f"{node.domain}::{node.op_type}", 80)
        since = _data()["operators"].get(node.op_type, {})
        known = node.op_type not in self._without and self._newest(since) is not None
        if not known and node.op_type not in TENSORRT_PLUGINS:
            first = next(iter(since), None)
            later = first is not None and _version(first) > self._version
            return f"its parser has no {shown}" + (f" before {first}" if later else "")
        inner = [n for graph in subgraphs_of(node) for n in graph.node]
        return self._all(inner, functions, above, f"inside {shown}")

    def _all(
        self,
        nodes: Iterable[onnx.NodeProto],
        functions: Mapping[tuple[str, str], onnx.FunctionProto],
        above: frozenset[Any],
        where: str,
    ) -> str | None:
        for node in nodes:
            reason = self._operator(node, functions, above)
            if reason is not None:
                return f"{shorten(where, 80)}: {reason}"
        return None

    def _newest(self, by_release: Mapping[str, Any]) -> Any:
        """The entry of the newest release that is not newer than this one; None where there is none."""
        found = None
        for release, entry in by_release.items():
            if _version(release) <= self._version:
                found = entry
        return found

    def _type(self, model: Model, name: str) -> str | None:
        """The type that the parser sees; None where it is not known."""
        dtype = model.value(name).dtype
        if not dtype:
            return None
        try:
            found = dtypes.from_onnx(dtype).name
        except UnsupportedError:
            return "a type that TensorRT has not"
        if found == "int64" and self._version < (9, 0):
            return "int32"  # what it casts int64 to
        return "float32" if found == "float64" else found

    def _types(self, model: Model, node: onnx.NodeProto) -> str | None:
        types = self._newest(_data()["operators"].get(node.op_type, {}))
        if not types:
            return None
        at = _DATA_INPUT.get(node.op_type, 0)
        names = [node.output[0] if at < 0 or at >= len(node.input) else node.input[at]]
        if node.op_type == "Cast":
            names.append(node.output[0])
        for name in names:
            found = self._type(model, name)
            if found is not None and found not in types:
                return f"its parser takes {node.op_type} of {', '.join(types)}, not of {found}"
        return None

    def _limits(self, model: Model, node: onnx.NodeProto) -> str | None:
        for limit in self._newest(self._limits_of.get(node.op_type, {})) or ():
            if reason := _broken(model, node, limit):
                return f"its parser takes {node.op_type} only {reason}"
        return None


def _version(text: str) -> Version:
    major, minor = text.split(".")
    return int(major), int(minor)


def _broken(model: Model, node: onnx.NodeProto, limit: Mapping[str, Any]) -> str | None:
    """What the limit asks for, as "only …", where the node does not keep to it."""
    from onnx import helper, numpy_helper

    def constant(index: int) -> Any:
        name = node.input[index] if index < len(node.input) else ""
        found = model.constants([name]) if name else {}
        return numpy_helper.to_array(found[name]) if found else None

    def given(index: int) -> bool:
        return index < len(node.input) and bool(node.input[index])

    def attribute(name: str) -> Any:
        value = next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    if "rank" in limit:
        low, high = limit["rank"]
        shape = model.value(node.input[0]).shape
        if shape is not None and not low <= len(shape) <= high:
            return f"with {low if low == high else f'{low} to {high}'} dimensions, not {len(shape)}"
    if "constant" in limit and given(limit["constant"]) and constant(limit["constant"]) is None:
        return f"with a constant input {limit['constant']}"
    if "zeros" in limit and given(limit["zeros"]):
        value = constant(limit["zeros"])
        if value is None or value.astype("float32").any():
            return f"where input {limit['zeros']} is zero"
    if "inputs" in limit and any(node.input[limit["inputs"] :]):
        return f"with {limit['inputs']} inputs"
    if "outputs" in limit:
        more = [n for n in node.output[limit["outputs"] :] if n]
        if any(n in model.readers or n in model.graph_outputs for n in more):
            return f"with {limit['outputs']} output{'s' * (limit['outputs'] > 1)}"
    if "ones" in limit and any(v != 1 for v in attribute(limit["ones"]) or ()):
        return f"where {limit['ones']} are 1"
    if "attribute" in limit:
        value = attribute(limit["attribute"])
        if value is not None and value not in limit["values"]:
            return f"where {limit['attribute']} is {' or '.join(map(str, limit['values']))}, not {shorten(value, 40)}"
    if "plain_equation" in limit:
        terms = str(attribute(limit["plain_equation"]) or "").replace(" ", "").replace("->", ",").split(",")
        if any("." in term or len(set(term)) < len(term) for term in terms):
            return "without ellipses and diagonals"
    return None
