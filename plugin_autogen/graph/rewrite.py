"""Puts the plugins into the model, with Casts around them where types differ, and writes it.

A plugin's node is in a domain of our own, so that `onnx.checker` passes; TensorRT's parser goes by the operator's name
alone (tried with TensorRT-RTX 1.7; read in the parser's sources of 8.2 to 10.1).
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from plugin_autogen.dtypes import ElementType
from plugin_autogen.errors import OutputError, shorten
from plugin_autogen.graph import borders, naming
from plugin_autogen.graph.borders import Border
from plugin_autogen.graph.extract import Extraction, PluginUse
from plugin_autogen.graph.model import Model, all_tensors, external_bytes, read_names
from plugin_autogen.graph.subgraph import Encoding

if TYPE_CHECKING:
    import onnx

DOMAIN = "plugin_autogen"
DOMAIN_VERSION = 1
PLUGIN_VERSION = "1"
PLUGIN_NAMESPACE = ""
LIBRARIES_KEY = "plugin_autogen.libraries"
"""Of the metadata: the plugin libraries, a JSON list of paths relative to the model's folder."""

SHAPE_INPUTS = "tensorrt_plugin_shape_input_indices"
"""Attribute by which TensorRT's parser (10 and later) knows the plugin's inputs that are shape tensors."""

PROTOBUF_LIMIT = 2**31 - 2**20
"""Bytes that a model in one file may have, with room for what serializing adds."""
EXTERNAL_BYTES = 1024
"""Tensors smaller than this stay in the model file."""
_ALIGNMENT = 4096  # of tensors in the data file, so that readers can map them


def rewrite(
    model: Model,
    extraction: Extraction,
    fingerprints: Mapping[str, str],
    sizes: Mapping[str, Sequence[ElementType]] | None = None,
) -> onnx.ModelProto:
    """The model with each use of a plugin in the place of its nodes.

    Args:
        model: the model; it is left as it is.
        extraction: what `extract` returned for it.
        fingerprints: plugin name -> `PluginPlan.fingerprint`, which the library compares when the engine is built.
        sizes: plugin name -> types of the scalars that it has as outputs behind its others: sizes that the data decide.

    Returns:
        A model whose names of inputs, outputs and untouched nodes are those of `model`. Weights in external files are
        still there; `save_model` takes them along.
    """
    import onnx

    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    _Rewriter(model, extraction, fingerprints, sizes or {}, proto).run()
    _keep(proto.functions, lambda f: (f.domain, f.name) not in model.given_functions)
    if all(o.domain != DOMAIN for o in proto.opset_import):
        proto.opset_import.append(onnx.helper.make_opsetid(DOMAIN, DOMAIN_VERSION))
    return proto


def name_libraries(proto: onnx.ModelProto, libraries: Sequence[Path], folder: Path) -> None:
    """Writes into the metadata which libraries the model needs.

    Args:
        proto: the rewritten model.
        libraries: the files.
        folder: where the model will lie.
    """
    _keep(proto.metadata_props, lambda entry: entry.key != LIBRARIES_KEY)
    paths = [Path(os.path.relpath(library.resolve(), folder.resolve())).as_posix() for library in libraries]
    proto.metadata_props.add(key=LIBRARIES_KEY, value=json.dumps(paths))


class _Rewriter:
    def __init__(
        self,
        model: Model,
        extraction: Extraction,
        fingerprints: Mapping[str, str],
        sizes: Mapping[str, Sequence[ElementType]],
        proto: onnx.ModelProto,
    ) -> None:
        self.model = model
        self.extraction = extraction
        self.fingerprints = fingerprints
        self.sizes = sizes
        self.proto = proto
        self.names = model.tensor_names()
        self.node_names = {node.name for node in proto.graph.node}
        self.replaced = {model.index[key] for use in extraction.uses for key in use.node_names}
        self.made = {name for use in extraction.uses for name in use.outputs}
        self.carriers: dict[str, str] = {}
        self.new_info: list[onnx.ValueInfoProto] = []

    def run(self) -> None:
        graph = self.proto.graph
        # A plugin stands where the last of its nodes stood.
        places = {max(self.model.index[key] for key in use.node_names): use for use in self.extraction.uses}
        nodes: list[onnx.NodeProto] = []
        for i, node in enumerate(self.model.proto.graph.node):
            if i in places:
                nodes += self._plugin(places[i])
            elif i not in self.replaced:
                nodes.append(self._untouched(i, node))
        nodes = self._without_dead(_sorted(nodes))
        del graph.node[:]
        graph.node.extend(nodes)
        self._remove_unused()

    def _carrier(self, name: str) -> str:
        """The tensor that carries `name` across the border: itself, or one in the border's type."""
        border = self.extraction.borders[name]
        if border.encoding is Encoding.SAME:
            return name
        if name not in self.carriers:
            how = "bits_as" if border.encoding is Encoding.BITS else "as"
            carrier = naming.unique(f"{naming.bounded(name)}_{how}_{border.border_dtype}", self.names)
            self.names.add(carrier)
            self.carriers[name] = carrier
        return self.carriers[name]

    def _info(self, name: str, original: str, onnx_type: int) -> None:
        from onnx import helper

        shape = self.model.value(original).shape
        self.new_info.append(helper.make_tensor_value_info(name, onnx_type, shape))

    def _cast(self, source: str, target: str, to: int) -> onnx.NodeProto:
        from onnx import helper

        name = naming.unique(f"cast_{naming.bounded(target)}", self.node_names)
        self.node_names.add(name)
        return helper.make_node("Cast", [source], [target], name=name, to=to)

    def _plugin(self, use: PluginUse) -> Iterator[onnx.NodeProto]:
        """The plugin's node, after the Casts that its inputs need and before those that its outputs need."""
        from onnx import helper

        for name in use.inputs:
            border = self.extraction.borders[name]
            if border.encoding is Encoding.SAME or name in self.made or name in self.carriers:
                continue
            yield self._cast(self._source(name, border), self._carrier(name), border.border_dtype.onnx)
            self._info(self.carriers[name], name, border.border_dtype.onnx)
        first = self.model.node(use.node_names[0])
        node = helper.make_node(
            use.plugin,
            [self._carrier(n) for n in use.inputs],
            [*(self._carrier(n) for n in use.outputs), *self._sizes(use)],
            name=self._node_name(first.name),
            domain=DOMAIN,
            plugin_version=PLUGIN_VERSION,
            plugin_namespace=PLUGIN_NAMESPACE,
            fingerprint=self.fingerprints[use.plugin],
        )
        shapes = [i for i, t in enumerate(self.extraction.subgraph(use.plugin).inputs) if t.is_shape]
        if shapes:
            node.attribute.append(helper.make_attribute(SHAPE_INPUTS, shapes))
        yield node
        for name in use.outputs:
            border = self.extraction.borders[name]
            self._info(self._carrier(name), name, border.border_dtype.onnx)
            if border.encoding is not Encoding.SAME and self._is_wanted(name):
                yield self._cast(self.carriers[name], name, border.dtype.onnx)
                self._info(name, name, border.dtype.onnx)

    def _sizes(self, use: PluginUse) -> Iterator[str]:
        """The tensors of sizes that the data decide: TensorRT wants them as outputs, and nobody reads them."""
        from onnx import helper

        for dtype in self.sizes.get(use.plugin, ()):
            name = naming.unique(f"{naming.bounded(use.outputs[0])}_size", self.names)
            self.names.add(name)
            self.new_info.append(helper.make_tensor_value_info(name, dtype.onnx, ()))
            yield name

    def _node_name(self, original: str) -> str:
        """The replaced node's name, or a shorter one where TensorRT would refuse its length."""
        name = naming.bounded(original)
        if name != original:
            name = naming.unique(name, self.node_names)
            self.node_names.add(name)
        return name

    def _source(self, name: str, border: Border) -> str:
        """What the Cast before a plugin reads: `name`, or what a Cast to a type that TensorRT lacks reads."""
        if border.dtype not in borders.absent(self.extraction.release):
            return name
        source = borders.cast_source(self.model, name)
        if source is None:
            return name
        return self._carrier(source) if source in self.made else source

    def _is_wanted(self, name: str) -> bool:
        """Whether something that is neither plugin nor Cast reads the tensor in its own type."""
        if name in self.model.graph_outputs or name in self.model.captured:
            return True
        return any(
            i not in self.replaced and not borders.is_cast(self.model, i) for i in self.model.readers.get(name, ())
        )

    def _untouched(self, index: int, node: onnx.NodeProto) -> onnx.NodeProto:
        """The node itself; a Cast of a plugin's output reads the border's tensor, which holds the same values."""
        import onnx

        name = node.input[0] if node.input else ""
        if name not in self.made or name not in self.carriers or not borders.is_cast(self.model, index):
            return node
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[0] = self.carriers[name]
        return copy

    def _without_dead(self, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
        """Without the nodes that only baked-in inputs and bypassed Casts needed (a Constant, a Shape, its Gather)."""
        kept: list[onnx.NodeProto] = []
        read = {output.name for output in self.proto.graph.output}
        read_before = read | self.model.readers.keys()
        for node in reversed(nodes):
            outputs = [n for n in node.output if n]
            was_read = any(n in read_before for n in outputs)
            if was_read and node.domain != DOMAIN and not any(n in read for n in outputs):
                continue
            kept.append(node)
            read.update(read_names(node))
        return kept[::-1]

    def _remove_unused(self) -> None:
        graph = self.proto.graph
        read = {output.name for output in graph.output}
        made = set()
        for node in graph.node:
            read.update(read_names(node))
            made.update(node.output)
        initializers = {t.name for t in graph.initializer}
        _keep(graph.initializer, lambda t: t.name in read)
        _keep(graph.sparse_initializer, lambda t: t.values.name in read)
        unused = initializers - read
        _keep(graph.input, lambda v: v.name not in unused)
        known = made | read | {v.name for v in graph.input}
        fresh = {v.name for v in self.new_info}
        outputs = {o.name for o in graph.output}
        _keep(graph.value_info, lambda v: v.name in known and v.name not in fresh)
        graph.value_info.extend(v for v in self.new_info if v.name not in outputs)
        _keep(graph.quantization_annotation, lambda q: q.tensor_name in known)


def _sorted(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Each node behind the nodes that it reads from, otherwise in the order given.

    A plugin that stands for several nodes comes with the last of them, and the first ones' readers may stand before it.
    """
    maker = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    waits = [{maker[n] for n in read_names(node) if n in maker} for node in nodes]
    readers: dict[int, list[int]] = {}
    for i, makers in enumerate(waits):
        for m in makers:
            readers.setdefault(m, []).append(i)
    ready = [i for i, makers in enumerate(waits) if not makers]
    ordered = []
    while ready:
        i = heapq.heappop(ready)
        ordered.append(nodes[i])
        for reader in readers.get(i, ()):
            waits[reader].discard(i)
            if not waits[reader]:
                heapq.heappush(ready, reader)
    return ordered


def _keep(repeated: Any, wanted: Callable[[Any], bool]) -> None:
    """Removes the elements that are not wanted, in place (a repeated field cannot be assigned)."""
    for i in range(len(repeated) - 1, -1, -1):
        if not wanted(repeated[i]):
            del repeated[i]


# --- writing ----------------------------------------------------------------------------------------------------------


def save_model(
    proto: onnx.ModelProto, path: str | os.PathLike[str], base_dir: str | os.PathLike[str] | None = None
) -> None:
    """Writes the model; the file appears whole or not at all.

    Weights go to `<name>.data` beside it when some of them lie in external files already, or when one file could not
    hold them. `proto` is left as it is.

    Args:
        proto: the model.
        path: the file; missing folders are made.
        base_dir: the folder that the model's external data lies in (`Model.base_dir`).

    Raises:
        OutputError: the folder or file cannot be written.
        ModelError: external data cannot be read.
    """
    import onnx
    from onnx import external_data_helper

    path = Path(path)
    external = any(map(external_data_helper.uses_external_data, all_tensors(proto.graph)))
    if external or proto.ByteSize() > PROTOBUF_LIMIT:
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        with _whole_file(path.with_name(path.name + ".data")) as data, _whole_file(path) as file:
            _move_out(copy, data, path.name + ".data", Path(base_dir or "."))
            file.write(copy.SerializeToString())
    else:
        content = proto.SerializeToString()
        with _whole_file(path) as file:
            file.write(content)


def _move_out(proto: onnx.ModelProto, data: IO[bytes], location: str, base_dir: Path) -> None:
    """Appends the large tensors' bytes to the data file and leaves a reference to them in the model."""
    import onnx
    from onnx import external_data_helper

    for tensor in all_tensors(proto.graph):
        if external_data_helper.uses_external_data(tensor):
            chunks = external_bytes(tensor, base_dir)
        elif tensor.HasField("raw_data") and len(tensor.raw_data) >= EXTERNAL_BYTES:
            chunks = iter((tensor.raw_data,))
        else:
            continue
        data.write(bytes(-data.tell() % _ALIGNMENT))
        offset = data.tell()
        for chunk in chunks:
            data.write(chunk)
        tensor.ClearField("raw_data")
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", data.tell() - offset)):
            tensor.external_data.add(key=key, value=str(value))


@contextlib.contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name once it is complete. Raises `OutputError` where the system refuses."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise OutputError(f"{shorten(path, 160)} is a folder: give the path of a file")
        # Not tempfile's: its files are readable by their owner alone.
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        with temporary.open("xb") as file:
            yield file
        os.replace(temporary, path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise OutputError(
            f"cannot write {shorten(path, 160)}: {shorten(reason)}: choose a folder that is writable"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError, ValueError):
                temporary.unlink(missing_ok=True)
