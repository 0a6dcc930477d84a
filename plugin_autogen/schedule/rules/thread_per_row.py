"""One thread a row: reductions over an axis that is not the innermost one, or over few elements, and what follows.

A softmax over the channels of an image has its rows side by side: neighbouring threads, each with a row of its own,
read neighbouring elements, and the row's statistics stay in registers. A block of threads a row would read scattered
elements and be idle for the most part.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm import s_tir, tirx
    from tvm.target import Target

ANNOTATION = "plugin_autogen.rows"
THREADS = 128


def rows_attribute(axes: Sequence[int]) -> dict[str, str]:
    """Attributes for the last stage of a computation: its axes that name a row; a thread loops over the others."""
    return {ANNOTATION: ",".join(map(str, axes))}


class ThreadPerRow:
    """Applies where the last block carries the annotation; the reductions in front of it must have one value a row."""

    name = "thread_per_row"
    keeps_host_loops = False

    def apply(self, function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc | None:
        from tvm import s_tir
        from tvm.s_tir.schedule import ScheduleError

        schedule = s_tir.Schedule(function)
        root = schedule.get_sblock("root")
        blocks = list(schedule.get_child_blocks(root))
        if not any(_annotation(schedule, block) is not None for block in blocks):
            return None
        while _annotation(schedule, blocks[-1]) is None:  # element-wise operators that were fused behind
            schedule.reverse_compute_inline(blocks.pop())
        last = blocks.pop()
        rows = _annotation(schedule, last)
        if rows is None or _reduced(schedule, last):
            return None
        producers = []
        for block in blocks:
            if _reduced(schedule, block):
                producers.append(block)
                continue
            schedule.compute_inline(block)
        thread = _bind(schedule, last, [int(axis) for axis in rows.split(",") if axis])
        for producer in reversed(producers):
            reduced = _reduced(schedule, producer)
            schedule.compute_at(producer, thread, preserve_unit_loops=True)
            schedule.set_scope(producer, 0, "local")
            # where the thread's position is no affine expression of the loops, the start value stays in the loop
            with contextlib.suppress(ScheduleError):
                schedule.decompose_reduction(producer, schedule.get_loops(producer)[-reduced])
        scheduled: tirx.PrimFunc = schedule.mod["main"]
        return scheduled


def _reduced(schedule: s_tir.Schedule, block: Any) -> int:
    """The number of axes that the block reduces."""
    from tvm import tirx

    return sum(i.iter_type == tirx.IterVar.CommReduce for i in schedule.get(block).iter_vars)


def _annotation(schedule: s_tir.Schedule, block: Any) -> str | None:
    value = schedule.get(block).annotations.get(ANNOTATION)
    return None if value is None else str(value)


def _bind(schedule: s_tir.Schedule, block: Any, rows: Sequence[int]) -> Any:
    """The loops of the rows to blocks and threads; gives the loop of threads."""
    loops = schedule.get_loops(block)
    outer = [loops[axis] for axis in rows]
    inner = [loop for axis, loop in enumerate(loops) if axis not in rows]
    if not outer:
        outer = [schedule.add_unit_loop(loops[0] if loops else block)]
    schedule.reorder(*outer, *inner)
    blocks, thread = schedule.split(schedule.fuse(*outer), [None, THREADS])
    schedule.bind(blocks, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    return thread
