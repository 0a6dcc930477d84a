"""The last resort: the whole function in one thread of one block. Slow, but right for every function."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm import tirx
    from tvm.target import Target


class Serial:
    """Binds a unit loop around each outermost loop nest, in order: each becomes a kernel of one thread."""

    name = "serial"
    keeps_host_loops = False

    def apply(self, function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc | None:
        from tvm import s_tir

        schedule = s_tir.Schedule(function)
        root = schedule.get_sblock("root")
        for block in schedule.get_child_blocks(root):
            loops = schedule.get_loops(block)
            outer = schedule.add_unit_loop(loops[0] if loops else block)
            inner = schedule.add_unit_loop(outer)
            schedule.bind(outer, "blockIdx.x")
            schedule.bind(inner, "threadIdx.x")
        scheduled: tirx.PrimFunc = schedule.mod["main"]
        return scheduled
