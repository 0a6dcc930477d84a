"""NonZero, Compress and Unique, whose results' size depends on the data.

The kernels count the results. Where the model states a size, results beyond it are dropped, and places that stay free
hold -1 where they are indices, else 0; so do they on TensorRT 8, where there is a place for every possible result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plugin_autogen.lowering.registry import Dimension, NodeContext, converter

CHUNK = 256
"""Elements that one thread adds up on its own in a prefix sum."""


@converter("NonZero", since=9)
def _non_zero(context: NodeContext) -> Any:
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl
    from plugin_autogen.lowering.te_helpers import cast_expr

    shape = context.shape(0)
    count = tl.product(shape)
    bound = context.size_bound({0: 1}, count)

    def wanted(x: Any, i: Any) -> Any:
        value = x[tuple(tl.unravel(i, shape))]
        return cast_expr(value, "bool")

    positions, found = compact(context, context.input(0), count, bound.places, wanted)
    size = context.declare_size(bound, found)

    def element(position: list[Any], places: Any) -> Any:
        place = places(position[1]).astype("int64")
        axes = tl.unravel(place, shape) or [place]
        index: Any = axes[0]
        for axis in range(1, len(axes)):
            index = tirx.Select(position[0] == axis, axes[axis], index)
        return tirx.Select(place < 0, tirx.const(-1, "int64"), index)

    return tl.gather(context, [len(shape), size], element, positions)


@converter("Compress", since=9)
def _compress(context: NodeContext) -> Any:
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl
    from plugin_autogen.lowering.te_helpers import const_expr

    shape, dtype = context.shape(0), context.dtype(0)
    axis = context.attribute("axis")
    if axis is not None:
        axis = tl.axis_of(context, axis, len(shape))
    extent = tl.product(shape) if axis is None else shape[axis]
    count = context.shape(1)[0]
    bound = context.size_bound({0: axis or 0}, tl.smaller(count, extent))
    positions, found = compact(
        context, context.input(1), count, bound.places, lambda condition, i: tirx.all(condition[i], i < extent)
    )
    size = context.declare_size(bound, found)

    def element(position: list[Any], x: Any, places: Any) -> Any:
        place = places(position[axis or 0]).astype("int64")
        inside = tirx.max(place, 0)
        at = tl.unravel(inside, shape) if axis is None else [*position[:axis], inside, *position[axis + 1 :]]
        return tirx.if_then_else(place < 0, const_expr(0, dtype), x(*at))

    result = [size] if axis is None else [*shape[:axis], size, *shape[axis + 1 :]]
    return tl.gather(context, result, element, context.input(0), positions)


def compact(
    context: NodeContext, value: Any, count: Dimension, bound: Dimension, wanted: Callable[[Any, Any], Any]
) -> list[Any]:
    """The positions in [0, count) that are wanted, in order.

    Args:
        context: of the node.
        value: Relax tensor that decides.
        count: number of positions.
        bound: the most positions to give.
        wanted: whether the position is, from the tensor as an indexable buffer and the position.

    Returns:
        the positions, int32 [bound], -1 where there are fewer; and how many there are, int64 [1].
    """
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    def body(x: Any, positions: Any, found: Any) -> None:
        one, zero = tirx.const(1, "int32"), tirx.const(0, "int32")
        up_to = running_count(count, lambda i: tirx.Select(wanted(x, i), one, zero), found)
        with tl.grid(tl.larger(count, bound)) as (i,):
            with tl.when(i < count), tl.when(wanted(x, i)):
                place = tl.bind(up_to(i) - 1)
                with tl.when(place < bound):
                    positions[place] = i
            with tl.when(tirx.all(i < bound, i >= up_to(count - 1))):
                positions[i] = tirx.const(-1, "int32")

    return tl.kernel(context, body, [value], [([bound], "int32"), ([1], "int64")], "compact")


def running_count(count: Dimension, value: Callable[[Any], Any], total: Any = None) -> Callable[[Any], Any]:
    """Writes the two kernels that add up int32 values, and gives how to read the sum of all values up to a position.

    Args:
        count: number of values.
        value: the value at a position; may write statements.
        total: buffer int64 [1] that gets the sum of all values.
    """
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    chunks = tl.ceil_divide(count, CHUNK)
    inside, sums = tl.scratch([count], "int32"), tl.scratch([chunks], "int32")
    zero = tirx.const(0, "int32")
    with tl.grid(chunks, threads=64) as (chunk,):
        partial = tl.local("int32")
        partial[0] = zero
        with tl.serial(CHUNK) as step:
            i = tl.bind(chunk * CHUNK + step)
            with tl.when(i < count):
                partial[0] = partial[0] + value(i)
                inside[i] = partial[0]
        sums[chunk] = partial[0]
    with tl.block(1, threads=CHUNK) as _:
        carry, parts = tl.shared([1], "int32"), tl.shared([2, CHUNK], "int32")
        carry[0] = zero
        with tl.serial(tl.ceil_divide(chunks, CHUNK)) as turn:
            with tl.thread(CHUNK) as (t,):
                parts[0, t] = tirx.if_then_else(turn * CHUNK + t < chunks, sums[turn * CHUNK + t], zero)
            steps = CHUNK.bit_length() - 1
            for step in range(steps):
                with tl.thread(CHUNK) as (t,):
                    source, distance = step % 2, 1 << step
                    before = tirx.if_then_else(t >= distance, parts[source, t - distance], zero)
                    parts[1 - source, t] = parts[source, t] + before
            with tl.thread(CHUNK) as (t,), tl.when(turn * CHUNK + t < chunks):
                sums[turn * CHUNK + t] = carry[0] + parts[steps % 2, t]
            carry[0] = carry[0] + parts[steps % 2, CHUNK - 1]
        if total is not None:
            total[0] = carry[0].astype("int64")

    def up_to(i: Any) -> Any:
        chunk = tirx.floordiv(i, CHUNK)
        return inside[i] + tirx.if_then_else(chunk > 0, sums[chunk - 1], zero)

    return up_to


@converter("Unique", since=11)
def _unique(context: NodeContext) -> Any:
    """Sorts the elements, or the subtensors along the axis, and numbers the groups of equal ones."""
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl
    from plugin_autogen.lowering.te_helpers import const_expr, is_float

    shape, dtype = context.shape(0), context.dtype(0)
    axis = context.attribute("axis")
    axis = None if axis is None else tl.axis_of(context, axis, len(shape))
    count = tl.product(shape) if axis is None else shape[axis]
    rest = [] if axis is None else [*shape[:axis], *shape[axis + 1 :]]
    if not isinstance(count, int) or not isinstance(tl.product(rest), int):
        context.unsupported("the shape of the input must be known")
    bound = context.size_bound({0: axis or 0, 1: 0, 3: 0}, count)
    places = bound.places
    keep_order = not context.attribute("sorted", 1)
    work = "float32" if dtype in ("float16", "bfloat16") else "uint8" if dtype == "bool" else dtype

    # values[group, inner] is what is compared: whole subtensors, element by element.
    def value_at(position: list[Any], x: Any) -> Any:
        if axis is None:
            return x(*tl.unravel(position[0], shape)).astype(work)
        inner = tl.unravel(position[1], rest)
        return x(*inner[:axis], position[0], *inner[axis:]).astype(work)

    width = tl.product(rest)
    values = tl.gather(context, [count, width], value_at, context.input(0), name="values")
    order = _order(context, values, count, width, work)

    def same(x: Any, i: Any, j: Any, k: Any) -> Any:
        a, b = x[i, k], x[j, k]
        equal = a == b
        return tirx.any(equal, tirx.all(tirx.isnan(a), tirx.isnan(b))) if is_float(work) else equal

    def body(x: Any, sorted_to_own: Any, firsts: Any, inverse: Any, counts: Any, found: Any) -> None:
        begins, starts = tl.scratch([count], "int32"), tl.scratch([count + 1], "int32")
        one = tirx.const(1, "int32")

        def begin_of_group(p: Any) -> Any:
            differs = tl.local("int32")
            differs[0] = tirx.Select(p == 0, one, tirx.const(0, "int32"))
            with (
                tl.when(p > 0),
                tl.serial(width) as k,
                tl.when(tirx.Not(same(x, sorted_to_own[p], sorted_to_own[p - 1], k))),
            ):
                differs[0] = one
            begins[sorted_to_own[p]] = differs[0]
            return differs[0]

        group = running_count(count, begin_of_group, found)
        number = running_count(count, lambda i: begins[i]) if keep_order else None
        with tl.grid(count) as (p,):
            with tl.when(begins[sorted_to_own[p]] == 1):
                starts[group(p) - 1] = p
            with tl.when(p == count - 1):
                starts[group(p)] = tirx.const(count, "int32")
        with tl.grid(tl.larger(count, places)) as (p,):
            with tl.when(p < count):
                own = tl.bind(group(p) - 1)
                begin = tl.bind(sorted_to_own[starts[own]])
                result = tl.bind(number(begin) - 1 if number is not None else own)
                inverse[sorted_to_own[p]] = result.astype("int64")
                with tl.when(tirx.all(begin == sorted_to_own[p], result < places)):
                    firsts[result] = begin
                    counts[result] = (starts[own + 1] - p).astype("int64")
            with tl.when(tirx.all(p < places, p >= group(count - 1))):
                firsts[p], counts[p] = tirx.const(-1, "int32"), tirx.const(0, "int64")

    outputs = [([places], "int32"), ([count], "int64"), ([places], "int64"), ([1], "int64")]
    firsts, inverse, counts, found = tl.kernel(context, body, [values, order], outputs)
    size = context.declare_size(bound, found)

    def element(position: list[Any], x: Any, firsts: Any) -> Any:
        place = firsts(position[axis or 0])
        inside = tirx.max(place, 0)
        at = tl.unravel(inside, shape) if axis is None else [*position[:axis], inside, *position[axis + 1 :]]
        return tirx.if_then_else(place < 0, const_expr(0, dtype), x(*at))

    result = [size] if axis is None else [*shape[:axis], size, *shape[axis + 1 :]]
    unique = tl.gather(context, result, element, context.input(0), firsts, name="unique")
    numbers = [tl.gather(context, [size], lambda i, x: x(*i).astype("int64"), x) for x in (firsts, counts)]
    return [unique, numbers[0], inverse, numbers[1]]


def _order(context: NodeContext, values: Any, count: int, width: int, work: str) -> Any:
    """The rows' indices in ascending order, equal rows in their own order: int32 [count]."""
    from tvm import tirx

    from plugin_autogen.lowering import sort
    from plugin_autogen.lowering import te_loops as tl
    from plugin_autogen.lowering.operators.movement import reshape

    if width == 1:
        lines = reshape(context, [1, count], values)
        _, indices = sort.sorted_lines(context, lines, 1, count, count, False, "order")
        return reshape(context, [count], indices)

    def body(x: Any, order: Any) -> None:
        """Each row counts the rows before it."""
        with tl.grid(count) as (i,):
            rank = tl.local("int32")
            rank[0] = tirx.const(0, "int32")
            with tl.serial(count) as j:
                ahead = tl.local("int32")  # -1: row i comes first, 1: row j, 0: equal so far
                ahead[0] = tirx.const(0, "int32")
                with tl.serial(width) as k, tl.when(ahead[0] == 0):
                    with tl.when(sort.before(x[j, k], tirx.const(0, "int32"), x[i, k], tirx.const(0, "int32"), False)):
                        ahead[0] = tirx.const(1, "int32")
                    with tl.when(sort.before(x[i, k], tirx.const(0, "int32"), x[j, k], tirx.const(0, "int32"), False)):
                        ahead[0] = tirx.const(-1, "int32")
                with tl.when(tirx.any(ahead[0] == 1, tirx.all(ahead[0] == 0, j < i))):
                    rank[0] = rank[0] + 1
            order[rank[0]] = i

    return tl.kernel(context, body, [values], [([count], "int32")], "order")[0]
