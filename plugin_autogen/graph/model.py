"""The first stage: an ONNX file becomes a checked graph whose tensors have types and shapes.

The file's own `ModelProto` is kept as it is, apart from names for nodes that have none. What constants decide is found
out on copies: a skeleton without large weights for shapes, the slice of nodes above a tensor for its value. So no node
that the user may name is folded away, and models beyond protobuf's 2 GB need no special path: weights in external files
stay there until a plugin or the output needs them.
"""

from __future__ import annotations

import contextlib
import os
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugin_autogen.errors import ModelError, PluginAutogenError, shorten
from plugin_autogen.graph import naming

if TYPE_CHECKING:
    import onnx

SKELETON_BYTES = 64 * 1024
"""Initializers larger than this cannot decide a shape; the skeleton holds only their types and shapes."""

# Operators whose output depends on the shape of their input, never on its values.
_SHAPE_READERS = frozenset({"Shape", "Size"})
# Operators without inputs (or with shape-like ones) whose output is not a constant.
_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)


@dataclass(frozen=True)
class Value:
    """What is known of a tensor.

    Attributes:
        dtype: ONNX's number for it (`TensorProto.DataType`); 0 where unknown or no dense tensor.
        shape: ints, names of symbolic dimensions, None for a dimension of which nothing is known; None: rank unknown.
        kind: `tensor`, or ONNX's word for what it is instead (`sequence`, `optional`, `sparse tensor`).
    """

    dtype: int = 0
    shape: tuple[int | str | None, ...] | None = None
    kind: str = "tensor"

    @property
    def is_static(self) -> bool:
        """Type, rank and all dimensions are known numbers."""
        return self.dtype != 0 and self.shape is not None and all(isinstance(d, int) for d in self.shape)


_UNKNOWN = Value()


def is_default_domain(domain: str) -> bool:
    """Whether this domain is ONNX's own."""
    return domain in ("", "ai.onnx")


def subgraphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs among the node's attributes (the branches of If, the bodies of Loop and Scan)."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def captured_names(node: onnx.NodeProto) -> list[str]:
    """Names of the outer graph's tensors that the node's subgraphs read, each once."""
    found: dict[str, None] = {}
    for graph in subgraphs_of(node):
        own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
        own.update(t.values.name for t in graph.sparse_initializer)
        for inner in graph.node:
            found.update((n, None) for n in [*inner.input, *captured_names(inner)] if n and n not in own)
            own.update(inner.output)
        found.update((o.name, None) for o in graph.output if o.name not in own)
    return list(found)


def read_names(node: onnx.NodeProto) -> list[str]:
    """Names of all tensors of the node's graph that it reads, itself or in its subgraphs; omitted inputs left out."""
    return [n for n in node.input if n] + captured_names(node)


def all_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that the graph stores: initializers and attributes, those of subgraphs included."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for inner in subgraphs_of(node):
            yield from all_tensors(inner)


def external_bytes(tensor: onnx.TensorProto, base_dir: str | os.PathLike[str]) -> Iterator[bytes]:
    """The bytes of a tensor in an external file, in pieces.

    Raises:
        ModelError: the file is missing, shorter than the tensor, or outside the model's folder.
    """
    import math

    from onnx import external_data_helper, helper

    label = f'external data of tensor "{shorten(tensor.name)}"'
    try:
        info = external_data_helper.ExternalDataInfo(tensor)
        location = info.location
        offset = int(info.offset or 0)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        bits = {"int4": 4, "uint4": 4, "float4_e2m1fn": 4, "int2": 2, "uint2": 2}.get(dtype.name, 8 * dtype.itemsize)
        needed = (math.prod(tensor.dims) * bits + 7) // 8
        length = int(info.length or needed)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{label} is described wrongly ({shorten(error)}): export the model again") from error
    parts = Path(location or "/").parts
    if ".." in parts or Path(location or "/").is_absolute():
        raise ModelError(f'{label} lies at "{shorten(location)}", outside the folder of the model: move it there')
    try:
        with (Path(base_dir) / location).open("rb") as file:
            file.seek(offset)
            left = length
            while left and (piece := file.read(min(left, 1 << 24))):
                left -= len(piece)
                yield piece
    except (OSError, ValueError) as error:
        raise ModelError(f'{label} cannot be read from "{shorten(location)}": {shorten(error, 200)}') from error
    if left or length < needed:
        raise ModelError(f'{label} is cut short in "{shorten(location)}": copy the file again')


@dataclass
class Model:
    """A checked model with what was found out about it.

    Attributes:
        path: where it was read from.
        proto: the model; large weights may still lie in external files (`constants` loads them).
        values: type and shape of every tensor of the top-level graph.
        node_keys: one unique name for each top-level node, in the graph's order.
        warnings: one line each.
        given_functions: (domain, name) of the functions in `proto` that the file has not.
        type_of: tells types of foreign operators.
        told: the tensors whose types it told.
        type_errors: places of the nodes whose types a user's converter could not tell -> why.
    """

    path: Path
    proto: onnx.ModelProto
    values: dict[str, Value]
    node_keys: list[str]
    warnings: list[str] = field(default_factory=list)
    given_functions: frozenset[tuple[str, str]] = frozenset()
    type_of: TypeOf | None = field(default=None, repr=False)
    told: frozenset[str] = frozenset()
    type_errors: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.proto.graph
        self.index = {key: i for i, key in enumerate(self.node_keys)}
        self.producer: dict[str, int] = {}
        self.readers: dict[str, list[int]] = {}
        self.captured: set[str] = set()
        for i, node in enumerate(graph.node):
            for name in node.output:
                if name:
                    self.producer[name] = i
            for name in dict.fromkeys(read_names(node)):
                self.readers.setdefault(name, []).append(i)
            self.captured.update(captured_names(node))
        self.initializers = {t.name: t for t in graph.initializer}
        self.graph_inputs = [v.name for v in graph.input if v.name not in self.initializers]
        self.graph_outputs = [v.name for v in graph.output]
        self.opsets = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in self.proto.opset_import}
        self._folded: dict[str, onnx.TensorProto] = {}
        self._not_constant: set[str] = set()

    @property
    def base_dir(self) -> str:
        """The folder that external data's locations are relative to."""
        return str(self.path.resolve().parent)

    def node(self, key: str) -> onnx.NodeProto:
        """The node of this key."""
        return self.proto.graph.node[self.index[key]]

    def value(self, name: str) -> Value:
        """What is known of this tensor (nothing, for a name that the graph lacks)."""
        return self.values.get(name, _UNKNOWN)

    def why_untyped(self, name: str) -> str:
        """Why the type of this tensor is not known, and what to do: the first node above it that nobody can infer."""
        remedy = "state it in the value_info of the model"
        above: set[int] = set()
        stack = [name]
        while stack:
            index = self.producer.get(stack.pop())
            if index is not None and index not in above:
                above.add(index)
                stack += [n for n in read_names(self.proto.graph.node[index]) if _is_rankless(self.value(n))]
        for index in sorted(above):
            node = self.proto.graph.node[index]
            where = f'node "{shorten(self.node_keys[index])}"'
            if index in self.type_errors:
                return f"{where}: {self.type_errors[index]}"
            if not is_default_domain(node.domain):
                operator = shorten(f"{node.domain}::{node.op_type}", 80)
                return f"ONNX does not know {operator} of {where}: give it a meaning with --converters, or {remedy}"
        return remedy

    def tensor_names(self) -> set[str]:
        """Names of all tensors of the top-level graph, those of its subgraphs included (ONNX forbids shadowing)."""
        names: set[str] = set()

        def collect(graph: onnx.GraphProto) -> None:
            names.update(v.name for v in (*graph.input, *graph.output, *graph.value_info))
            names.update(t.name for t in graph.initializer)
            for node in graph.node:
                names.update(node.input)
                names.update(node.output)
                for inner in subgraphs_of(node):
                    collect(inner)

        collect(self.proto.graph)
        names.discard("")
        return names

    def constants(self, names: Iterable[str]) -> dict[str, onnx.TensorProto]:
        """The values of those tensors among `names` that are constant: initializers, Constant nodes, and what folds.

        The tensors returned hold their data (external data loaded). Raises `ModelError` where external data is broken.
        """
        wanted = [n for n in dict.fromkeys(names) if n]
        to_fold = []
        for name in wanted:
            if name in self._folded or name in self._not_constant or name in self.initializers:
                continue
            if name in self.producer and (tensor := _constant_node_value(self._producer_node(name))) is not None:
                tensor.name = name
                self._folded[name] = self._with_data(tensor)
            else:
                to_fold.append(name)
        if to_fold:
            self._fold(to_fold)
        return {
            n: self._with_data(self.initializers[n]) if n in self.initializers else self._folded[n]
            for n in wanted
            if n in self.initializers or n in self._folded
        }

    def _producer_node(self, name: str) -> onnx.NodeProto:
        return self.proto.graph.node[self.producer[name]]

    def _with_data(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        """The tensor itself, or a copy with its external data loaded."""
        import onnx
        from onnx import external_data_helper

        if not external_data_helper.uses_external_data(tensor):
            return tensor
        loaded = onnx.TensorProto()
        loaded.CopyFrom(tensor)
        loaded.raw_data = b"".join(external_bytes(tensor, self.base_dir))
        loaded.data_location = onnx.TensorProto.DEFAULT
        del loaded.external_data[:]
        return loaded

    def varying(self) -> set[str]:
        """Names of the tensors that depend on the values of a graph input or on chance."""
        varying = set(self.graph_inputs)
        for node in self.proto.graph.node:
            if node.op_type in _SHAPE_READERS and is_default_domain(node.domain):
                continue
            if node.op_type in _RANDOM or any(n in varying for n in read_names(node)):
                varying.update(n for n in node.output if n)
        return varying

    def _fold(self, names: list[str]) -> None:
        """Computes those of `names` that are constant, with Polygraphy's folding of the nodes above them."""
        import onnx
        from onnx import helper

        varying = self.varying()
        roots = [n for n in names if n not in varying and n in self.producer]
        self._not_constant.update(n for n in names if n not in roots)
        if not roots:
            return
        keep: set[int] = set()
        leaves: dict[str, None] = {}
        stack = list(roots)
        while stack:
            name = stack.pop()
            i = self.producer.get(name)
            if i is None or i in keep:
                continue
            keep.add(i)
            node = self.proto.graph.node[i]
            if node.op_type in _SHAPE_READERS and is_default_domain(node.domain):
                leaves.update((n, None) for n in node.input if n not in self.initializers)
            else:
                stack += read_names(node)
        nodes = [self.proto.graph.node[i] for i in sorted(keep)]
        made = {n for node in nodes for n in node.output}
        used = {n for node in nodes for n in read_names(node)}
        piece = helper.make_graph(
            nodes,
            "constants",
            [_value_info(n, self.value(n)) for n in leaves if n not in made],
            [_value_info(n, self.value(n)) for n in roots],
            [self._with_data(t) for t in self.proto.graph.initializer if t.name in used],
            value_info=[_value_info(n, self.value(n)) for n in made if n not in roots and self.value(n).dtype],
        )
        try:
            folded = _fold_constants(_same_versions(piece, self.proto))
        except ModelError as error:
            self.warnings.append(str(error))
            self._not_constant.update(roots)
            return
        found = {t.name: t for t in folded.graph.initializer}
        for node in folded.graph.node:
            tensor = _constant_node_value(node)
            if tensor is not None:
                tensor.name = node.output[0]
                found[tensor.name] = tensor
        for name in roots:
            if name in found:
                copy = onnx.TensorProto()
                copy.CopyFrom(found[name])
                self._folded[name] = copy
            else:
                self._not_constant.add(name)


TypeOf = Callable[["onnx.NodeProto", int, Sequence[Value], Mapping[str, "onnx.TensorProto"]], "list[Value] | None"]
"""Types of the outputs of a node of a foreign domain (`lowering.custom.output_types`)."""


def load_model(
    path: str | os.PathLike[str], functions: Sequence[onnx.FunctionProto] = (), type_of: TypeOf | None = None
) -> Model:
    """Reads and checks an ONNX file, names its unnamed nodes, and infers types and shapes.

    Args:
        path: the file.
        functions: definitions of foreign operators; those that the model needs and lacks become local functions.
        type_of: tells types and shapes of other foreign operators.

    Raises:
        ModelError: the file is missing, truncated or no ONNX model, its external data is missing, or `onnx.checker`
            refuses it (an operator that ONNX does not know in its own domain is let through with a warning: it may
            belong to a plugin library that the model relies on).
    """
    path = Path(path)
    shown = shorten(path, 160)
    warnings: list[str] = []
    proto = _read(path, shown)
    _check(path, proto, shown, warnings)
    node_keys = _name_nodes(proto.graph)
    _drop_placeholders(proto.graph)
    given = _add_functions(proto, functions)
    return _inferred(Model(path, proto, {}, node_keys, warnings, given, type_of))


def with_inputs(model: Model, shapes: Mapping[str, tuple[int | str | None, ...]]) -> Model:
    """The model with other shapes of graph inputs, all that follows from them inferred anew."""
    proto = with_input_shapes(model.proto, shapes)
    for info in [v for v in proto.graph.value_info if v.name in model.told]:
        proto.graph.value_info.remove(info)
    for info in proto.graph.output:
        if info.name in model.told:
            info.type.tensor_type.ClearField("shape")
    return _inferred(replace(model, proto=proto, node_keys=list(model.node_keys), told=frozenset()))


def _inferred(model: Model) -> Model:
    """The model with all types and shapes that ONNX and the users' converters tell, each from what the other told."""
    tried: set[int] = set()
    type_errors: dict[int, str] = {}
    told: set[str] = set()
    while True:
        warnings = list(model.warnings)
        values = infer(model.proto, warnings)
        found = replace(model, values=values, warnings=warnings, told=frozenset(told), type_errors=type_errors)
        if not (new := _state_types(found, tried)):
            return found
        told |= new


def _add_functions(proto: onnx.ModelProto, functions: Sequence[onnx.FunctionProto]) -> frozenset[tuple[str, str]]:
    """Adds the functions that the model calls and lacks, and those that they call; returns their (domain, name)."""
    own = {(f.domain, f.name) for f in proto.functions}
    available = {(f.domain, f.name): f for f in functions if (f.domain, f.name) not in own}
    added: set[tuple[str, str]] = set()
    stack = list(proto.graph.node) if available else []
    while stack:
        node = stack.pop()
        for graph in subgraphs_of(node):
            stack += graph.node
        key = (node.domain, node.op_type)
        if key in available and key not in added:
            added.add(key)
            proto.functions.append(available[key])
            stack += available[key].node
    imported = {o.domain for o in proto.opset_import}
    for function in proto.functions:
        for needed in function.opset_import:
            if needed.domain not in imported and (function.domain, function.name) in added:
                imported.add(needed.domain)
                proto.opset_import.append(needed)
    return frozenset(added)


def _state_types(model: Model, tried: set[int]) -> set[str]:
    """Writes types that ONNX's inference cannot know into the model; the tensors that got one."""
    functions = {(f.domain, f.name) for f in model.proto.functions}
    stated: set[str] = set()
    for i, node in enumerate(model.proto.graph.node if model.type_of is not None else ()):
        open_outputs = [n for n in node.output if n and _is_rankless(model.value(n))]
        if i in tried or not open_outputs or is_default_domain(node.domain):
            continue
        if (node.domain, node.op_type) in functions or any(_is_rankless(model.value(n)) for n in node.input if n):
            continue
        tried.add(i)
        inputs = [model.value(n) for n in node.input]
        assert model.type_of is not None
        try:
            found = model.type_of(node, model.opsets.get(node.domain, 1), inputs, model.constants(node.input))
        except PluginAutogenError as error:
            model.type_errors[i] = str(error)
            continue
        for name, value in zip(node.output, found or (), strict=False):
            if name and _is_rankless(model.value(name)):
                _state_type(model.proto.graph, name, value)
                stated.add(name)
    return stated


def _state_type(graph: onnx.GraphProto, name: str, value: Value) -> None:
    info = next((v for v in (*graph.output, *graph.value_info) if v.name == name), None)
    if info is None:
        graph.value_info.append(_value_info(name, value))
    else:
        info.CopyFrom(_value_info(name, value))


def _read(path: Path, shown: str) -> onnx.ModelProto:
    import onnx

    try:
        if not path.exists():
            raise ModelError(f"model {shown} does not exist: give the path of an ONNX file")
        if not path.is_file():
            raise ModelError(f"model {shown} is not a file: give the path of an ONNX file")
        if path.stat().st_size == 0:
            raise ModelError(f"model {shown} is empty: export or copy it again")
        proto = onnx.load_model(str(path), format="protobuf", load_external_data=False)
    except ModelError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise ModelError(f"model {shown} cannot be read: {shorten(error, 200)}") from error
    except Exception as error:  # protobuf's DecodeError, whose class depends on its implementation
        raise ModelError(f"model {shown} is truncated or no ONNX file: export or copy it again") from error
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output) or not proto.ir_version:
        raise ModelError(f"model {shown} is truncated or no ONNX file: it holds no graph")
    return proto


def _check(path: Path, proto: onnx.ModelProto, shown: str, warnings: list[str]) -> None:
    import onnx
    from onnx import external_data_helper

    for tensor in all_tensors(proto.graph):
        if external_data_helper.uses_external_data(tensor):
            location = external_data_helper.ExternalDataInfo(tensor).location
            if not location or not (path.resolve().parent / location).is_file():
                raise ModelError(
                    f'external data file "{shorten(location)}" of model {shown} is missing: '
                    "it must lie in the model's folder"
                )
    try:
        onnx.checker.check_model(str(path))
    except Exception as error:  # ValidationError, or whatever the parser behind it raises
        text = shorten(error, 240)
        if "Field 'shape' of" in text:  # graph outputs without a rank: runtimes take them, and inference finds it
            return
        if "No Op registered for" in text or "No opset import for domain" in text:
            warnings.append(f"onnx.checker does not know an operator of the model: {text}")
            return
        raise ModelError(f"model {shown} is not valid ONNX: {text}") from error


def _drop_placeholders(graph: onnx.GraphProto) -> None:
    """Dimensions that exporters call "?" are unknown ones, not all the same one."""
    for info in (*graph.input, *graph.output, *graph.value_info):
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param == "?":
                dim.Clear()


def _name_nodes(graph: onnx.GraphProto) -> list[str]:
    """Gives unnamed nodes the name `<op_type>_<index>`; returns a unique key for each node (its name, mostly)."""
    taken = {node.name for node in graph.node if node.name}
    keys: list[str] = []
    used: set[str] = set()
    for i, node in enumerate(graph.node):
        if not node.name:
            node.name = naming.unique(f"{node.op_type}_{i}", taken)
            taken.add(node.name)
        key = node.name
        if key in used:  # ONNX allows two nodes of one name
            key = naming.unique(key, used | taken)
        used.add(key)
        keys.append(key)
    return keys


# --- types and shapes -------------------------------------------------------------------------------------------------


def _value(type_proto: onnx.TypeProto) -> Value:
    kind = type_proto.WhichOneof("value")
    if kind not in ("tensor_type", None):
        return Value(kind=kind.removesuffix("_type").replace("_", " "))
    tensor = type_proto.tensor_type
    if not tensor.HasField("shape"):
        return Value(tensor.elem_type)
    dims: list[int | str | None] = []
    for dim in tensor.shape.dim:
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            dims.append(dim.dim_value)
        else:  # exporters also write -1 and empty names for dimensions that they do not know
            dims.append(dim.dim_param or None)
    return Value(tensor.elem_type, tuple(dims))


def _value_info(name: str, value: Value) -> onnx.ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(name, value.dtype, value.shape)


def _merge(known: Value | None, new: Value) -> Value:
    """`known`, with what only `new` tells."""
    if known is None or known.kind != new.kind:
        return known or new
    shape = known.shape
    if shape is None or (new.shape is not None and len(new.shape) != len(shape)):
        shape = shape or new.shape
    elif new.shape is not None:
        shape = tuple(_better(a, b) for a, b in zip(shape, new.shape, strict=True))
    return Value(known.dtype or new.dtype, shape, known.kind)


def _better(known: int | str | None, new: int | str | None) -> int | str | None:
    if isinstance(known, int) or new is None:
        return known
    return new if known is None or isinstance(new, int) else known


def _collect(graph: onnx.GraphProto, values: dict[str, Value], only: set[str] | None = None) -> None:
    """Merges the types and shapes that the graph states into `values`."""
    for info in (*graph.input, *graph.output, *graph.value_info):
        if only is None or info.name in only:
            values[info.name] = _merge(values.get(info.name), _value(info.type))


def with_input_shapes(proto: onnx.ModelProto, shapes: Mapping[str, tuple[int | str | None, ...]]) -> onnx.ModelProto:
    """A copy with other shapes of graph inputs. What the file states of tensors behind them is dropped with it: for
    outputs of operators that ONNX knows all but the type, else the sizes along axes that changed.
    """
    import onnx

    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    graph = changed.graph
    axes: set[int] = set()
    behind = set(shapes)
    for info in graph.input:
        if info.name in shapes:
            before = _value(info.type).shape or ()
            after = shapes[info.name]
            axes.update(i for i, size in enumerate(after) if i >= len(before) or before[i] != size)
            info.CopyFrom(_value_info(info.name, Value(info.type.tensor_type.elem_type, after)))
    foreign: set[str] = set()
    for node in graph.node:
        if any(name in behind for name in read_names(node)):
            behind.update(node.output)
            if not is_default_domain(node.domain):
                foreign.update(node.output)
    stated = [info for info in graph.value_info if info.name not in behind or info.name in foreign]
    stated = [onnx.ValueInfoProto.FromString(info.SerializeToString()) for info in stated]
    del graph.value_info[:]
    graph.value_info.extend(stated)
    for info in (*graph.value_info, *graph.output):
        if info.name not in behind or info.type.WhichOneof("value") != "tensor_type":
            continue
        for axis, dim in enumerate(info.type.tensor_type.shape.dim):
            if axis in axes or info.name not in foreign:
                dim.Clear()
    return changed


def infer(proto: onnx.ModelProto, warnings: list[str]) -> dict[str, Value]:
    """Type and shape of every tensor of the top-level graph, as far as they can be found out."""
    skeleton = _skeleton(proto)
    values: dict[str, Value] = {t.name: Value(t.data_type, tuple(t.dims)) for t in proto.graph.initializer}
    values.update((t.values.name, Value(kind="sparse tensor")) for t in proto.graph.sparse_initializer)
    names = {n for node in proto.graph.node for n in node.output if n}
    _collect(_onnx_inference(skeleton, warnings).graph, values)
    # What the file states comes second: it may be left over from other input shapes.
    stale = []
    for info in (*proto.graph.output, *proto.graph.value_info):
        stated, found = _value(info.type), values.get(info.name, _UNKNOWN)
        if stated.is_static and found.is_static and stated != found:
            stale.append(f'"{shorten(info.name)}" is {_shown(found)}, not {_shown(stated)}')
        values[info.name] = _merge(values.get(info.name), stated)
    if stale:
        warnings.append(f"types or shapes that the file states do not follow from its inputs: {stale[0]}")
        if len(stale) > 1:
            warnings[-1] += f", and {len(stale) - 1} more"

    def is_open() -> bool:
        return any(values.get(n, _UNKNOWN).kind == "tensor" and not values.get(n, _UNKNOWN).is_static for n in names)

    def infer_again() -> onnx.ModelProto:
        del skeleton.graph.value_info[:]
        known = ((n, values[n]) for n in names if n in values)
        skeleton.graph.value_info.extend(_value_info(n, v) for n, v in known if v.kind == "tensor" and v.dtype)
        inferred = _onnx_inference(skeleton, warnings)
        _collect(inferred.graph, values, names)
        return inferred

    if not is_open():
        return values
    inferred = infer_again()
    if is_open():
        # A shape that a computation on constants or static shapes decides shows only once that is folded.
        try:
            folded = _onnx_inference(_fold_constants(inferred), warnings)
        except ModelError as error:
            warnings.append(str(error))
            return values
        _collect(folded.graph, values, names)
        for tensor in folded.graph.initializer:
            if tensor.name in names:
                values[tensor.name] = _merge(values.get(tensor.name), Value(tensor.data_type, tuple(tensor.dims)))
        inferred = infer_again()  # what lies beside the folded computation
        # ONNX Runtime's symbolic inference knows its own operators (com.microsoft) and more of dynamic shapes, but can
        # take ten seconds: only where not even the rank is known.
        if any(_is_rankless(values.get(n, _UNKNOWN)) for n in names):
            _collect(_runtime_inference(folded).graph, values, names)
    return values


def _shown(value: Value) -> str:
    """Type and shape for messages: `float32 (1, 3)`."""
    from onnx import TensorProto

    name = TensorProto.DataType.Name(value.dtype).lower() if value.dtype in TensorProto.DataType.values() else "?"
    return f"{name} ({', '.join(map(str, value.shape or ()))})"


def _is_rankless(value: Value) -> bool:
    return value.kind == "tensor" and (value.dtype == 0 or value.shape is None)


def _skeleton(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model for shape inference: large and external weights are graph inputs, only inputs have stated shapes."""
    import onnx
    from onnx import external_data_helper

    graph = onnx.GraphProto(name=proto.graph.name or "graph")
    graph.node.extend(proto.graph.node)
    for node in graph.node:
        # ONNX's inference takes 0 for the default, its specification says 1
        if (
            node.op_type == "STFT"
            and is_default_domain(node.domain)
            and not any(a.name == "onesided" for a in node.attribute)
        ):
            node.attribute.append(onnx.helper.make_attribute("onesided", 1))
    graph.output.extend(proto.graph.output)
    for output in graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    stated: set[str] = set()
    for tensor in proto.graph.initializer:
        if external_data_helper.uses_external_data(tensor) or tensor.ByteSize() > SKELETON_BYTES:
            graph.input.append(_value_info(tensor.name, Value(tensor.data_type, tuple(tensor.dims))))
        else:
            graph.initializer.append(tensor)
        stated.add(tensor.name)
    graph.input.extend(v for v in proto.graph.input if v.name not in stated)
    return _same_versions(graph, proto)


def _same_versions(graph: onnx.GraphProto, proto: onnx.ModelProto) -> onnx.ModelProto:
    """A model of this graph with the versions, domains and local functions of `proto`."""
    import onnx

    model = onnx.ModelProto(ir_version=proto.ir_version)
    model.opset_import.extend(proto.opset_import)
    model.functions.extend(proto.functions)
    model.graph.CopyFrom(graph)
    if model.ir_version < 4:  # before IR version 4 an initializer had to be a graph input too
        model.ir_version = 4
    return model


def _onnx_inference(proto: onnx.ModelProto, warnings: list[str]) -> onnx.ModelProto:
    from plugin_autogen.shape_inference import infer_shapes

    try:
        return infer_shapes(proto)
    except Exception as error:
        warnings.append(f"ONNX's shape inference failed: {shorten(error, 200)}")
        return proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Polygraphy and onnx-graphsurgeon print to the terminal; inside, only what is fatal."""
    from onnx_graphsurgeon.logger import G_LOGGER as surgeon
    from polygraphy.logger import G_LOGGER as polygraphy

    severity: Any = surgeon.severity
    surgeon.severity = surgeon.CRITICAL
    try:
        with polygraphy.verbosity(polygraphy.CRITICAL):
            yield
    finally:
        surgeon.severity = severity


def _fold_constants(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with constants folded by Polygraphy (ONNX Runtime underneath). What cannot be computed stays as it is."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    _spell_constants(copy.graph)
    _slice_shapes(copy.graph)
    _shield_casts(copy.graph)
    try:
        with _quiet():
            from polygraphy.backend.onnx import FoldConstants

            return FoldConstants(
                copy, partitioning="recursive", error_ok=True, allow_onnxruntime_shape_inference=False
            )()
    except Exception as error:
        raise ModelError(f"folding constants failed: {shorten(error, 200)}") from error


def _spell_constants(graph: onnx.GraphProto) -> None:
    """Writes the values of Constant nodes as tensors: onnx-graphsurgeon takes a `value_float` for float64."""
    import onnx

    for node in graph.node:
        for inner in subgraphs_of(node):
            _spell_constants(inner)
        tensor = _constant_node_value(node)
        if tensor is not None:
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("value", tensor))


def _slice_shapes(graph: onnx.GraphProto) -> None:
    """Writes `Shape` with a start or an end as a Slice of the whole shape: onnx-graphsurgeon folds it as the whole."""
    import onnx
    from onnx import helper

    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for inner in subgraphs_of(node):
            _slice_shapes(inner)
        bounds = {a.name: a.i for a in node.attribute}
        if node.op_type != "Shape" or not is_default_domain(node.domain) or not bounds:
            nodes.append(node)
            continue
        result = node.output[0]
        whole, start, end = (f"{result}_{part}" for part in ("before_slice", "slice_start", "slice_end"))
        for name, value in ((start, bounds.get("start", 0)), (end, bounds.get("end", 2**63 - 1))):
            nodes.append(helper.make_node("Constant", [], [name], value_ints=[value]))
        nodes.append(helper.make_node("Shape", list(node.input), [whole]))
        nodes.append(helper.make_node("Slice", [whole, start, end], [result]))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _shield_casts(graph: onnx.GraphProto) -> None:
    """Puts an Identity behind each Cast.

    onnx-graphsurgeon, which Polygraphy folds with, drops the Casts of `int -> float -> Mul by 0.5 -> int` and
    multiplies by 0 (it casts the constant, for the sake of TensorRT's shape tensors), but only where the Cast is the
    direct neighbour.
    """
    import onnx

    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for inner in subgraphs_of(node):
            _shield_casts(inner)
        nodes.append(node)
        if node.op_type == "Cast" and is_default_domain(node.domain):
            result = node.output[0]
            node.output[0] = f"{result}_before_identity"
            nodes.append(onnx.helper.make_node("Identity", [node.output[0]], [result]))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


@contextlib.contextmanager
def _nothing_saved() -> Iterator[None]:
    """ONNX Runtime's symbolic inference saves a model that it gives up on in the current folder; not inside this."""
    import onnx
    from onnxruntime.tools import symbolic_shape_infer as module

    namespace = {**vars(onnx), "save_model": lambda *args, **options: None}
    module.onnx = types.SimpleNamespace(**namespace)
    try:
        yield
    finally:
        module.onnx = onnx


def _runtime_inference(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the types and shapes that ONNX Runtime's symbolic inference finds (unchanged where it fails)."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    with _quiet(), _nothing_saved():
        from polygraphy.backend.onnx import InferShapes

        return InferShapes(copy, error_ok=True, allow_onnxruntime=True)()


def _constant_node_value(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The value of a Constant node as a fresh tensor; None for any other node and for sparse or string values."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    if node.op_type != "Constant" or not is_default_domain(node.domain):
        return None
    for attribute in node.attribute:
        if attribute.name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(attribute.t)
            return tensor
        if attribute.name == "value_float":
            return numpy_helper.from_array(np.array(attribute.f, np.float32))
        if attribute.name == "value_floats":
            return numpy_helper.from_array(np.array(list(attribute.floats), np.float32))
        if attribute.name == "value_int":
            return numpy_helper.from_array(np.array(attribute.i, np.int64))
        if attribute.name == "value_ints":
            return numpy_helper.from_array(np.array(list(attribute.ints), np.int64))
    return None
