"""Scatter, ScatterElements, ScatterND and TensorScatter.

A scatter is two kernels: the copy of the data, one thread an element, and the updates, likewise, atomic where there
is a reduction. Without one, duplicate indices are undefined in ONNX. An index outside its axis is left out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import Any

from plugin_autogen.lowering.registry import NodeContext, converter


@converter("Scatter", since=9)
@converter("ScatterElements", since=11)
def _scatter_elements(context: NodeContext) -> Any:
    from plugin_autogen.lowering import te_loops as tl

    shape = context.shape(0)
    axis = tl.axis_of(context, context.attribute("axis", 0), len(shape))

    def place(indices: Any, position: list[Any], index: str) -> list[Any]:
        at = list(position)
        at[axis] = tl.wrap_index(indices[tuple(position)], shape[axis], index)
        return at

    return _scatter(context, place, [axis])


@converter("ScatterND", since=11)
def _scatter_nd(context: NodeContext) -> Any:
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    shape, indices_shape = context.shape(0), context.shape(1)
    outer, depth = len(indices_shape) - 1, indices_shape[-1]
    if not isinstance(depth, int):
        context.unsupported("the last dimension of the indices must be known")

    def place(indices: Any, position: list[Any], index: str) -> list[Any]:
        row = position[:outer]
        components = [(*row, tirx.const(axis, index)) for axis in range(depth)]
        at = [tl.wrap_index(indices[c], extent, index) for c, extent in zip(components, shape, strict=False)]
        return [*at, *position[outer:]]

    return _scatter(context, place, range(depth))


def _scatter(context: NodeContext, place: Callable[[Any, list[Any], str], list[Any]], chosen: Collection[int]) -> Any:
    """The copy and the updates.

    Args:
        context: of the node.
        place: gives the position in the data of the update at a position.
        chosen: axes of the data whose index is an element of the indices; along the others it is the update's own.
    """
    from tvm import relax, tirx

    from plugin_autogen.lowering import te_loops as tl
    from plugin_autogen.schedule import atomics

    operation = str(context.attribute("reduction", "none"))
    if operation not in ("none", *atomics.OPERATIONS):
        context.unsupported(f"reduction '{operation}' is not one of ONNX's")
    shape, updates_shape, dtype = context.shape(0), context.shape(2), context.dtype(0)
    index = tl.index_type(shape, updates_shape)
    if 0 in [d for d in updates_shape if isinstance(d, int)]:
        return context.input(0)
    # Along the other axes sizes that are known only at run time are compared before anything is launched.
    others = [axis for axis in range(len(shape)) if axis not in chosen]
    for axis in others:
        size, extent = updates_shape[axis - len(shape)], shape[axis]
        if isinstance(size, int) and isinstance(extent, int) and size > extent:
            context.unsupported(f"the updates have size {size} where axis {axis} of the data has {extent}")
    # Narrow elements are updated in 32 bits and cast back at the end: there is no atomic access to them.
    work = dtype if operation == "none" or dtype in atomics.DTYPES else _wide(dtype)

    def body(data: Any, indices: Any, updates: Any, result: Any) -> None:
        with tl.grid(*shape, dtype=index) as position:
            result[tuple(position)] = data[tuple(position)].astype(work)
        with tl.grid(*updates_shape, dtype=index) as position:
            at = [tl.bind(i) if axis in chosen else i for axis, i in enumerate(place(indices, position, index))]
            inside = [tirx.all(at[axis] >= 0, at[axis] < shape[axis]) for axis in chosen]
            with tl.when(tirx.all(*inside)) if inside else contextlib.nullcontext():
                update = updates[tuple(position)].astype(work)
                if operation == "none":
                    result[tuple(at)] = update
                else:
                    tl.atomic(operation, result, at, update)

    (result,) = tl.kernel(context, body, [context.input(i) for i in range(3)], [(shape, work)])
    return result if work == dtype else context.emit(relax.op.astype(result, dtype))


def _wide(dtype: str) -> str:
    return "float32" if "float" in dtype else "uint32" if dtype.startswith("uint") else "int32"


@converter("TensorScatter", since=24)
def _tensor_scatter(context: NodeContext) -> Any:
    """One kernel: each element of the cache comes from the past or from the update."""
    from tvm import te, tirx

    from plugin_autogen.lowering import te_loops as tl

    shape, update_shape = context.shape(0), context.shape(1)
    axis = tl.axis_of(context, context.attribute("axis", -2), len(shape))
    circular = context.attribute("mode", "linear") == "circular"
    index = tl.index_type(shape)
    length, window = shape[axis], update_shape[axis]

    def compute(past: Any, update: Any, *write_indices: Any) -> Any:
        def element(*position: Any) -> Any:
            start = write_indices[0](position[0]).astype(index) if write_indices else tirx.const(0, index)
            step = position[axis].astype(index) - start
            if circular:
                step = tirx.floormod(step, length)
            at = [*position[:axis], step, *position[axis + 1 :]]
            return tirx.if_then_else(tirx.all(step >= 0, step < window), update(*at), past(*position))

        return te.compute(shape, element, name="tensor_scatter")

    operands = [context.input(0), context.input(1)] + ([context.input(2)] if context.has_input(2) else [])
    return context.te(compute, *operands)
