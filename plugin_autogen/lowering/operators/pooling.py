"""Pooling over windows and over whole images, MaxPool's indices, and MaxUnpool."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from plugin_autogen.lowering.operators.convolution import accumulator, padded_sample
from plugin_autogen.lowering.registry import NodeContext, converter, dtype_of, shape_of
from plugin_autogen.lowering.spatial import PER_OUTPUT, Window, inside, sliding_window
from plugin_autogen.lowering.te_helpers import is_float

SMALL_WINDOW = 128
"""Elements up to which one thread reduces a window; larger windows are left to the rules for reductions."""


def _window_axes(window: Window) -> list[Any]:
    from tvm import te

    return [te.reduce_axis((0, k), f"k{a}") for a, k in enumerate(window.kernel)]


def _annotation(window: Window) -> dict[str, str] | None:
    return PER_OUTPUT if window.size <= SMALL_WINDOW else None


def _window_of(context: NodeContext) -> Window:
    kernel = context.attribute("kernel_shape")
    if not kernel:
        context.unsupported("kernel_shape is missing")
    return sliding_window(context, context.shape(0)[2:], kernel)


@converter("AveragePool", since=1)
def average_pool(context: NodeContext) -> Any:
    """The mean over each window; `count_include_pad` counts padding, what `ceil_mode` adds behind it never counts."""
    from tvm import te

    data = context.input(0)
    shape, dtype = shape_of(data), dtype_of(data)
    wide = accumulator(dtype)
    window = _window_of(context)
    counts_padding = bool(context.attribute("count_include_pad", 0))

    def count(output: Sequence[Any]) -> Any:
        """Elements of the window at this output that count."""
        total: Any = 1
        for a, o in enumerate(output):
            before, after = (window.before[a], window.after[a]) if counts_padding else (0, 0)
            always = not isinstance(shape[2 + a], int) or window.kernel[a] == 1
            if not always:
                last = (window.outputs[a] - 1) * window.strides[a] - window.before[a]
                reach = last + (window.kernel[a] - 1) * window.dilations[a]
                if -window.before[a] >= -before and reach < shape[2 + a] + after:
                    total = total * window.kernel[a]
                    continue
            total = total * _inside_count(window, a, o, -before, shape[2 + a] + after)
        return total

    def compute(data: Any) -> Any:
        axes = _window_axes(window)
        sample = padded_sample(window, shape[2:], lambda *i: data(*i).astype(wide), wide)
        total = te.compute(
            (*shape[:2], *window.outputs),
            lambda n, c, *o: te.sum(sample(n, c, o, axes), axis=axes),
            name="window_sum",
            attrs=_annotation(window),
        )

        def mean(n: Any, c: Any, *o: Any) -> Any:
            number = count(o)
            number = float(number) if isinstance(number, int) else number.astype(wide)
            return (total(n, c, *o) / number).astype(dtype)

        return te.compute(total.shape, mean, name="average")

    return context.te(compute, data)


def _inside_count(window: Window, axis: int, output: Any, low: Any, high: Any) -> Any:
    """How many kernel elements along the axis lie in [low, high), at least 1 so that a division is safe."""
    from tvm import tirx

    start = output * window.strides[axis] - window.before[axis]
    step, size = window.dilations[axis], window.kernel[axis]
    first = tirx.max(tirx.floordiv(low - start + step - 1, step), 0)
    end = tirx.min(tirx.floordiv(high - start + step - 1, step), size)
    return tirx.max(end - first, 1)


@converter("LpPool", since=1)
def lp_pool(context: NodeContext) -> Any:
    """The p-norm of each window."""
    from tvm import te

    data = context.input(0)
    shape, dtype = shape_of(data), dtype_of(data)
    wide, window, p = accumulator(dtype), _window_of(context), float(context.attribute("p", 2))

    def compute(data: Any) -> Any:
        axes = _window_axes(window)
        sample = padded_sample(window, shape[2:], lambda *i: _power(data(*i).astype(wide), p), wide)
        total = te.compute(
            (*shape[:2], *window.outputs),
            lambda n, c, *o: te.sum(sample(n, c, o, axes), axis=axes),
            name="window_sum",
            attrs=_annotation(window),
        )
        return te.compute(total.shape, lambda *i: _root(total(*i), p).astype(dtype), name="norm")

    return context.te(compute, data)


def _power(value: Any, p: float) -> Any:
    """|value| to the power p."""
    from tvm import tirx

    if p == 2:
        return value * value
    return tirx.abs(value) if p == 1 else tirx.power(tirx.abs(value), tirx.const(p, str(value.ty.dtype)))


def _root(value: Any, p: float) -> Any:
    from tvm import tirx

    if p == 2:
        return tirx.sqrt(value)
    return value if p == 1 else tirx.power(value, tirx.const(1.0 / p, str(value.ty.dtype)))


def _lowest(dtype: str) -> Any:
    """What loses against every value."""
    from tvm import tirx

    if not is_float(dtype):
        return tirx.min_value(dtype)
    return tirx.const(-math.inf, "float32").astype(dtype) if dtype != "float64" else tirx.const(-math.inf, dtype)


@converter("MaxPool", since=1)
def max_pool(context: NodeContext) -> Any:
    """The largest element of each window and, where the node has a second output, its flat index in the input."""
    from tvm import te, tirx

    from plugin_autogen.lowering import te_loops as tl

    data = context.input(0)
    shape, dtype = shape_of(data), dtype_of(data)
    window = _window_of(context)
    outputs = (*shape[:2], *window.outputs)

    def values(data: Any) -> Any:
        axes = _window_axes(window)
        larger = te.comm_reducer(lambda a, b: tirx.max(a, b), lambda t: _lowest(dtype), name="largest")

        def one(n: Any, c: Any, *o: Any) -> Any:
            position = window.position(o, axes)
            value = tirx.if_then_else(inside(position, shape[2:]), data(n, c, *position), _lowest(dtype))
            return larger(value, axis=axes)

        return te.compute(outputs, one, name="window_max", attrs=PER_OUTPUT)

    if not context.has_output(1):
        return context.te(values, data)

    sizes = list(shape[2:])
    order = range(len(sizes)) if not context.attribute("storage_order", 0) else range(len(sizes) - 1, -1, -1)

    work, index = accumulator(dtype), tl.index_type(shape, outputs)

    def with_indices(x: Any, largest: Any, places: Any) -> None:
        """A thread for each window. Not a reduction of pairs: TVM misreads a bfloat16 there."""
        with tl.grid(*outputs, dtype=index) as (n, c, *o):
            best, place = tl.local(work), tl.local("int64")
            best[0] = tirx.const(0, work)
            place[0] = tirx.const(-1, "int64")
            with tl.serial(window.size, index) as k:
                position = window.position(o, tl.unravel(k, window.kernel))
                with tl.when(inside(position, sizes)):
                    source = (n, c, *position)
                    value = x[source].astype(work)
                    with tl.when(tirx.any(place[0] < 0, value > best[0])):  # the first of equal values wins
                        best[0] = value
                        flat = tl.ravel([position[a] for a in order], [sizes[a] for a in order])
                        place[0] = ((n * shape[1] + c) * math.prod(sizes) + flat).astype("int64")
            # no window lies in the padding alone; should one, its value is the lowest
            at = (n, c, *o)
            largest[at] = tirx.if_then_else(place[0] < 0, _lowest(dtype), best[0].astype(dtype))
            places[at] = place[0]

    return tl.kernel(context, with_indices, [data], [(outputs, dtype), (outputs, "int64")])


def _over_image(context: NodeContext, reduce: Any, load: Any, finish: Any, wide: str) -> Any:
    """A reduction over all spatial axes, which stay as axes of size 1."""
    from tvm import te

    data = context.input(0)
    shape, dtype = shape_of(data), dtype_of(data)
    ones = (1,) * (len(shape) - 2)

    def compute(data: Any) -> Any:
        axes = [te.reduce_axis((0, n), f"k{a}") for a, n in enumerate(shape[2:])]
        total = te.compute(
            (*shape[:2], *ones),
            lambda n, c, *_: reduce(load(data(n, c, *axes).astype(wide)), axis=axes),
            name="image",
        )
        if finish is None:
            return total
        return te.compute(total.shape, lambda *i: finish(total(*i)).astype(dtype), name="finished")

    if len(shape) < 3:
        context.unsupported("the input has no spatial axes")
    return context.te(compute, data)


@converter("GlobalAveragePool", since=1)
def global_average_pool(context: NodeContext) -> Any:
    """The mean over all spatial axes."""
    from tvm import te

    wide = accumulator(context.dtype(0))
    count: Any = 1
    for size in context.shape(0)[2:]:
        count = count * size
    number = float(count) if isinstance(count, int) else count.astype(wide)
    return _over_image(context, te.sum, lambda value: value, lambda total: total / number, wide)


@converter("GlobalMaxPool", since=1)
def global_max_pool(context: NodeContext) -> Any:
    """The largest element over all spatial axes."""
    from tvm import te

    return _over_image(context, te.max, lambda value: value, None, context.dtype(0))


@converter("GlobalLpPool", since=1)
def global_lp_pool(context: NodeContext) -> Any:
    """The p-norm over all spatial axes."""
    from tvm import te

    p = float(context.attribute("p", 2))
    wide = accumulator(context.dtype(0))
    return _over_image(context, te.sum, lambda value: _power(value, p), lambda total: _root(total, p), wide)


@converter("MaxUnpool", since=9)
def max_unpool(context: NodeContext) -> Any:
    """Values back at the places that MaxPool's indices name, zero elsewhere.

    Indices count in the shape that kernel, strides and pads give, also where `output_shape` asks for a larger one.
    """
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as loops

    data, indices = context.input(0), context.input(1)
    shape, dtype = shape_of(data), dtype_of(data)
    kernel = [int(k) for k in context.attribute("kernel_shape")]
    strides = [int(s) for s in context.attribute("strides") or [1] * len(kernel)]
    pads = [int(p) for p in context.attribute("pads") or [0] * 2 * len(kernel)]
    rank = len(kernel)
    spatial = [
        (n - 1) * s - pads[a] - pads[a + rank] + kernel[a]
        for a, (n, s) in enumerate(zip(shape[2:], strides, strict=True))
    ]
    inferred = (*shape[:2], *spatial)
    outputs = tuple(int(d) for d in context.constant(2)) if context.has_input(2) else inferred
    index = loops.index_type(shape, inferred, outputs)

    def unpool(values: Any, places: Any, result: Any) -> None:
        with loops.grid(*outputs, dtype=index) as place:
            result[tuple(place)] = tirx.const(0, "float32").astype(dtype)
        with loops.grid(*shape, dtype=index) as place:
            target = loops.unravel(places[tuple(place)].astype(index), inferred)
            fits = [c for t, n in zip(target, outputs, strict=True) for c in (t >= 0, t < n)]
            with loops.when(tirx.all(*fits)):
                result[tuple(target)] = values[tuple(place)]

    return loops.kernel(context, unpool, [data, indices], [(outputs, dtype)])
