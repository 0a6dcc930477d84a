"""Cuts requests out of a model as standalone ONNX models, and finds out which of them are the same computation.

Inside a cut-out model every name is canonical (`input_0`, `constant_1`, `output_0`, dimensions `d0`): equal
computations become equal models, whatever their tensors were called, and no stranger's name reaches the stages behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from plugin_autogen.errors import ModelError, SelectionError, UnsupportedError, shorten
from plugin_autogen.graph import borders
from plugin_autogen.graph.borders import Border, Crossing
from plugin_autogen.graph.constant_inputs import constant_inputs, run_time_data, run_time_shape
from plugin_autogen.graph.model import Model, Value, captured_names, read_names, subgraphs_of
from plugin_autogen.graph.selection import PluginRequest
from plugin_autogen.graph.shapes import Range
from plugin_autogen.graph.subgraph import BorderTensor, Subgraph
from plugin_autogen.releases import Interface, Release

if TYPE_CHECKING:
    import onnx
    import onnx_graphsurgeon as gs


@dataclass(frozen=True)
class PluginUse:
    """One place in the model where a plugin takes the place of nodes.

    Attributes:
        plugin: name of the `Subgraph`.
        node_names: keys of the nodes that it replaces, in the graph's order.
        inputs: tensors of the original graph, in the order of the subgraph's inputs.
        outputs: likewise.
    """

    plugin: str
    node_names: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Extraction:
    """What comes out of a model.

    Attributes:
        subgraphs: each plugin once.
        uses: where they stand, in the graph's order, each request once.
        release: the TensorRT release that the borders are for.
        borders: the border of each tensor that enters or leaves a plugin, by the tensor's name in the graph.
        warnings: one line each.
    """

    subgraphs: tuple[Subgraph, ...]
    uses: tuple[PluginUse, ...]
    release: Release
    borders: Mapping[str, Border] = field(repr=False)
    warnings: tuple[str, ...] = ()

    def subgraph(self, plugin: str) -> Subgraph:
        """The subgraph of this name."""
        return next(s for s in self.subgraphs if s.name == plugin)


@dataclass(frozen=True)
class _Cut:
    """A request's place in the graph: tensors that enter as data, as constants, and that leave."""

    request: PluginRequest
    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[str, ...]
    constants: Mapping[str, onnx.TensorProto] = field(repr=False)
    outputs: tuple[str, ...]
    shapes: frozenset[str] = frozenset()
    """Of the inputs, those of which only the values matter, as sizes."""


def extract(
    model: Model,
    requests: Sequence[PluginRequest],
    release: Release,
    *,
    allow_symbolic: bool = False,
    in_network: bool = True,
    ranges: Mapping[str, tuple[Range | None, ...]] | None = None,
) -> Extraction:
    """The plugins that the requests ask for, equal ones merged.

    Equal are: operators, domains, attributes, types and shapes of inputs and outputs, types at the border, and values
    of constants. A default plugin name gives way to the name of an equal plugin that comes before it or that the user
    named.

    Args:
        model: the model.
        requests: what `select` returned.
        release: the TensorRT release, which decides the types at the borders.
        allow_symbolic: let dimensions be unknown numbers; otherwise each must be a number.
        in_network: the plugins shall stand in the rewritten model, so refuse types that no network has around them,
            and plugins without inputs.
        ranges: tensor → range of each axis, for symbolic dimensions (`DynamicModel.ranges`). They do not tell plugins
            apart: one that serves several places has the range that holds all of theirs.

    Raises:
        ModelError: a type, rank or shape stays unknown.
        SelectionError: two different computations shall have one name.
        UnsupportedError: an input that must be constant is not, a type that cannot cross, nothing to compute
            at run time.
    """
    cuts = [_cut(model, request, in_network, release if allow_symbolic else None) for request in requests]
    _check_shapes(model, cuts)
    crossings = _crossings(model, cuts)
    decided = {name: borders.decide(model, crossing, release) for name, crossing in crossings.items()}
    if in_network:
        chosen = [key for request in requests for key in request.node_names]
        borders.check_network(model, crossings.values(), chosen, release)
    warnings = []
    for name, border in decided.items():
        lost = borders.loss(border)
        if lost:
            node = crossings[name].plugin_node
            warnings.append(
                f'node "{shorten(node)}": tensor "{shorten(name)}" is {border.dtype} and crosses the border of the '
                f"plugin as {border.border_dtype}: {lost}"
            )

    merged = _Merger()
    uses: dict[str, PluginUse] = {}
    # Names that the user chose come first, so that equal nodes with default names find them.
    for cut in sorted(cuts, key=lambda c: not c.request.is_named):
        subgraph = _build(model, cut, decided, allow_symbolic, ranges or {})
        plugin = merged.add(cut.request, subgraph)
        uses[cut.request.node_names[0]] = PluginUse(plugin, cut.request.node_names, cut.inputs, cut.outputs)
    ordered = tuple(uses[cut.request.node_names[0]] for cut in cuts)
    subgraphs = tuple(merged.plugins[name] for name in dict.fromkeys(use.plugin for use in ordered))
    return Extraction(subgraphs, ordered, release, decided, tuple(warnings))


def _label(model: Model, key: str) -> str:
    return f'node "{shorten(key)}" ({shorten(model.node(key).op_type, 60)})'


def _cut(model: Model, request: PluginRequest, in_network: bool, dynamic: Release | None) -> _Cut:
    """`dynamic`: the release whose plugins may have shapes that are not fixed; None: they must be."""
    keys = request.node_names
    nodes = tuple(model.node(key) for key in keys)
    indices = {model.index[key] for key in keys}
    made = {name for node in nodes for name in node.output if name}
    read = dict.fromkeys(name for node in nodes for name in read_names(node) if name not in made)
    constants = model.constants(read)
    shapes: set[str] = set()
    for key, node in zip(keys, nodes, strict=True):
        for i, role in constant_inputs(node).items():
            name = node.input[i] if i < len(node.input) else ""
            # What the request itself makes is the lowering's to fold, from constants and shapes.
            if not name or name in constants or name in made:
                continue
            why = "is made at run time"
            if dynamic is not None and dynamic.interface is not Interface.V3:
                why += f", and plugins of {dynamic.title} know no sizes but those of their inputs"
            elif dynamic is not None and i in run_time_data(node, constants):
                continue
            elif dynamic is not None and i == run_time_shape(node, constants):
                why = _no_shape_input(model, nodes, name, constants)
            if why:
                raise UnsupportedError(
                    f'{_label(model, key)}: input {i} ("{role}") must be constant, but "{shorten(name)}" {why}: make '
                    "it a constant of the model (polygraphy surgeon sanitize --fold-constants with fixed input shapes "
                    "often does)"
                )
            shapes.add(name)
    if in_network and all(name in constants for name in read):
        # TensorRT wants an input. Keep those as inputs that need not be constant: the network feeds them its constants.
        fixed = {n.input[i] for n in nodes for i in constant_inputs(n) if i < len(n.input)}
        constants = {n: t for n, t in constants.items() if n in fixed}
        if len(constants) == len(read):
            raise UnsupportedError(
                f"{_label(model, keys[0])}: all its inputs are constant, so that there is nothing to compute at run "
                "time: leave it to TensorRT, which folds it"
            )
    outputs = [name for node in nodes for name in node.output if name and _is_read(model, name, indices)]
    if not outputs:  # a node that nobody reads: the plugin still is one
        outputs = [name for node in nodes for name in node.output if name and not _is_read(model, name, set())]
    inputs = tuple(n for n in read if n not in constants)
    return _Cut(request, nodes, inputs, constants, tuple(outputs), frozenset(shapes))


def _check_shapes(model: Model, cuts: Sequence[_Cut]) -> None:
    made = {name for cut in cuts for name in cut.outputs}
    for cut in cuts:
        for name in cut.shapes & made:
            key = next(k for k, n in zip(cut.request.node_names, cut.nodes, strict=True) if name in n.input)
            raise UnsupportedError(
                f'{_label(model, key)}: the sizes in "{shorten(name)}" come from another plugin, and TensorRT infers '
                "shapes from its own nodes alone: leave those that compute them to TensorRT"
            )


def _no_shape_input(model: Model, nodes: Sequence[onnx.NodeProto], name: str, constants: Container[str]) -> str:
    """Why a tensor that is made at run time cannot be a shape input of these nodes' plugin; empty where it can."""
    from onnx import TensorProto

    value = model.value(name)
    if value.dtype != TensorProto.INT64 or value.shape is None or len(value.shape) != 1 or not value.is_static:
        return "is made at run time and no int64 tensor of one dimension and a known length"
    places = [(n, i) for n in nodes for i, read in enumerate(n.input) if read == name]
    as_data = any(i != run_time_shape(n, constants) for n, i in places)
    if as_data or any(name in captured_names(n) for n in nodes):
        return "is made at run time and read as data too inside the plugin"
    return ""


def _is_read(model: Model, name: str, outside: set[int]) -> bool:
    """Whether a node other than those at `outside`, or the graph's outputs, read the tensor."""
    return name in model.graph_outputs or any(i not in outside for i in model.readers.get(name, ()))


def _crossings(model: Model, cuts: Sequence[_Cut]) -> dict[str, Crossing]:
    owner = {key: cut for cut in cuts for key in cut.request.node_names}
    makers = {name: cut.request.node_names[0] for cut in cuts for name in cut.outputs}
    outputs = set(model.graph_outputs)
    found: dict[str, Crossing] = {}
    for cut in cuts:
        for name in (*cut.inputs, *cut.outputs):
            if name in found:
                continue
            maker = makers.get(name)
            plugins, natives = [], []
            for i in model.readers.get(name, ()):
                key = model.node_keys[i]
                reader = owner.get(key)
                if reader is None:
                    natives.append(key)
                elif name in reader.inputs:
                    plugins.append(key)
            found[name] = Crossing(name, maker, tuple(plugins), tuple(natives), name in outputs)
    return found


class _Dimensions:
    """Canonical names for the symbolic dimensions of one subgraph."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.count = 0

    def name(self, dim: int | str | None) -> int | str:
        if isinstance(dim, int):
            return dim
        if dim is None:
            self.count += 1
            return f"d{self.count - 1}"
        if dim not in self.names:
            self.names[dim] = f"d{self.count}"
            self.count += 1
        return self.names[dim]


def _shape(
    model: Model, name: str, key: str, dimensions: _Dimensions, allow_symbolic: bool
) -> tuple[int, tuple[int | str, ...]]:
    value: Value = model.value(name)
    remedy = (
        "give the model's inputs fixed shapes first, for example with "
        "polygraphy surgeon sanitize --override-input-shapes 'x:[1,3,224,224]' --fold-constants"
    )
    if value.kind == "tensor" and not value.dtype:
        raise ModelError(
            f'{_label(model, key)}: the type of tensor "{shorten(name)}" cannot be inferred: {model.why_untyped(name)}'
        )
    if value.shape is None:
        raise ModelError(f'{_label(model, key)}: not even the rank of tensor "{shorten(name)}" is known: {remedy}')
    if not allow_symbolic and not value.is_static:
        dims = ", ".join("?" if d is None else shorten(d, 30) for d in value.shape)
        raise ModelError(
            f'{_label(model, key)}: tensor "{shorten(name)}" has the shape ({dims}), not a fixed one: {remedy}'
        )
    return value.dtype, tuple(dimensions.name(d) for d in value.shape)


def _inner(value: Value, new_name: str, dimensions: _Dimensions, allow_symbolic: bool) -> gs.Variable:
    """A tensor inside the plugin: what is not known of it is left unstated, since the lowering folds more."""
    import onnx_graphsurgeon as gs

    known = value.is_static or (allow_symbolic and value.dtype and value.shape is not None)
    shape = [dimensions.name(d) for d in value.shape or ()] if known else None
    return gs.Variable(new_name, dtype=value.dtype or None, shape=shape)


def _build(
    model: Model,
    cut: _Cut,
    decided: Mapping[str, Border],
    allow_symbolic: bool,
    ranges: Mapping[str, tuple[Range | None, ...]],
) -> Subgraph:
    """The standalone model, made by onnx-graphsurgeon, and its borders."""
    import onnx_graphsurgeon as gs

    keys = cut.request.node_names
    dimensions = _Dimensions()
    names: dict[str, str] = {}
    for prefix, group in (("input", cut.inputs), ("constant", cut.constants), ("output", cut.outputs)):
        names.update((name, f"{prefix}_{i}") for i, name in enumerate(group))
    inner = [n for node in cut.nodes for n in node.output if n and n not in names]
    names.update((name, f"value_{i}") for i, name in enumerate(inner))

    tensors: dict[str, gs.Tensor] = {}
    stated: dict[str, tuple[int | str, ...]] = {}
    makers = {name: key for key, node in zip(keys, cut.nodes, strict=True) for name in node.output}
    for name in (*cut.inputs, *cut.outputs):
        dtype, stated[name] = _shape(model, name, makers.get(name, keys[0]), dimensions, allow_symbolic)
        tensors[name] = gs.Variable(names[name], dtype=dtype, shape=list(stated[name]))
    # Branches of an If may differ in shape, and inference then takes one: which one runs is for the lowering to say.
    conditional: set[str] = set()
    for node in cut.nodes:
        if any(subgraphs_of(node)) or conditional & set(read_names(node)):
            conditional.update(node.output)
    for name in inner:
        value = Value(model.value(name).dtype) if name in conditional else model.value(name)
        tensors[name] = _inner(value, names[name], dimensions, allow_symbolic)
    for name in cut.constants:
        tensors[name] = gs.Variable(names[name])

    def tensor(name: str) -> gs.Tensor:
        return tensors[name] if name else gs.Variable.empty()

    graph = gs.Graph(
        nodes=[
            gs.Node(
                op=node.op_type,
                name=f"node_{i}",
                inputs=[tensor(n) for n in _trimmed(node.input)],
                # Outputs that nobody reads stay, as positions matter and operators compute them along.
                outputs=[tensor(n) for n in _trimmed(node.output)],
                domain=node.domain or None,
            )
            for i, node in enumerate(cut.nodes)
        ],
        inputs=[tensors[n] for n in cut.inputs],
        outputs=[tensors[n] for n in cut.outputs],
        name="plugin",
        opset=model.opsets.get("", 1),
        import_domains=list(model.proto.opset_import),
        ir_version=max(model.proto.ir_version, 4),  # older ones want initializers among the inputs
    )
    proto: onnx.ModelProto = gs.export_onnx(graph)
    # Attributes, constants and local functions go over as they are: onnx-graphsurgeon rebuilds them from Python values,
    # in which the type of an empty list and element types such as int4 are lost.
    for exported, node in zip(proto.graph.node, cut.nodes, strict=True):
        for attribute in sorted(node.attribute, key=lambda a: a.name):
            copied = exported.attribute.add()
            copied.CopyFrom(attribute)
            copied.ClearField("doc_string")
        _rename(exported, names)
    for name, constant in cut.constants.items():
        copy = proto.graph.initializer.add()
        copy.CopyFrom(constant)
        copy.name = names[name]
        copy.ClearField("doc_string")
    proto.functions.extend(_needed_functions(model.proto, cut.nodes))
    known = [v for v in proto.graph.value_info if v.type.tensor_type.elem_type]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(known)

    def border(name: str) -> BorderTensor:
        b = decided[name]
        return BorderTensor(name, b.dtype, stated[name], b.border_dtype, b.encoding, name in cut.shapes)

    return Subgraph(
        name=cut.request.name,
        model=proto,
        inputs=tuple(border(n) for n in cut.inputs),
        outputs=tuple(border(n) for n in cut.outputs),
        node_names=keys,
        op_types=tuple(node.op_type for node in cut.nodes),
        ranges=_ranges_of([(stated[n], ranges[n]) for n in cut.inputs if n in ranges]),
    )


def _ranges_of(tensors: Iterable[tuple[Sequence[int | str], Sequence[Range | None]]]) -> dict[str, Range]:
    """The range of each symbol in the shapes; one that stands at several places has all that they may have."""
    found: dict[str, Range] = {}
    unknown: set[str] = set()
    for shape, ranges in tensors:
        for size, known in zip(shape, ranges, strict=True):
            if not isinstance(size, str):
                continue
            if known is None:
                unknown.add(size)
            else:
                found[size] = found[size].union(known) if size in found else known
    return {symbol: known for symbol, known in found.items() if symbol not in unknown}


def _trimmed(names: Sequence[str]) -> list[str]:
    """Without the omitted ones at the end, which say nothing."""
    trimmed = list(names)
    while trimmed and not trimmed[-1]:
        trimmed.pop()
    return trimmed


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Renames the outer tensors that the node's subgraphs capture."""
    captured = set(captured_names(node))
    if not captured:
        return
    mapping = {old: new for old, new in names.items() if old in captured}

    def inside(graph: onnx.GraphProto) -> None:
        for inner in graph.node:
            for i, name in enumerate(inner.input):
                inner.input[i] = mapping.get(name, name)
            for nested in subgraphs_of(inner):
                inside(nested)
        for output in graph.output:
            output.name = mapping.get(output.name, output.name)

    for graph in subgraphs_of(node):
        inside(graph)


def _needed_functions(proto: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.FunctionProto]:
    """The local functions that the nodes call, and those that these call."""
    functions: dict[tuple[str, str], list[onnx.FunctionProto]] = {}
    for function in proto.functions:  # several overloads may share a name
        functions.setdefault((function.domain, function.name), []).append(function)
    needed: set[tuple[str, str]] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        for graph in subgraphs_of(node):
            stack += graph.node
        key = (node.domain, node.op_type)
        if key in functions and key not in needed:
            needed.add(key)
            for function in functions[key]:
                stack += function.node
    return (f for f in proto.functions if (f.domain, f.name) in needed)


# --- equal computations -----------------------------------------------------------------------------------------------


def _digest(subgraph: Subgraph) -> str:
    """The same for equal computations with equal borders. The name and the tensors' original names do not count."""
    import onnx

    digest = hashlib.sha256()
    frame = onnx.ModelProto()
    frame.CopyFrom(subgraph.model)
    del frame.graph.initializer[:]
    digest.update(frame.SerializeToString(deterministic=True))
    for tensor in subgraph.model.graph.initializer:
        digest.update(repr((tensor.name, tensor.data_type, tuple(tensor.dims))).encode())
        digest.update(hashlib.sha256(_bytes(tensor)).digest())
    for t in (*subgraph.inputs, *subgraph.outputs):
        digest.update(f"{t.dtype} {t.border_dtype} {t.encoding.value} {t.shape} {t.is_shape};".encode())
    return digest.hexdigest()


def _bytes(tensor: onnx.TensorProto) -> bytes:
    """The tensor's values, however the file stores them."""
    from onnx import TensorProto, numpy_helper

    if tensor.data_type == TensorProto.STRING:
        return bytes(tensor.SerializeToString(deterministic=True))
    return bytes(tensor.raw_data) if tensor.HasField("raw_data") else numpy_helper.to_array(tensor).tobytes()


class _Merger:
    """Plugins by name and by what they compute."""

    def __init__(self) -> None:
        self.plugins: dict[str, Subgraph] = {}
        self.digests: dict[str, str] = {}
        self.by_digest: dict[str, str] = {}

    def add(self, request: PluginRequest, subgraph: Subgraph) -> str:
        """The name of the plugin that computes this subgraph."""
        digest = _digest(subgraph)
        if not request.is_named and digest in self.by_digest:
            return self._served(self.by_digest[digest], subgraph)
        if request.name in self.plugins:
            if self.digests[request.name] == digest:
                return self._served(request.name, subgraph)
            first = self.plugins[request.name]
            raise SelectionError(
                f'nodes "{shorten(first.node_names[0])}" and "{shorten(subgraph.node_names[0])}" shall both become '
                f'plugin "{request.name}" but differ in {_difference(first, subgraph)}: give them different names'
            )
        self.plugins[request.name] = subgraph
        self.digests[request.name] = digest
        self.by_digest.setdefault(digest, request.name)
        return request.name

    def _served(self, name: str, subgraph: Subgraph) -> str:
        """Lets the plugin of this name serve an equal subgraph too, with its ranges."""
        known = self.plugins[name]
        ranges = {s: r.union(subgraph.ranges[s]) for s, r in known.ranges.items() if s in subgraph.ranges}
        self.plugins[name] = replace(known, ranges=ranges)
        return name


def _difference(a: Subgraph, b: Subgraph) -> str:
    """What tells two subgraphs apart, in words."""
    if a.op_types != b.op_types:
        return f"their operators ({shorten(', '.join(a.op_types), 80)} and {shorten(', '.join(b.op_types), 80)})"
    for x, y in zip(a.model.graph.node, b.model.graph.node, strict=True):
        if x.domain != y.domain:
            return f'the operator\'s domain ("{shorten(x.domain, 60)}" and "{shorten(y.domain, 60)}")'
        if x.input != y.input or x.output != y.output:
            return "which inputs are given, constant or the same, or which outputs are used"
        first = {t.name: t for t in x.attribute}
        second = {t.name: t for t in y.attribute}
        for name in sorted(first.keys() | second.keys()):
            if first.get(name) != second.get(name):
                return f'attribute "{shorten(name, 60)}"'
    for kind, left, right in (("input", a.inputs, b.inputs), ("output", a.outputs, b.outputs)):
        for i, (s, t) in enumerate(zip(left, right, strict=True)):
            if s.dtype != t.dtype:
                return f"the type of {kind} {i} ({s.dtype} and {t.dtype})"
            if s.shape != t.shape:
                return f"the shape of {kind} {i} ({_shown(s.shape)} and {_shown(t.shape)})"
            if s.border_dtype != t.border_dtype:
                return f"the type in which {kind} {i} crosses the border ({s.border_dtype} and {t.border_dtype})"
    for i, (p, q) in enumerate(zip(a.model.graph.initializer, b.model.graph.initializer, strict=True)):
        if p.data_type != q.data_type or list(p.dims) != list(q.dims):
            return f"the type or shape of constant input {i}"
        if _bytes(p) != _bytes(q):
            return f"the values of constant input {i}"
    return "their computation"


def _shown(shape: Sequence[int | str]) -> str:
    return "x".join(map(str, shape)) or "scalar"
