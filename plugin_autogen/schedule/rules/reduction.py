"""Reductions: a warp or a block works on each output where reduced elements lie side by side or outputs are few.

One thread an output, as dlight's Fallback has it, is right for reductions over an outer axis (neighbouring threads read
neighbouring elements). Along the innermost axis its reads are scattered, and a whole tensor is reduced by one thread.
Where even so most of a GPU would idle, each row is cut into parts that a first kernel reduces.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from plugin_autogen.schedule.inlining import inlined
from plugin_autogen.schedule.rules.elementwise import STAGED_TYPES

if TYPE_CHECKING:
    from tvm import s_tir, tirx
    from tvm.target import Target

WARP = 32
FEW_OUTPUTS = 4096
"""Below this many outputs one thread each leaves a GPU idle."""
SHORT_ROW = 256
"""Rows up to this length go to one warp, several rows to a block."""
ROWS_PER_BLOCK = 4
MAX_THREADS = 512
BUSY_THREADS = 1 << 18
"""What a large GPU holds at once; with fewer outputs than that, rows are cut into parts."""
ENOUGH = 16
"""With this part of the threads busy a second kernel costs more than it brings."""
MOST_AT_ONCE = 8
PART_OF_BLOCK, PART_OF_THREAD = 4096, 32
"""Elements that a block or a thread gets at least."""


class Reduction:
    """Applies to functions that hold a reduction; their other blocks get one thread an element."""

    name = "reduction"
    keeps_host_loops = False

    def __init__(self, busy_threads: int = BUSY_THREADS) -> None:
        self._busy_threads = busy_threads

    def apply(self, function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc | None:
        if (found := inlined(function)) is None:
            return None
        schedule, blocks = found
        if not any("R" in block.dom_kind() for block in blocks) or any("O" in block.dom_kind() for block in blocks):
            return None
        for info in blocks:
            block, kinds = info.block_rv, info.dom_kind()
            loops = schedule.get_loops(block)
            spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == "S"]
            reduced = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == "R"]
            if reduced and (parts := self._parts(schedule, block, spatial, reduced)) > 1:
                spatial, reduced = _split(schedule, block, spatial, reduced, parts)
            _schedule_block(schedule, block, spatial, reduced)
        scheduled: tirx.PrimFunc = schedule.mod["main"]
        return scheduled

    def _parts(self, schedule: s_tir.Schedule, block: Any, spatial: list[Any], reduced: list[Any]) -> int:
        """Into how many parts each row is cut so that a GPU is busy; parts are equal, 1 means whole."""
        outputs, elements = _extent(schedule, spatial), _extent(schedule, reduced)
        if outputs is None or elements is None or len(schedule.get(block).writes) != 1 or not outputs:
            return 1
        if _is_cooperative(schedule, block, outputs, elements):
            wanted, least = self._busy_threads // MAX_THREADS // outputs, PART_OF_BLOCK
        elif outputs * ENOUGH >= self._busy_threads:
            return 1
        else:
            wanted, least = self._busy_threads // outputs, PART_OF_THREAD
        return max((n for n in range(1, min(wanted, elements // least) + 1) if elements % n == 0), default=1)


def _split(
    schedule: s_tir.Schedule, block: Any, spatial: list[Any], reduced: list[Any], parts: int
) -> tuple[list[Any], list[Any]]:
    """Reduces each part in a kernel of its own; the loops of what is left, which reduces the parts' results."""
    schedule.reorder(*spatial, *reduced)
    part, _ = schedule.split(schedule.fuse(*reduced), [parts, None])
    partial = schedule.rfactor(part, 0)
    *outer, part, rest = schedule.get_loops(partial)
    _schedule_block(schedule, partial, [part, *outer], [rest])
    *outer, part = schedule.get_loops(block)
    return outer, [part]


def _schedule_block(schedule: s_tir.Schedule, block: Any, spatial: list[Any], reduced: list[Any]) -> None:
    outputs = _extent(schedule, spatial)
    elements = _extent(schedule, reduced)
    if not spatial:
        spatial = [schedule.add_unit_loop(block)]
    schedule.reorder(*spatial, *reduced)
    row = schedule.fuse(*spatial)
    if not reduced or not _is_cooperative(schedule, block, outputs, elements):
        blocks, threads = schedule.split(row, [None, min(1024, _power_of_two(outputs, WARP))])
        schedule.bind(blocks, "blockIdx.x")
        schedule.bind(threads, "threadIdx.x")
        if reduced:
            written = schedule.get(block).writes
            if len(written) == 1 and str(written[0].source.dtype) in STAGED_TYPES:
                store = schedule.cache_write(block, 0, "local")  # the sum stays in a register
                schedule.reverse_compute_at(store, threads, preserve_unit_loops=True)
            start, at_once = reduced[0], _unrolled(_extent(schedule, reduced[-1:]), 1)
            if at_once > 1:
                outer, several = schedule.split(reduced[-1], [None, at_once])
                schedule.unroll(several)
                start = outer if len(reduced) == 1 else start
            schedule.decompose_reduction(block, start)
        return
    element = schedule.fuse(*reduced)
    if elements is not None and elements <= SHORT_ROW and (outputs is None or outputs >= FEW_OUTPUTS):
        row, lane_group = schedule.split(row, [None, ROWS_PER_BLOCK])
        schedule.bind(lane_group, "threadIdx.y")
        threads = WARP
    else:
        threads = min(MAX_THREADS, _power_of_two(elements, WARP))
    _, several, lane = schedule.split(element, [None, _unrolled(elements, threads), threads])
    schedule.unroll(several)
    schedule.bind(row, "blockIdx.x")
    schedule.bind(lane, "threadIdx.x")


def _unrolled(elements: int | None, threads: int) -> int:
    """Elements that a thread loads before it needs the first: without, each waits for the one before it."""
    count = 1
    while elements is not None and count < MOST_AT_ONCE and elements % (2 * count * threads) == 0:
        count *= 2
    return count


def _is_cooperative(schedule: s_tir.Schedule, block: Any, outputs: int | None, elements: int | None) -> bool:
    """Whether several threads share one output."""
    if elements is not None and elements < WARP:
        return False
    return _reads_along_reduction(schedule, block) or (outputs is not None and outputs < FEW_OUTPUTS)


def _reads_along_reduction(schedule: s_tir.Schedule, block: Any) -> bool:
    """Whether the innermost index of the largest input moves with a reduced axis."""
    import tvm_ffi
    from tvm import tirx

    statement = schedule.get(block)
    reduced = {iterator.var for iterator in statement.iter_vars if iterator.iter_type == tirx.IterVar.CommReduce}
    written = {region.source for region in statement.writes}
    found: dict[bool, int] = {}
    for region in statement.reads:
        if region.source in written or not region.region:
            continue
        used: list[Any] = []
        tvm_ffi.structural_walk(region.region[-1].min, (tirx.Var, used.append))
        along = any(variable in reduced for variable in used)
        # a vector that each row is multiplied with does not count beside the matrix
        sizes = [int(size) if isinstance(size, tirx.IntImm) else 1 << 20 for size in region.source.shape]
        found[along] = max(found.get(along, 0), math.prod(sizes))
    return found.get(True, 0) > found.get(False, 0)


def _extent(schedule: s_tir.Schedule, loops: list[Any]) -> int | None:
    """Product of the loops' extents; None where one is known only at run time."""
    from tvm import tirx

    extents = [schedule.get(loop).extent for loop in loops]
    if not all(isinstance(extent, tirx.IntImm) for extent in extents):
        return None
    return math.prod(int(extent) for extent in extents)


def _power_of_two(count: int | None, least: int) -> int:
    """The smallest power of two that is not below `count` and `least`; 256 where the count is not known."""
    return 256 if count is None else max(least, 1 << max(count - 1, 0).bit_length())
