"""Elementwise and gather-like functions: several neighbouring elements a thread, in accesses of up to 16 bytes.

One element a thread leaves memory latency in the open and computes each index, often with divisions, once an element.
For tensors that few threads fill it is the better choice all the same: there the next rule takes over.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from plugin_autogen.schedule.inlining import single_spatial_block

if TYPE_CHECKING:
    from tvm import s_tir, tirx
    from tvm.target import Target

THREADS = 256
ACCESS_BYTES = 16
MOST_LANES = 8
PLAIN_TYPES = {"float32", "int32", "int64"}
"""Of values that are computed as vectors. TVM prints vectors of others, and conditions over vectors, as code that nvcc
refuses, or wrongly. (64 bits are those of indices here, which are narrowed before code is made of them.)"""
STAGED_TYPES = PLAIN_TYPES | {"bool", "float16", "float64", "int8", "uint8", "int16", "uint16", "uint32", "uint64"}
"""Of values that may stand in registers: TVM replaces bfloat16 and float8 there, and turns copies into conversions."""
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

        schedule = s_tir.Schedule(function)
        if (found := single_spatial_block(schedule)) is None:
            return None
        block, extents = found
        statement = schedule.get(block)
        width = widest(statement, extents[-1])
        if width == 1 or not self._few_elements <= math.prod(extents) < 1 << 31:
            return None
        if can_compute_vectors(statement):
            vectorize(schedule, block, width, THREADS)
        elif can_stage(statement):
            stage(schedule, block, width, THREADS)
        else:
            return None
        scheduled: tirx.PrimFunc = schedule.mod["main"]
        return scheduled


def can_compute_vectors(block: s_tir.SBlock) -> bool:
    """Whether TVM prints the block's values right as vectors."""
    return _value_types(block) <= PLAIN_TYPES and not _holds_int64(block) and not _chooses(block)


def can_stage(block: s_tir.SBlock) -> bool:
    """Whether the block's operands may stand in registers."""
    return _value_types(block) <= STAGED_TYPES


def vectorize(schedule: s_tir.Schedule, block: Any, width: Any, threads: Any) -> None:
    """Neighbouring elements of a thread are loaded, computed and stored as one vector."""
    _, lane = _bind(schedule, block, width, threads)
    schedule.vectorize(lane)


def _bind(schedule: s_tir.Schedule, block: Any, width: Any, threads: Any) -> tuple[Any, Any]:
    """The loops of a thread and of its elements.

    A thread's elements are cut off the innermost axis before the axes are fused: from indices that are quotients and
    remainders of one running number TVM does not see how few elements a thread has, and gives it registers for all.
    """
    *outer, last = schedule.get_loops(block)
    last, lane = schedule.split(last, [None, width])
    group, thread = schedule.split(schedule.fuse(*outer, last), [None, threads])
    schedule.bind(group, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    return thread, lane


def stage(schedule: s_tir.Schedule, block: Any, width: Any, threads: Any) -> None:
    """Only the accesses to memory are vectors; the values in between are computed one by one in registers."""
    reads = [i for i, region in enumerate(schedule.get(block).reads) if _is_streamed(schedule.get(block), region)]
    copies = [schedule.cache_read(block, i, "local") for i in reads]
    store = schedule.cache_write(block, 0, "local")
    thread, lane = _bind(schedule, block, width, threads)
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


def widest(block: s_tir.SBlock, row: int) -> int:
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


def _value_types(block: s_tir.SBlock) -> set[str]:
    """Of all tensors and values, and of indices."""
    import tvm_ffi
    from tvm import ir

    types = {str(region.source.dtype) for region in (*block.reads, *block.writes)}
    tvm_ffi.structural_walk(block.body, (ir.Expr, lambda node: types.add(str(getattr(node.ty, "dtype", "int32")))))
    return types


def _holds_int64(block: s_tir.SBlock) -> bool:
    """Whether a tensor does."""
    return any(str(region.source.dtype) == "int64" for region in (*block.reads, *block.writes))


def _chooses(block: s_tir.SBlock) -> bool:
    """Whether a value or an index depends on a condition."""
    import tvm_ffi
    from tvm import tirx

    found: list[Any] = []
    tvm_ffi.structural_walk(block.body, (tirx.Select, found.append))
    return bool(found)
