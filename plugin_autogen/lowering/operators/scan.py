"""CumSum and CumProd."""

from __future__ import annotations

from typing import Any

from plugin_autogen.lowering.registry import NodeContext, converter

CHUNK_THREADS = 256


@converter("CumSum", since=11)
def _cumsum(context: NodeContext) -> Any:
    return _scan(context, product=False)


@converter("CumProd", since=26)
def _cumprod(context: NodeContext) -> Any:
    return _scan(context, product=True)


def _scan(context: NodeContext, product: bool) -> Any:
    """One block for each line along the axis: every thread scans its part, thread 0 the parts' totals.

    Short lines, or many of them, take one thread a line instead.
    """
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as th

    shape, dtype = context.shape(0), context.dtype(0)
    axis = th.axis_of(context, int(context.constant(1).reshape(-1)[0]), len(shape))
    exclusive, reverse = bool(context.attribute("exclusive", 0)), bool(context.attribute("reverse", 0))
    total_type = th.accumulator(dtype)
    index = th.index_type(shape)
    lines, extent = th.product(shape[:axis]) * th.product(shape[axis + 1 :]), shape[axis]
    inner = th.product(shape[axis + 1 :])
    neutral = tirx.const(1 if product else 0, total_type)

    def place(line: Any, step: Any) -> list[Any]:
        step = extent - 1 - step if reverse else step
        flat = (tirx.floordiv(line, inner) * extent + step) * inner + tirx.floormod(line, inner)
        return th.unravel(flat, shape)

    def combine(a: Any, b: Any) -> Any:
        return a * b if product else a + b

    def walk(data: Any, result: Any, total: Any, line: Any, first: Any, count: Any) -> None:
        """Writes `count` results from `first` on, `total` being what comes before them."""
        with th.serial(count, index) as step, th.when(first + step < extent):
            at = place(line, first + step)
            value = data[tuple(at)].astype(total_type)
            if exclusive:
                result[tuple(at)] = total[0].astype(dtype)
                total[0] = combine(total[0], value)
            else:
                total[0] = combine(total[0], value)
                result[tuple(at)] = total[0].astype(dtype)

    def one_thread_a_line(data: Any, result: Any) -> None:
        with th.grid(lines, dtype=index, threads=64) as (line,):
            total = th.local(total_type)
            total[0] = neutral
            walk(data, result, total, line, tirx.const(0, index), extent)

    def one_block_a_line(data: Any, result: Any) -> None:
        part = tirx.floordiv(extent + CHUNK_THREADS - 1, CHUNK_THREADS)
        with th.block(lines, dtype=index, threads=CHUNK_THREADS) as (line,):
            totals = th.shared([CHUNK_THREADS], total_type)
            with th.thread(CHUNK_THREADS, dtype=index) as (t,):
                sum_ = th.local(total_type)
                sum_[0] = neutral
                with th.serial(part, index) as step, th.when(t * part + step < extent):
                    sum_[0] = combine(sum_[0], data[tuple(place(line, t * part + step))].astype(total_type))
                totals[t] = sum_[0]
            with th.serial(CHUNK_THREADS - 1, index) as t:
                totals[t + 1] = combine(totals[t], totals[t + 1])
            with th.thread(CHUNK_THREADS, dtype=index) as (t,):
                total = th.local(total_type)
                total[0] = tirx.if_then_else(t > 0, totals[t - 1], neutral)
                walk(data, result, total, line, t * part, part)

    short = isinstance(extent, int) and extent <= 32
    body = one_thread_a_line if short else one_block_a_line
    return th.kernel(context, body, [context.input(0)], [(shape, dtype)])
