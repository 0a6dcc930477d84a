"""Gather and its family, OneHot, ArrayFeatureExtractor.

An index outside its axis, an error in ONNX, reads the nearest element.
"""

from __future__ import annotations

from typing import Any

from plugin_autogen.lowering.registry import NodeContext, converter


@converter("Gather", since=1)
def _gather(context: NodeContext) -> Any:
    return _take(context, context.attribute("axis", 0))


@converter("ArrayFeatureExtractor", domain="ai.onnx.ml", since=1)
def _array_feature_extractor(context: NodeContext) -> Any:
    from plugin_autogen.lowering import te_loops as tl

    shape, indices_shape = context.shape(0), context.shape(1)

    def element(position: list[Any], x: Any, indices: Any) -> Any:
        i = indices(*tl.unravel(position[-1], indices_shape))
        outer = position[:-1] if len(shape) > 1 else []
        return x(*outer, tl.clamp_index(i, shape[-1], tl.index_type(shape)))

    result = [*(shape[:-1] if len(shape) > 1 else [1]), tl.product(indices_shape)]
    return tl.gather(context, result, element, context.input(0), context.input(1))


def _take(context: NodeContext, axis: int) -> Any:
    from plugin_autogen.lowering import te_loops as tl

    shape, indices_shape = context.shape(0), context.shape(1)
    axis = tl.axis_of(context, axis, len(shape))
    rank, index = len(indices_shape), tl.index_type(shape)

    def element(position: list[Any], x: Any, indices: Any) -> Any:
        i = tl.clamp_index(indices(*position[axis : axis + rank]), shape[axis], index)
        return x(*position[:axis], i, *position[axis + rank :])

    result = [*shape[:axis], *indices_shape, *shape[axis + 1 :]]
    return tl.gather(context, result, element, context.input(0), context.input(1))


@converter("GatherElements", since=11)
def _gather_elements(context: NodeContext) -> Any:
    from plugin_autogen.lowering import te_loops as tl

    shape = context.shape(0)
    axis, index = tl.axis_of(context, context.attribute("axis", 0), len(shape)), tl.index_type(shape)

    def element(position: list[Any], x: Any, indices: Any) -> Any:
        i = tl.clamp_index(indices(*position), shape[axis], index)
        return x(*position[:axis], i, *position[axis + 1 :])

    return tl.gather(context, context.shape(1), element, context.input(0), context.input(1))


@converter("GatherND", since=11)
def _gather_nd(context: NodeContext) -> Any:
    from plugin_autogen.lowering import te_loops as tl

    shape, indices_shape = context.shape(0), context.shape(1)
    batch, outer, depth = int(context.attribute("batch_dims", 0)), len(indices_shape) - 1, indices_shape[-1]
    if not isinstance(depth, int):
        context.unsupported("the last dimension of the indices must be known")
    index = tl.index_type(shape)

    def element(position: list[Any], x: Any, indices: Any) -> Any:
        chosen = [tl.clamp_index(indices(*position[:outer], k), shape[batch + k], index) for k in range(depth)]
        return x(*position[:batch], *chosen, *position[outer:])

    result = [*indices_shape[:-1], *shape[batch + depth :]]
    return tl.gather(context, result, element, context.input(0), context.input(1))


@converter("OneHot", since=9)
def _one_hot(context: NodeContext) -> Any:
    """One kernel: each element compares its place along the axis with its index, the values are read at run time."""
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    indices_shape, depth = context.shape(0), int(context.constant(1).reshape(-1)[0])
    axis = tl.axis_of(context, context.attribute("axis", -1), len(indices_shape) + 1)

    def element(position: list[Any], indices: Any, values: Any) -> Any:
        index = indices(*position[:axis], *position[axis + 1 :])
        wanted = index if "int" in str(index.ty.dtype) else tirx.trunc(index)
        place = tl.wrap_index(wanted, depth, "int64")
        return tirx.if_then_else(place == position[axis], values(1), values(0))

    result = [*indices_shape[:axis], depth, *indices_shape[axis:]]
    return tl.gather(context, result, element, context.input(0), context.input(2))
