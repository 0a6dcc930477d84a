"""What the graph stages hand on: a standalone ONNX model for each plugin, with typed borders."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from plugin_autogen.dtypes import FLOAT32, ElementType
from plugin_autogen.graph.shapes import Range

if TYPE_CHECKING:
    import onnx


class Encoding(enum.Enum):
    """How the values of an ONNX tensor travel through the border of a plugin."""

    SAME = "same"
    """In the tensor's own type."""
    CAST = "cast"
    """In another type; a Cast node stands outside the plugin, the plugin casts back inside."""
    BITS = "bits"
    """The same bits under another type's name, between two generated plugins (uint8 as int8)."""


@dataclass(frozen=True)
class BorderTensor:
    """One input or output of a plugin.

    Attributes:
        name: the tensor's name in the original graph.
        dtype: its ONNX type.
        shape: ints, or names of symbolic dimensions.
        border_dtype: the type that TensorRT sees; equals `dtype` when `encoding` is SAME.
        is_shape: an input, int64 of a known length, of which TensorRT tells the values and no memory: they are sizes.
    """

    name: str
    dtype: ElementType
    shape: tuple[int | str, ...]
    border_dtype: ElementType
    encoding: Encoding = Encoding.SAME
    is_shape: bool = False

    @property
    def memory_dtype(self) -> ElementType:
        """The type of the values in memory: bits that only bear another type's name need no conversion inside."""
        return self.dtype if self.encoding is Encoding.BITS else self.border_dtype


@dataclass(frozen=True)
class Subgraph:
    """The computation of one plugin.

    `model` is an ONNX model of its own: inputs and outputs in ONNX's types (never the border types), every constant an
    initializer, shapes of all tensors stated (inner ones as far as known), ir_version and opsets those of the original
    model, local functions included. `inputs` and `outputs` follow the order of the model's graph inputs and outputs.
    `ranges` has the sizes of symbolic dimensions, of those about which something is known. `narrow_operands` says
    whether operands of matrix products inside may have the narrower type of the borders.
    """

    name: str
    model: onnx.ModelProto = field(repr=False)
    inputs: tuple[BorderTensor, ...]
    outputs: tuple[BorderTensor, ...]
    node_names: tuple[str, ...]
    op_types: tuple[str, ...]
    ranges: Mapping[str, Range] = field(default_factory=dict)
    narrow_operands: bool = True

    def at_sizes(self, sizes: Mapping[str, int]) -> Subgraph:
        """The same computation for these sizes of its symbolic dimensions alone."""
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for info in (*model.graph.input, *model.graph.output, *model.graph.value_info):
            for dim in info.type.tensor_type.shape.dim:
                if dim.dim_param in sizes:
                    dim.dim_value = sizes[dim.dim_param]

        def fixed(tensor: BorderTensor) -> BorderTensor:
            return replace(tensor, shape=tuple(sizes.get(d, d) if isinstance(d, str) else d for d in tensor.shape))

        inputs, outputs = tuple(map(fixed, self.inputs)), tuple(map(fixed, self.outputs))
        return replace(self, model=model, inputs=inputs, outputs=outputs, ranges={})

    @property
    def optimum(self) -> dict[str, int] | None:
        """The sizes of all symbolic dimensions to be fastest at; None where there are none, or ranges are missing."""
        symbols = dict.fromkeys(d for t in self.inputs for d in t.shape if isinstance(d, str))
        known = {s: self.ranges[s].opt for s in symbols if s in self.ranges and self.ranges[s].max is not None}
        return known if known and len(known) == len(symbols) else None

    def in_precision(self, dtype: ElementType) -> Subgraph | None:
        """The same computation with its float32 borders in a narrower type; None where it has none.

        Another type's border stays, also where float32 carries a double: nothing may get narrower twice.
        """

        def narrowed(tensor: BorderTensor) -> BorderTensor:
            if tensor.dtype != FLOAT32 or tensor.encoding is not Encoding.SAME:
                return tensor
            return replace(tensor, border_dtype=dtype, encoding=Encoding.CAST)

        inputs, outputs = tuple(map(narrowed, self.inputs)), tuple(map(narrowed, self.outputs))
        if (inputs, outputs) == (self.inputs, self.outputs):
            return None
        return replace(self, inputs=inputs, outputs=outputs)
