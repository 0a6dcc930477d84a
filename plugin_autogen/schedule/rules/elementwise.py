"""Elementwise and gather-like functions: several neighbouring elements a thread, in accesses of up to 16 bytes.

One element a thread leaves memory latency in the open and computes each index, often with divisions, once an element.
For tensors that few threads fill it is the better choice all the same: there the next rule takes over.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm import s_tir, tirx
    from tvm.target import Target

THREADS = 256
ACCESS_BYTES = 16
MOST_LANES = 8
FEW_ELEMENTS = 1 << 18
"""Below this a GPU has a thread for each element at once."""


class Elementwise:
    """Applies to functions that are one block without reductions, of fixed and large size."""

    name = "elementwise"
    keeps_host_loops = False

    def __init__(self, few_elements: int = FEW_ELEMENTS) -> None:
        self._few_elements = few_elements

    def apply(self, function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc | None:
        from tvm import s_tir
        from tvm.s_tir.dlight.analysis import normalize_prim_func
        from tvm.s_tir.dlight.base import try_inline

        schedule = s_tir.Schedule(function)
        blocks = normalize_prim_func(schedule)
        if blocks is None:
            return None
        blocks = try_inline(schedule, blocks)
        if len(blocks) != 1 or set(blocks[0].dom_kind()) != {"S"}:
            return None
        block = blocks[0].block_rv
        loops = schedule.get_loops(block)
        extents = [schedule.get(loop).extent for loop in loops]
        if not loops or any(not hasattr(extent, "value") for extent in extents):
            return None
        total = math.prod(int(extent) for extent in extents)
        statement = schedule.get(block)
        width = _width(statement, int(extents[-1]))
        if width == 1 or not self._few_elements <= total < 1 << 31:
            return None
        if _is_plain(statement):
            _, lane = _bind(schedule, loops, width)
            schedule.vectorize(lane)
        else:
            _stage(schedule, block, loops, width)
        scheduled: tirx.PrimFunc = schedule.mod["main"]
        return scheduled


def _bind(schedule: s_tir.Schedule, loops: list[Any], width: int) -> tuple[Any, Any]:
    """The loops of a thread and of its elements."""
    outer, thread, lane = schedule.split(schedule.fuse(*loops), [None, THREADS, width])
    schedule.bind(outer, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    return thread, lane


def _stage(schedule: s_tir.Schedule, block: Any, loops: list[Any], width: int) -> None:
    """Only the accesses to memory are vectors; the values in between are computed one by one in registers."""
    reads = [i for i, region in enumerate(schedule.get(block).reads) if _is_streamed(schedule.get(block), region)]
    copies = [schedule.cache_read(block, i, "local") for i in reads]
    store = schedule.cache_write(block, 0, "local")
    thread, lane = _bind(schedule, schedule.get_loops(block), width)
    schedule.unroll(lane)
    schedule.reverse_compute_at(store, thread, preserve_unit_loops=True)
    for copy in copies:
        schedule.compute_at(copy, thread, preserve_unit_loops=True)
    for copy in (*copies, store):
        schedule.vectorize(schedule.get_loops(copy)[-1])


def _is_streamed(block: s_tir.SBlock, region: Any) -> bool:
    """Whether the block reads of this tensor just the element that it writes."""
    from tvm_ffi import structural_equal

    (written,) = block.writes
    return (
        not _is_bool(region.source)
        and len(region.region) == len(written.region)
        and all(
            structural_equal(mine.min, theirs.min) for mine, theirs in zip(region.region, written.region, strict=True)
        )
    )


def _is_bool(buffer: Any) -> bool:
    """TVM prints a vector of bools twice as wide as it is."""
    return str(buffer.dtype).startswith("bool")


def _width(block: s_tir.SBlock, row: int) -> int:
    """Elements a thread: as many as one access of the widest streamed type holds, as long as rows are multiples."""
    (written,) = block.writes
    streamed = [written.source, *(region.source for region in block.reads if _is_streamed(block, region))]
    if _is_bool(written.source):
        return 1
    width = min(MOST_LANES, ACCESS_BYTES * 8 // max(_bits(buffer) for buffer in streamed))
    while row % width:
        width //= 2
    return width


def _bits(buffer: Any) -> int:
    digits = re.search(r"\d+", str(buffer.dtype))
    return int(digits[0]) if digits else ACCESS_BYTES * 8


def _is_plain(block: s_tir.SBlock) -> bool:
    """Whether every value has 32 bits and nothing is chosen by a condition.

    TVM prints vectors of other types, and conditions over vectors, as code that nvcc refuses, or wrongly. Indices are
    still 64 bits wide here; those of tensors that fit 32 bits are narrowed before code is made of them.
    """
    import tvm_ffi
    from tvm import ir, tirx

    plain = True

    def look(node: Any) -> None:
        nonlocal plain
        dtype = str(getattr(node.ty, "dtype", "int32"))
        plain = plain and dtype in ("float32", "int32", "int64") and not isinstance(node, tirx.Select)

    if any(str(region.source.dtype) not in ("float32", "int32") for region in (*block.reads, *block.writes)):
        return False
    tvm_ffi.structural_walk(block.body, (ir.Expr, look))
    return plain
