"""One thread an output, for blocks that ask for it: depthwise convolutions and poolings.

Their windows overlap, so neighbouring threads read neighbouring elements and the caches serve the rest; a warp an
output, as the reduction rule has it, or a matrix tile would leave most threads idle.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm import s_tir, tirx
    from tvm.target import Target

ANNOTATION = "plugin_autogen.schedule"
VALUE = "thread_per_output"
THREADS = 256


class ThreadPerOutput:
    """Applies where a block carries the annotation; reductions in front of the output stay in registers."""

    name = VALUE
    keeps_host_loops = False

    def apply(self, function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc | None:
        from tvm import s_tir
        from tvm.s_tir.dlight.analysis import normalize_prim_func
        from tvm.s_tir.dlight.base import try_inline

        schedule = s_tir.Schedule(function)
        root = schedule.get_sblock("root")
        if not any(_asks(schedule, block) for block in schedule.get_child_blocks(root)):
            return None
        blocks = normalize_prim_func(schedule)
        if blocks is None:
            return None
        blocks = try_inline(schedule, blocks)
        if any("O" in block.dom_kind() for block in blocks):
            return None
        pending: list[tuple[Any, str]] = []
        for info in blocks:
            block, kinds = info.block_rv, info.dom_kind()
            consumers = schedule.get_consumers(block)
            if len(consumers) == 1 and "R" in kinds and _same_shape(schedule, block, consumers[0]):
                pending.append((block, kinds))
                continue
            thread = _bind(schedule, block, kinds)
            for producer, producer_kinds in reversed(pending):
                schedule.compute_at(producer, thread, preserve_unit_loops=True)
                schedule.set_scope(producer, 0, "local")
                reduced = schedule.get_loops(producer)[-producer_kinds.count("R") :]
                # Indices made of symbolic sizes are not affine to TVM: there the sum is set to 0 in the loop.
                with contextlib.suppress(s_tir.ScheduleError):
                    schedule.decompose_reduction(producer, reduced[0])
            pending = []
        scheduled: tirx.PrimFunc = schedule.mod["main"]
        return scheduled


def _asks(schedule: s_tir.Schedule, block: Any) -> bool:
    return bool(schedule.get(block).annotations.get(ANNOTATION) == VALUE)


def _same_shape(schedule: s_tir.Schedule, block: Any, consumer: Any) -> bool:
    """Whether the consumer reads each element once, by the loops that write it."""
    from tvm_ffi import structural_equal

    mine = [i.dom.extent for i in schedule.get(block).iter_vars if i.iter_type == 0]
    theirs = [i.dom.extent for i in schedule.get(consumer).iter_vars]
    kinds = {int(i.iter_type) for i in schedule.get(consumer).iter_vars}
    return kinds == {0} and len(mine) == len(theirs) and all(map(structural_equal, mine, theirs))


def _bind(schedule: s_tir.Schedule, block: Any, kinds: str) -> Any:
    """Spatial loops to blocks and threads; the loop of threads."""
    loops = schedule.get_loops(block)
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == "S"]
    reduced = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == "R"]
    if not spatial:
        spatial = [schedule.add_unit_loop(block)]
    schedule.reorder(*spatial, *reduced)
    outer, thread = schedule.split(schedule.fuse(*spatial), [None, THREADS])
    schedule.bind(outer, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    if reduced:
        schedule.decompose_reduction(block, reduced[0])
    return thread
