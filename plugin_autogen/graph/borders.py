"""In which type each tensor travels between a plugin and its neighbours.

What TensorRT's parser and builder accept was tried with TensorRT-RTX 1.7 (and agrees with the ONNX parser's sources
of 8.6 and 10.1):
- uint8 is taken as a graph input that a Cast reads and as the output of a Cast that is a graph output, nowhere else.
- double is taken at the graph's border and in Casts; the network computes it in float32.
- int16, uint16, uint32, uint64 and float8_e5m2 are refused everywhere, in Casts too: only another plugin can be the
  neighbour. A Cast node beside the plugin can be: it is left out, and a Cast to the wider type takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from plugin_autogen import dtypes
from plugin_autogen.dtypes import ElementType
from plugin_autogen.errors import ModelError, UnsupportedError, shorten
from plugin_autogen.graph.model import Model, is_default_domain
from plugin_autogen.graph.subgraph import Encoding
from plugin_autogen.releases import Interface, Release

_ABSENT = frozenset(
    {
        dtypes.UINT8,
        dtypes.INT16,
        dtypes.UINT16,
        dtypes.UINT32,
        dtypes.UINT64,
        dtypes.INT4,  # weights only
        dtypes.UINT4,
        dtypes.FLOAT8_E5M2,
    }
)
_ABSENT_V2 = _ABSENT | {dtypes.BFLOAT16, dtypes.FLOAT8_E4M3FN}

# The first of these types that the release takes at a plugin's border carries the values.
_CARRIERS: Mapping[ElementType, tuple[ElementType, ...]] = {
    dtypes.BOOL: (dtypes.INT32,),
    dtypes.UINT8: (dtypes.INT32,),
    dtypes.INT16: (dtypes.INT32,),
    dtypes.UINT16: (dtypes.INT32,),
    dtypes.UINT32: (dtypes.INT64, dtypes.INT32),
    dtypes.UINT64: (dtypes.INT64, dtypes.INT32),
    dtypes.INT64: (dtypes.INT32,),
    dtypes.INT4: (dtypes.INT8,),
    dtypes.UINT4: (dtypes.INT8,),
    dtypes.FLOAT64: (dtypes.FLOAT32,),
    dtypes.BFLOAT16: (dtypes.FLOAT32,),
    dtypes.FLOAT8_E4M3FN: (dtypes.FLOAT16,),
    dtypes.FLOAT8_E5M2: (dtypes.FLOAT16,),
}

_LOSSES: Mapping[tuple[ElementType, ElementType], str] = {
    (dtypes.INT64, dtypes.INT32): "values beyond 2^31 are lost",
    (dtypes.UINT32, dtypes.INT32): "values beyond 2^31 come out negative in TensorRT's own layers",
    (dtypes.UINT64, dtypes.INT64): "values beyond 2^63 come out negative in TensorRT's own layers",
    (dtypes.UINT64, dtypes.INT32): "values beyond 2^31 are lost",
    (dtypes.FLOAT64, dtypes.FLOAT32): "digits beyond float32's 24 bits are lost",
}


@dataclass(frozen=True)
class Border:
    """How a tensor crosses: its ONNX type, the type that TensorRT sees, and the way from one to the other."""

    dtype: ElementType
    border_dtype: ElementType
    encoding: Encoding = Encoding.SAME


@dataclass(frozen=True)
class Crossing:
    """A tensor that enters or leaves a plugin.

    Attributes:
        name: the tensor.
        maker: the node key of the plugin's node that makes it; None where TensorRT does (or the graph's input).
        plugin_readers: node keys of the readers that are plugins.
        native_readers: node keys of the readers that stay TensorRT's.
        is_graph_output: the tensor is an output of the graph.
    """

    name: str
    maker: str | None
    plugin_readers: tuple[str, ...]
    native_readers: tuple[str, ...]
    is_graph_output: bool

    @property
    def is_private(self) -> bool:
        """Made and read by plugins alone."""
        return self.maker is not None and not self.native_readers and not self.is_graph_output

    @property
    def plugin_node(self) -> str:
        """A plugin's node that touches it, for messages."""
        return self.maker or self.plugin_readers[0]


def element_type(model: Model, name: str, node_key: str) -> ElementType:
    """The tensor's element type.

    Raises:
        ModelError: it is not known.
        UnsupportedError: a plugin cannot hold it.
    """
    value = model.value(name)
    where = f'node "{shorten(node_key)}" ({shorten(model.node(node_key).op_type, 60)})'
    if value.kind != "tensor":
        raise UnsupportedError(
            f'{where}: its tensor "{shorten(name)}" is a {value.kind}, which TensorRT has not: select other nodes'
        )
    if not value.dtype:
        raise ModelError(f'{where}: the type of tensor "{shorten(name)}" cannot be inferred: {model.why_untyped(name)}')
    try:
        return dtypes.from_onnx(value.dtype)
    except UnsupportedError as error:
        raise UnsupportedError(f'{where}: tensor "{shorten(name)}": {error}: select other nodes') from error


def decide(model: Model, crossing: Crossing, release: Release) -> Border:
    """The border of this tensor for this release. Raises `UnsupportedError` for a type that no plugin can hold."""
    dtype = element_type(model, crossing.name, crossing.plugin_node)
    if release.takes(dtype):
        return Border(dtype, dtype)
    if dtype == dtypes.UINT8 and crossing.is_private:
        return Border(dtype, dtypes.INT8, Encoding.BITS)
    for carrier in _CARRIERS.get(dtype, ()):
        if release.takes(carrier):
            return Border(dtype, carrier, Encoding.CAST)
    raise UnsupportedError(
        f'node "{shorten(crossing.plugin_node)}": tensor "{shorten(crossing.name)}" is {dtype}, which plugins of '
        f"{release.title} cannot take: select other nodes"
    )


def absent(release: Release) -> frozenset[ElementType]:
    """The types that no tensor inside a network of this release can have."""
    return _ABSENT_V2 if release.interface is Interface.V2 else _ABSENT


def loss(border: Border) -> str | None:
    """What the border's type cannot carry, as a clause; None where it carries every value."""
    return _LOSSES.get((border.dtype, border.border_dtype)) if border.encoding is Encoding.CAST else None


def cast_source(model: Model, name: str) -> str | None:
    """The input of the Cast node that makes this tensor, where a Cast to a wider type can replace it; else None.

    Casting to int32 first and to the narrow type inside the plugin gives the same values: integer casts wrap, and ONNX
    leaves a float beyond the type's range undefined.
    """
    if name not in model.producer:
        return None
    node = model.proto.graph.node[model.producer[name]]
    return node.input[0] if is_cast(model, model.producer[name]) else None


def is_cast(model: Model, index: int) -> bool:
    """Whether this node is ONNX's Cast."""
    node = model.proto.graph.node[index]
    return node.op_type == "Cast" and is_default_domain(node.domain) and len(node.input) == 1


def check_network(model: Model, crossings: Iterable[Crossing], chosen: Sequence[str], release: Release) -> None:
    """Refuses borders around which TensorRT can have no network.

    Raises:
        UnsupportedError: a tensor whose type no TensorRT network holds lies between a plugin and something other than a
            plugin, a Cast or (for uint8) the graph's border.
    """
    selected = set(chosen)
    for crossing in crossings:
        dtype = element_type(model, crossing.name, crossing.plugin_node)
        if dtype not in absent(release) or crossing.is_private:
            continue
        at_graph_border = dtype == dtypes.UINT8
        culprit = None
        if crossing.maker is None and cast_source(model, crossing.name) is None:
            if crossing.name in model.producer:
                index = model.producer[crossing.name]
                if model.proto.graph.node[index].op_type != "Constant":
                    culprit = model.node_keys[index]
            elif crossing.name not in model.initializers and not at_graph_border:
                culprit = ""
        if culprit is None and crossing.maker is not None:
            others = [k for k in crossing.native_readers if k not in selected and not is_cast(model, model.index[k])]
            culprit = others[0] if others else None
            if culprit is None and crossing.is_graph_output and not at_graph_border:
                culprit = ""
        if culprit is None:
            continue
        start = (
            f'node "{shorten(crossing.plugin_node)}" ({model.node(crossing.plugin_node).op_type}): tensor '
            f'"{shorten(crossing.name)}" is {dtype}, which {release.title} has not'
        )
        if culprit:
            neighbour = f'"{shorten(culprit)}" ({model.node(culprit).op_type})'
            raise UnsupportedError(f"{start} between a plugin and {neighbour}: select that node too")
        raise UnsupportedError(f"{start} as the graph's input or output: put a Cast to another type there")
