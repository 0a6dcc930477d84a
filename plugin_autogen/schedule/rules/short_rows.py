"""Softmax-like functions over short rows: a warp a row, several rows a block.

dlight's GeneralReduction gives each row a block of 256 threads. A row of 64 elements leaves most of them idle, and each
reduction costs barriers of the whole block where shuffles within a warp would do.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from plugin_autogen.schedule.inlining import inlined

if TYPE_CHECKING:
    from tvm import tirx
    from tvm.target import Target

WARP = 32
ROWS_PER_BLOCK = 8
LONGEST = 1024
"""Elements of a row; a block is the better choice for longer ones."""
FEWEST_ROWS = 256
"""With fewer rows than this, blocks of one row keep more of a GPU busy."""


class ShortRows:
    """Applies to reductions over the last axes of equal rows, and to what follows for all elements of these rows.

    All blocks share their leading spatial axes; sizes are fixed.
    """

    name = "short_rows"
    keeps_host_loops = False

    def __init__(self, fewest_rows: int = FEWEST_ROWS) -> None:
        self._fewest_rows = fewest_rows

    def apply(self, function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc | None:
        if (found := inlined(function)) is None:
            return None
        schedule, blocks = found
        kinds = blocks[0].dom_kind()
        leading = len(kinds) - len(kinds.lstrip("S"))
        if kinds != "S" * leading + "R" * (len(kinds) - leading) or not 0 < leading < len(kinds) or len(blocks) < 2:
            return None
        *inner, last = blocks
        if any(block.dom_kind() not in (kinds, "S" * len(kinds)) for block in inner) or last.dom_kind() != "S" * len(
            kinds
        ):
            return None
        extents = [_extents(schedule, block.block_rv) for block in blocks]
        if extents[0] is None or any(e != extents[0] for e in extents):
            return None
        rows, elements = math.prod(extents[0][:leading]), math.prod(extents[0][leading:])
        if rows < self._fewest_rows or not 1 < elements <= LONGEST:
            return None

        *outer, rows_loop = (loops := schedule.get_loops(last.block_rv))[:leading]
        # Rows of one axis alone share a block, so that what they need of the others is a box.
        group, row = schedule.split(rows_loop, [None, ROWS_PER_BLOCK])
        group = schedule.fuse(*outer, group)
        schedule.bind(group, "blockIdx.x")
        schedule.bind(row, "threadIdx.y")
        _bind_lanes(schedule, loops[leading:])
        for block in reversed(inner):
            # In registers every lane gets the result; in shared memory TVM would leave out the barrier behind lane 0.
            schedule.set_scope(block.block_rv, 0, "local")
            schedule.compute_at(block.block_rv, row, preserve_unit_loops=True)
            _bind_lanes(schedule, schedule.get_loops(block.block_rv)[leading - len(kinds) :])
        scheduled: tirx.PrimFunc = schedule.mod["main"]
        return scheduled


def _bind_lanes(schedule: Any, loops: list[Any]) -> None:
    """The elements of a row to the lanes of a warp, neighbours side by side."""
    step, lane = schedule.split(schedule.fuse(*loops), [None, WARP])
    schedule.reorder(lane, step)
    schedule.bind(lane, "threadIdx.x")


def _extents(schedule: Any, block: Any) -> list[int] | None:
    """Of a block's axes; None where one is not fixed."""
    extents = [iterator.dom.extent for iterator in schedule.get(block).iter_vars]
    return [int(e) for e in extents] if all(hasattr(e, "value") for e in extents) else None
