"""TopK, ArgMax and ArgMin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plugin_autogen.lowering.registry import NodeContext, converter


@converter("TopK", since=1)
def _top_k(context: NodeContext) -> Any:
    from tvm import relax

    from plugin_autogen.lowering import sort
    from plugin_autogen.lowering import te_loops as tl

    shape, dtype = context.shape(0), context.dtype(0)
    k = int(context.attribute("k") if context.opset < 10 else context.constant(1).reshape(-1)[0])
    axis = tl.axis_of(context, context.attribute("axis", -1), len(shape))
    extent = shape[axis]
    if k < 0 or (isinstance(extent, int) and k > extent):
        context.unsupported(f"k is {k}, the axis has {extent} elements")
    outer, inner = tl.product(shape[:axis]), tl.product(shape[axis + 1 :])
    result = [*shape[:axis], k, *shape[axis + 1 :]]
    if k == 0:
        empty = tl.gather(context, result, lambda position, x: x(*position), context.input(0))
        return [empty, context.emit(relax.op.astype(empty, "int64"))]
    work = sort.working_type(dtype)

    def line(position: list[Any], x: Any) -> Any:
        o, i = tl.unravel(position[0], [outer, inner])
        return x(*tl.unravel(tl.ravel([o, position[1], i], [outer, extent, inner]), shape)).astype(work)

    lines = tl.gather(context, [outer * inner, extent], line, context.input(0), name="lines")
    descending = bool(context.attribute("largest", 1))
    values, indices = sort.sorted_lines(context, lines, outer * inner, extent, k, descending, "topk")

    def back(position: list[Any], x: Any) -> Any:
        o, i = tl.ravel(position[:axis], shape[:axis]), tl.ravel(position[axis + 1 :], shape[axis + 1 :])
        return x(o * inner + i, position[axis])

    return [
        tl.gather(context, result, lambda p, x: back(p, x).astype(dtype), values, name="values"),
        tl.gather(context, result, lambda p, x: back(p, x).astype("int64"), indices, name="indices"),
    ]


@converter("ArgMax", "ArgMin", since=1)
def _arg_extreme(context: NodeContext) -> Any:
    """One kernel: a block for each result, or a thread where results are many and neighbours read side by side."""
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    shape, dtype = context.shape(0), context.dtype(0)
    axis = tl.axis_of(context, context.attribute("axis", 0), len(shape))
    outer, extent, inner = shape[:axis], shape[axis], shape[axis + 1 :]
    kept = [1] if context.attribute("keepdims", 1) else []
    work, index = sort_type(dtype), tl.index_type(shape)
    better = _better(context.node.op_type == "ArgMax", bool(context.attribute("select_last_index", 0)))

    def take(places: Any, values: Any, at: Any, place: Any, value: Any) -> None:
        """Keeps the better of the pair at `at` and another one."""
        with tl.when(better(value, place, values[at], places[at])):
            values[at] = value
            places[at] = place

    def scan(x: Any, position: list[Any], places: Any, values: Any, at: Any, first: Any, stride: int) -> None:
        """The best of the elements `first`, `first + stride` and so on along the axis."""
        places[at] = tirx.const(-1, index)
        values[at] = tirx.const(0, work)
        with tl.serial(tirx.floordiv(extent + (stride - 1), stride), index) as step:
            i = tl.bind(step * stride + first)
            with tl.when(i < extent):
                element = (*position[: len(outer)], i, *position[len(outer) :])
                take(places, values, at, i, tl.bind(x[element].astype(work)))

    def store(result: Any, position: list[Any], place: Any) -> None:
        at = [*position[: len(outer)], *[0 for _ in kept], *position[len(outer) :]]
        result[tuple(at)] = place.astype("int64")

    def thread_each(x: Any, result: Any) -> None:
        with tl.grid(*outer, *inner, dtype=index) as position:
            places, values = tl.local(index), tl.local(work)
            scan(x, position, places, values, 0, tirx.const(0, index), 1)
            store(result, position, places[0])

    def block_each(x: Any, result: Any) -> None:
        threads = _THREADS if isinstance(extent, int) and extent < _LONG else 4 * _THREADS
        with tl.block(tl.product(outer) * tl.product(inner), dtype=index, threads=threads) as (line,):
            position = [tl.bind(i) for i in tl.unravel(line, [*outer, *inner])]
            places, values = tl.shared([threads], index), tl.shared([threads], work)
            with tl.thread(threads, dtype=index) as (t,):
                place, value = tl.local(index), tl.local(work)
                scan(x, position, place, value, 0, t, threads)
                places[t], values[t] = place[0], value[0]
            for half in (threads >> step for step in range(1, threads.bit_length())):
                with tl.thread(half, dtype=index) as (t,):
                    take(places, values, t, places[t + half], values[t + half])
            store(result, position, places[0])

    results = tl.product(outer) * tl.product(inner)
    few = not isinstance(results, int) or results < _MANY
    long = not isinstance(extent, int) or extent > 32
    body = block_each if long and (few or not inner) else thread_each
    return tl.kernel(context, body, [context.input(0)], [([*outer, *kept, *inner], "int64")])


_THREADS = 128
_LONG = 4096
"""Elements from which on a block has more threads."""
_MANY = 4096
"""From this many results on, a thread each fills a GPU."""


def _better(largest: bool, last: bool) -> Callable[[Any, Any, Any, Any], Any]:
    """Whether the first of two (value, place) pairs is ahead; place -1 stands for nothing, NaN is ahead as in numpy."""

    def better(a: Any, place_a: Any, b: Any, place_b: Any) -> Any:
        from tvm import tirx

        from plugin_autogen.lowering.te_helpers import is_float

        ahead, equal = (a > b if largest else a < b), a == b
        if is_float(str(a.ty.dtype)):
            nan_a, nan_b = tirx.isnan(a), tirx.isnan(b)
            ahead = tirx.any(ahead, tirx.all(nan_a, tirx.Not(nan_b)))
            equal = tirx.any(equal, tirx.all(nan_a, nan_b))
        earlier = place_a > place_b if last else place_a < place_b
        return tirx.all(place_a >= 0, tirx.any(place_b < 0, ahead, tirx.all(equal, earlier)))

    return better


def sort_type(dtype: str) -> str:
    """The type in which values are compared."""
    from plugin_autogen.lowering import sort

    return sort.working_type(dtype)
