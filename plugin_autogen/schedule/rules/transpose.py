"""Transpositions: tiles that pass through shared memory, so that reads and writes both touch neighbouring elements.

One thread an element writes neighbours and reads elements that lie a row apart, each from another line of the cache.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from plugin_autogen.schedule.inlining import single_spatial_block
from plugin_autogen.schedule.rules.elementwise import can_stage

if TYPE_CHECKING:
    from tvm import s_tir, tirx
    from tvm.target import Target

TILE = 32
THREADS = 256
FEW_ELEMENTS = 1 << 16
"""Below this everything lies in the nearest cache."""
SHORTEST = 16
"""Along a shorter axis most of a tile would be empty."""


class Transpose:
    """Applies to functions that are one block without reductions and read one tensor across its innermost axis.

    All else that they read must be small or lie as the output does. Sizes are fixed.
    """

    name = "transpose"
    keeps_host_loops = False

    def __init__(self, few_elements: int = FEW_ELEMENTS) -> None:
        self._few_elements = few_elements

    def apply(self, function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc | None:
        from tvm import s_tir

        schedule = s_tir.Schedule(function)
        if (found := single_spatial_block(schedule)) is None:
            return None
        block, extents = found
        statement = schedule.get(block)
        if not self._few_elements <= math.prod(extents) < 1 << 31:
            return None
        crossed = [(i, axes) for i in range(len(statement.reads)) if (axes := _crossed_axes(statement, i)) is not None]
        if len(crossed) != 1 or not can_stage(statement):
            return None
        ((read, (row, column)),) = crossed
        if min(extents[row], extents[column]) < SHORTEST:
            return None
        _schedule(schedule, block, read, row, column)
        scheduled: tirx.PrimFunc = schedule.mod["main"]
        return scheduled


def _crossed_axes(block: s_tir.SBlock, read: int) -> tuple[int, int] | None:
    """The block's axes that run along the innermost axis of the tensor read, and of the tensor written.

    None where they are the same, or where the tensor is not read at plain, distinct variables, one for each axis.
    """
    from tvm import tirx

    (written,) = block.writes
    places = {iterator.var: place for place, iterator in enumerate(block.iter_vars)}

    def axes(region: Any) -> list[int] | None:
        found = []
        for part, size in zip(region.region, region.source.shape, strict=True):
            if isinstance(size, tirx.IntImm) and int(size) == 1:
                continue
            if not isinstance(part.min, tirx.Var) or part.min not in places:
                return None
            found.append(places[part.min])
        return found if len(set(found)) == len(found) else None

    inner, outer = axes(block.reads[read]), axes(written)
    if not inner or not outer or set(inner) != set(outer) or inner[-1] == outer[-1]:
        return None
    return inner[-1], outer[-1]


def _schedule(schedule: s_tir.Schedule, block: Any, read: int, row: int, column: int) -> None:
    loops = list(schedule.get_loops(block))
    row_tile, row_in = schedule.split(loops[row], [None, TILE])
    column_tile, column_in = schedule.split(loops[column], [None, TILE])
    loops[row], loops[column] = row_tile, column_tile
    schedule.reorder(*loops, row_in, column_in)
    group = schedule.fuse(*loops)
    schedule.bind(group, "blockIdx.x")
    copy = schedule.cache_read(block, read, "shared")
    schedule.compute_at(copy, group, preserve_unit_loops=True)
    # an odd number of words a row, so that a column's elements lie in different banks
    schedule.storage_align(copy, 0, -2, TILE, 1)
    for loop in (schedule.fuse(row_in, column_in), schedule.fuse(*schedule.get_loops(copy)[1:])):
        _, thread = schedule.split(loop, [None, THREADS])
        schedule.bind(thread, "threadIdx.x")
