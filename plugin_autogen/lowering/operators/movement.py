"""Operators that move elements and compute nothing: reshapes, transposes, slices, padding and their like."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from plugin_autogen.lowering.registry import Dimension, NodeContext, converter, dtype_of, shape_of

# views ---------------------------------------------------------------------------------------------------------------


def reshape(context: NodeContext, shape: Sequence[Dimension], value: Any = None) -> Any:
    """Input 0, or another tensor, in another shape: no kernel, a view."""
    from tvm import relax

    from plugin_autogen.lowering import te_loops as tl

    value = context.input(0) if value is None else value
    if any(isinstance(d, int) and d == 0 for d in shape):  # Relax takes a 0 for "as it was"; there is nothing to move
        rank = len(shape_of(value))
        return tl.gather(context, shape, lambda position, x: x(*[0] * rank), value)
    return context.emit(relax.op.reshape(value, relax.ShapeExpr(tl.wide(shape))))


@converter("Reshape", since=1)
def _reshape(context: NodeContext) -> Any:
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    source = context.shape(0)
    keep_zero = bool(context.attribute("allowzero", 0))
    if context.is_shape_input(1):
        return reshape(context, context.resolve_shape(1, lambda values: _reshaped(source, values, keep_zero)))
    wanted = context.attribute("shape") if context.opset < 5 else context.constant(1).tolist()
    shape: list[Dimension] = [source[i] if d == 0 and not keep_zero else int(d) for i, d in enumerate(wanted)]
    if -1 in [d for d in shape if isinstance(d, int)]:
        open_axis = shape.index(-1)
        known, total = tl.product(shape[:open_axis] + shape[open_axis + 1 :]), tl.product(source)
        if isinstance(known, int) and isinstance(total, int):
            shape[open_axis] = total // known if known else 0
        else:
            shape[open_axis] = tl.simplify(tirx.floordiv(total, known))
    return reshape(context, shape)


def _reshaped(source: Sequence[Dimension], wanted: Sequence[Any], keep_zero: bool) -> list[Dimension]:
    """The dimensions that Reshape makes of run-time values: 0 is the input's dimension, -1 what is left over."""
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    sizes = [
        value if keep_zero or i >= len(source) else tirx.Select(value == 0, tl.wide(source)[i], value)
        for i, value in enumerate(wanted)
    ]
    found: list[Dimension] = []
    for i, value in enumerate(wanted):
        others = tl.product([*sizes[:i], *sizes[i + 1 :]])
        # an expression is evaluated in both its branches, also where another dimension is -1 or 0
        rest = tirx.floordiv(*tl.wide([tl.product(source), tl.larger(others, 1)]))
        found.append(tirx.Select(value == -1, rest, sizes[i]))
    return found


@converter("Flatten", since=1)
def _flatten(context: NodeContext) -> Any:
    from plugin_autogen.lowering import te_loops as tl

    shape, axis = context.shape(0), context.attribute("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return reshape(context, [tl.product(shape[:axis]), tl.product(shape[axis:])])


@converter("Squeeze", since=1)
def _squeeze(context: NodeContext) -> Any:
    from plugin_autogen.lowering import te_loops as tl

    shape = context.shape(0)
    axes = _axes(context, 13)
    if axes is None:
        return reshape(context, [d for d in shape if not (isinstance(d, int) and d == 1)])
    dropped = {tl.axis_of(context, a, len(shape)) for a in axes}
    return reshape(context, [d for i, d in enumerate(shape) if i not in dropped])


@converter("Unsqueeze", since=1)
def _unsqueeze(context: NodeContext) -> Any:
    from plugin_autogen.lowering import te_loops as tl

    axes = _axes(context, 13) or []
    rank = len(context.shape(0)) + len(axes)
    added = {tl.axis_of(context, a, rank) for a in axes}
    source = iter(context.shape(0))
    return reshape(context, [1 if i in added else next(source) for i in range(rank)])


def _axes(context: NodeContext, input_since: int) -> list[int] | None:
    """Axes of an attribute that became input 1, None where the node names none."""
    if context.opset < input_since:
        return context.attribute("axes")  # type: ignore[no-any-return]
    return [int(a) for a in context.constant(1).reshape(-1)] if context.has_input(1) else None


# permutations --------------------------------------------------------------------------------------------------------


@converter("DepthToSpace", since=1)
def _depth_to_space(context: NodeContext) -> Any:
    from tvm import relax

    b, c, h, w = context.shape(0)
    k = int(context.attribute("blocksize"))
    c = c // k**2 if isinstance(c, int) else _divided(c, k**2)
    if context.attribute("mode", "DCR") == "DCR":
        value, order = reshape(context, [b, k, k, c, h, w]), [0, 3, 4, 1, 5, 2]
    else:
        value, order = reshape(context, [b, c, k, k, h, w]), [0, 1, 4, 2, 5, 3]
    return reshape(context, [b, c, h * k, w * k], context.emit(relax.op.permute_dims(value, order)))


@converter("SpaceToDepth", since=1)
def _space_to_depth(context: NodeContext) -> Any:
    from tvm import relax

    b, c, h, w = context.shape(0)
    k = int(context.attribute("blocksize"))
    h, w = _divided(h, k), _divided(w, k)
    value = reshape(context, [b, c, h, k, w, k])
    order = [0, 3, 5, 1, 2, 4] if context.attribute("mode", "DCR") == "DCR" else [0, 1, 3, 5, 2, 4]
    return reshape(context, [b, c * k**2, h, w], context.emit(relax.op.permute_dims(value, order)))


def _divided(extent: Dimension, by: int) -> Dimension:
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    return extent // by if isinstance(extent, int) else tl.simplify(tirx.floordiv(extent, by))


@converter("ReverseSequence", since=10)
def _reverse_sequence(context: NodeContext) -> Any:
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    shape = context.shape(0)
    time = tl.axis_of(context, context.attribute("time_axis", 0), len(shape))
    batch = tl.axis_of(context, context.attribute("batch_axis", 1), len(shape))

    def element(position: list[Any], x: Any, lengths: Any) -> Any:
        length, step = lengths(position[batch]).astype("int64"), position[time]
        at = [*position]
        at[time] = tirx.if_then_else(step < length, length - 1 - step, step)
        return x(*at)

    return tl.gather(context, shape, element, context.input(0), context.input(1))


# parts ---------------------------------------------------------------------------------------------------------------


@converter("Slice", since=1)
def _slice(context: NodeContext) -> Any:
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl
    from plugin_autogen.lowering.te_helpers import const_expr

    shape = context.shape(0)
    if context.opset < 10:
        starts, ends = context.attribute("starts"), context.attribute("ends")
        axes, steps = context.attribute("axes"), None
    else:
        if context.has_input(1) and not context.is_constant(1):
            return _slice_by_data(context)
        starts = context.constant(1).tolist()
        ends = None if context.is_shape_input(2) else context.constant(2).tolist()
        axes = context.constant(3).tolist() if context.has_input(3) else None
        steps = context.constant(4).tolist() if context.has_input(4) else None
    axes = list(range(len(starts))) if axes is None else [tl.axis_of(context, a, len(shape)) for a in axes]
    steps = [1] * len(starts) if steps is None else steps
    first: list[Any] = [0] * len(shape)
    stride = [1] * len(shape)
    result: list[Dimension] = list(shape)
    if 0 in steps:
        context.unsupported("a step of 0")
    counts: Sequence[Any] = [None] * len(axes)
    if ends is None:
        counts = context.resolve_shape(
            2,
            lambda ends: [
                _range(tl.wide(shape)[axis], start, end, step)[1]
                for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
            ],
        )
    resolved = []
    for i, (axis, start, step) in enumerate(zip(axes, starts, steps, strict=True)):
        first[axis], result[axis] = _range(shape[axis], start, start if ends is None else ends[i], step)
        if counts[i] is not None:  # where it begins does not depend on the end
            result[axis] = counts[i]
            resolved.append(axis)
        stride[axis] = max(min(step, _FAR), -_FAR)  # such a step leaves one element; the smallest int64 has no literal

    def element(position: list[Any], x: Any) -> Any:
        value = x(*(f + i * s for f, i, s in zip(first, position, stride, strict=True)))
        if not resolved:
            return value
        # always true; without it the sizes of input and result would count as those that must be equal
        inside = tirx.all(*(position[axis] < tl.wide(shape)[axis] for axis in resolved))
        return tirx.if_then_else(inside, value, const_expr(0, dtype_of(context.input(0))))

    return tl.gather(context, result, element, context.input(0))


_FAR = 2**31 - 1
"""ONNX writes "to the end" as the largest integer, of 32 or 64 bits."""


def _slice_by_data(context: NodeContext) -> Any:
    """Slice whose starts the kernels read: the number of elements along each sliced axis is found on the device."""
    from tvm import te, tirx

    from plugin_autogen.lowering import te_loops as tl

    shape = context.shape(0)
    (count,) = context.shape(1)
    if not isinstance(count, int):
        context.unsupported("the number of starts must be known")
    axes = [tl.axis_of(context, int(a), len(shape)) for a in context.constant(3)] if context.has_input(3) else []
    axes = axes or list(range(count))
    steps = [int(s) for s in context.constant(4)] if context.has_input(4) else [1] * count
    if 0 in steps:
        context.unsupported("a step of 0")
    limits = [context.input(1), context.input(2)]
    result: list[Dimension] = list(shape)
    for i, axis in enumerate(axes):
        # the data are here for their dimensions
        def number(_: Any, starts: Any, ends: Any, i: int = i, axis: int = axis) -> Any:
            found = _range(tl.wide(shape)[axis], starts(i).astype("int64"), ends(i).astype("int64"), steps[i])[1]
            return te.compute((1,), lambda _: found, name="count")

        bound = context.size_bound({0: axis}, shape[axis])
        result[axis] = context.declare_size(bound, context.te(number, context.input(0), *limits, name="count"))

    def element(position: list[Any], x: Any, starts: Any, ends: Any) -> Any:
        place = list(position)
        for i, axis in enumerate(axes):
            extent = tl.wide(shape)[axis]
            first = _range(extent, starts(i).astype("int64"), ends(i).astype("int64"), steps[i])[0]
            # at most the last: where the model states a shape, the data may give less
            place[axis] = tirx.max(tirx.min(first + position[axis] * steps[i], extent - 1), 0)
        return x(*place)

    return tl.gather(context, result, element, context.input(0), *limits)


def _range(extent: Dimension, start: Dimension, end: Dimension, step: int) -> tuple[Any, Dimension]:
    """The first index and the number of elements of a slice; with expressions for limits `extent` must be one too.

    ONNX's, not numpy's: backwards, a start before the first element is moved to that one.
    """
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    if isinstance(extent, int):
        top = extent if step > 0 else extent - 1
        begin = min(max(start + extent if start < 0 else start, 0), top)
        past = min(max(end + extent if end < 0 else end, 0 if step > 0 else -1), top)
        return begin, len(range(begin, past, step))

    def clamp(value: Dimension, low: int, high: Any) -> Any:
        if not isinstance(value, int):
            return tirx.min(tirx.max(tirx.Select(value < 0, extent + value, value), low), high)
        if value >= _FAR:
            return high
        if value <= -_FAR:
            return tirx.const(low, "int64")
        return tirx.min(tirx.max(extent + value if value < 0 else tirx.const(value, "int64"), low), high)

    if step > 0:
        first, last = clamp(start, 0, extent), clamp(end, 0, extent)
        count = tirx.floordiv(last - first + (step - 1), step)
    else:
        first, last = clamp(start, 0, extent - 1), clamp(end, -1, extent - 1)
        count = tirx.floordiv(first - last + (-step - 1), -step)
    return tl.simplify(first), tl.simplify(tirx.max(count, 0))


@converter("Split", since=1)
def _split(context: NodeContext) -> Any:
    from plugin_autogen.lowering import te_loops as tl

    shape, count = context.shape(0), len(context.node.output)
    axis = tl.axis_of(context, context.attribute("axis", 0), len(shape))
    sizes: Sequence[Dimension]
    if context.opset < 13 and context.attribute("split"):
        sizes = context.attribute("split")
    elif context.opset >= 13 and context.has_input(1):
        sizes = [int(s) for s in context.constant(1)]
    elif isinstance(extent := shape[axis], int):
        part = -(-extent // count)
        sizes = [max(0, min(part, extent - i * part)) for i in range(count)]
    else:
        from tvm import tirx

        part = tl.simplify(tirx.ceildiv(extent, count))
        sizes = [tl.simplify(tirx.max(tirx.min(part, extent - i * part), 0)) for i in range(count)]
    results, start = [], 0
    for size in sizes:
        results.append(_part(context, axis, start, size))
        start = start + size
    return results


def _part(context: NodeContext, axis: int, start: Any, size: Dimension) -> Any:
    from plugin_autogen.lowering import te_loops as tl

    shape = context.shape(0)

    def element(position: list[Any], x: Any) -> Any:
        return x(*position[:axis], position[axis] + start, *position[axis + 1 :])

    return tl.gather(context, [*shape[:axis], size, *shape[axis + 1 :]], element, context.input(0))


# more elements -------------------------------------------------------------------------------------------------------


@converter("Expand", since=8)
def _expand(context: NodeContext) -> Any:
    from plugin_autogen.lowering import te_loops as tl
    from plugin_autogen.lowering.te_helpers import at, broadcast_shape

    if context.is_shape_input(1):
        source = context.shape(0)
        wanted = context.resolve_shape(1, lambda values: _expanded(source, values))
        shape: Sequence[Dimension] = [*source[: max(0, len(source) - len(wanted))], *wanted]
    else:
        shape = broadcast_shape([context.shape(0), [int(d) for d in context.constant(1)]])
    return tl.gather(context, shape, lambda position, x: at(x, position, shape), context.input(0))


def _expanded(source: Sequence[Dimension], wanted: Sequence[Any]) -> list[Dimension]:
    """The last dimensions that Expand makes of run-time values."""
    from tvm import tirx

    found: list[Dimension] = []
    for i, value in enumerate(wanted):
        axis = len(source) - len(wanted) + i
        size = source[axis] if axis >= 0 else 1
        fixed = isinstance(size, int)
        found.append((value if size == 1 else size) if fixed else tirx.Select(size == 1, value, size))
    return found


@converter("Tile", since=6)
def _tile(context: NodeContext) -> Any:
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    shape = context.shape(0)
    if context.is_shape_input(1):
        result = context.resolve_shape(1, lambda values: [d * r for d, r in zip(shape, values, strict=True)])
        repeats = [0] * len(shape)
    else:
        repeats = [int(r) for r in context.constant(1)]
        result = [d * r for d, r in zip(shape, repeats, strict=True)]

    def element(position: list[Any], x: Any) -> Any:
        return x(*(i if r == 1 else tirx.floormod(i, d) for i, r, d in zip(position, repeats, shape, strict=True)))

    return tl.gather(context, result, element, context.input(0))


@converter("Pad", since=1)
def _pad(context: NodeContext) -> Any:
    shape = context.shape(0)
    rank = len(shape)
    axes = list(range(rank))
    value: Any = None
    if context.opset < 11:
        pads = context.attribute("pads", context.attribute("paddings"))
        value = float(context.attribute("value", 0.0))
    else:
        pads = context.constant(1).tolist()
        if context.has_input(2):
            value = context.input(2)
        if context.has_input(3):
            axes = [int(a) % rank for a in context.constant(3)]
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = int(pads[i]), int(pads[i + len(axes)])
    return pad(context, before, after, str(context.attribute("mode", "constant")), value)


def pad(context: NodeContext, before: Sequence[int], after: Sequence[int], mode: str, value: Any = None) -> Any:
    """Input 0 with elements added (or, where negative, taken away) at both ends of each axis.

    Args:
        context: of the node.
        before: elements to add in front, by axis.
        after: elements to add at the end, by axis.
        mode: ONNX's `constant`, `reflect`, `edge` or `wrap`.
        value: of the new elements in constant mode: a number, a Relax tensor with one element, or None for 0.
    """
    from tvm import relax, tirx

    from plugin_autogen.lowering import te_loops as tl
    from plugin_autogen.lowering.te_helpers import const_expr

    if mode not in ("constant", "reflect", "edge", "wrap"):
        context.unsupported(f"mode '{mode}' is not one of ONNX's")
    shape, dtype = context.shape(0), context.dtype(0)
    result = [d + b + a for d, b, a in zip(shape, before, after, strict=True)]
    operands = [value] if isinstance(value, relax.Expr) else []

    def element(position: list[Any], x: Any, *fill: Any) -> Any:
        at, inside = [], []
        for i, d, b, a in zip(position, shape, before, after, strict=True):
            if mode == "constant" or (b == 0 and a == 0):
                at.append(i - b)
                if b > 0:
                    inside.append(i >= b)
                if a > 0:
                    inside.append(i - b < d)
            else:
                at.append(_source(i, d, b, a, mode))
        if not inside:
            return x(*at)
        outside = const_expr(value or 0, dtype) if not fill else fill[0](*[0] * len(fill[0].shape))
        return tirx.if_then_else(tirx.all(*inside), x(*at), outside)

    return tl.gather(context, result, element, context.input(0), *operands)


def _source(i: Any, extent: Any, before: int, after: int, mode: str) -> Any:
    """The index along an axis that the padded index `i` shows. Negative pads crop before the others are added."""
    from tvm import tirx

    cropped, kept = max(-before, 0), extent - max(-before, 0) - max(-after, 0)
    i = i - max(before, 0)
    if mode == "edge":
        i = tirx.max(tirx.min(i, kept - 1), 0)
    elif mode == "wrap":
        i = tirx.floormod(i, kept)
    elif isinstance(kept, int) and kept == 1:
        i = tirx.const(0, "int64")
    else:
        period = 2 * (kept - 1)
        if not isinstance(kept, int):  # of one element nothing is reflected, but nothing may be divided by 0 either
            period = tirx.max(period, 1)
        i = tirx.floormod(i, period)
        i = tirx.Select(i < kept, i, period - i)
    return i + cropped


@converter("CenterCropPad", since=18)
def _center_crop_pad(context: NodeContext) -> Any:
    from plugin_autogen.lowering import te_loops as tl

    shape, wanted = context.shape(0), [int(d) for d in context.constant(1)]
    axes = context.attribute("axes") or list(range(len(shape)))
    before, after = [0] * len(shape), [0] * len(shape)
    for axis, size in zip(axes, wanted, strict=True):
        axis = tl.axis_of(context, axis, len(shape))
        extent = shape[axis]
        if not isinstance(extent, int):
            context.unsupported(f"dimension {axis} of the input must be known")
        gap = size - extent
        before[axis] = gap // 2 if gap >= 0 else -(-gap // 2)
        after[axis] = gap - before[axis]
    return pad(context, before, after, "constant")


@converter("Concat", since=1)
def _concat(context: NodeContext) -> Any:
    """One kernel: each element comes from the first tensor that does not end before its place along the axis."""
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    shapes = [shape_of(context.input(i)) for i in range(len(context.inputs))]
    axis = tl.axis_of(context, context.attribute("axis", 1), len(shapes[0]))
    ends = list(itertools.accumulate(shape[axis] for shape in shapes))
    result: list[Dimension] = []
    for a, sizes in enumerate(zip(*shapes, strict=True)):
        known = {d for d in sizes if isinstance(d, int)}
        if a != axis and len(known) > 1:
            context.unsupported(
                f"the tensors have sizes {sorted(known)} along axis {a}, along which they are not joined"
            )
        result.append(ends[-1] if a == axis else next(iter(known), sizes[0]))

    def element(position: list[Any], *tensors: Any) -> Any:
        def part(i: int) -> Any:
            place = [p - ends[i - 1] if a == axis and i else p for a, p in enumerate(position)]
            return tensors[i](*place)

        value = part(len(tensors) - 1)
        for i in reversed(range(len(tensors) - 1)):
            value = tirx.if_then_else(position[axis] < ends[i], part(i), value)
        return value

    return tl.gather(context, result, element, *context.inputs)
