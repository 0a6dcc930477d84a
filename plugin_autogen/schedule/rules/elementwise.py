"""Elementwise and gather-like functions: several neighbouring elements a thread, in accesses of up to 16 bytes.

One element a thread leaves memory latency in the open and computes each index, often with divisions, once an element.
For tensors that few threads fill it is the better choice all the same: there the next rule takes over.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm import s_tir, tirx
    from tvm.target import Target

THREADS = 256
ACCESS_BYTES = 16
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
        width = _width(schedule.get(block), int(extents[-1]))
        if width == 1 or total < self._few_elements:
            return None
        outer, thread, lane = schedule.split(schedule.fuse(*loops), [None, THREADS, width])
        schedule.bind(outer, "blockIdx.x")
        schedule.bind(thread, "threadIdx.x")
        schedule.vectorize(lane)
        scheduled: tirx.PrimFunc = schedule.mod["main"]
        return scheduled


def _width(block: s_tir.SBlock, row: int) -> int:
    """Elements a thread: as many as one access holds of the widest type, as long as rows are whole multiples."""
    buffers = [region.source for region in (*block.reads, *block.writes)]
    if any(_is_bool(buffer) for buffer in buffers):
        return 1  # TVM prints a vector of bools twice as wide as it is
    bits = max(_bits(buffer) for buffer in buffers)
    width = max(1, ACCESS_BYTES * 8 // bits)
    while row % width:
        width //= 2
    return width


def _is_bool(buffer: Any) -> bool:
    return str(buffer.dtype).startswith("bool")


def _bits(buffer: Any) -> int:
    digits = "".join(c for c in str(buffer.dtype) if c.isdigit())
    return int(digits) if digits else 8
