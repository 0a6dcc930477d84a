"""Products of float16 or int8 matrices on tensor cores, with CUDA's warp matrix functions (compute capability 7.5 on).

A block of four warps makes a tile of 64 x 64 sums, each warp a quarter of it as 2 x 2 fragments of 16 x 16. Both
operands go through shared memory in slices of 32, and the sums leave through it, so that what follows the product is
applied element by element on the way out. All of it fits into the 48 KB that every launch has; dlight's own tiles for
tensor cores need 72 KB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugin_autogen.schedule.rules.matmul import contraction_of, prepared_for_tiles
from plugin_autogen.schedule.tiles import ACCESS_BYTES, as_matrices, fetch

if TYPE_CHECKING:
    from tvm import s_tir, tirx
    from tvm.target import Target

OLDEST = 75
"""Of the compute capabilities (times ten): 7.0 has no int8 fragments."""
FRAGMENT = 16
WARPS = 2
"""Along each side of a block's tile."""
FRAGMENTS = 2
"""Along each side of a warp's share."""
TILE = FRAGMENT * WARPS * FRAGMENTS
DEPTH = 32
LANES = 32
LEAST = 32
"""Below this extent of an axis most of a tile would be padding."""
_SUMS = {"float16": "float32", "int8": "int32"}


class TensorCores:
    """Applies to one contraction of two float16 operands with float32 sums, or of two int8 ones with int32 sums."""

    name = "tensor_cores"
    keeps_host_loops = False

    def apply(self, function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc | None:
        from tvm import s_tir, tirx

        if int(str(target.attrs["arch"]).removeprefix("sm_")) < OLDEST:
            return None
        prepared = prepared_for_tiles(function)
        if prepared is None:
            return None
        schedule = s_tir.Schedule(prepared)
        block = contraction_of(schedule)
        dtype = operand_type(schedule.get(block))
        if dtype is None or (along_depth := as_matrices(schedule, block)) is None:
            return None
        extents = [i.dom.extent for i in schedule.get(block).iter_vars[1:]]
        if any(isinstance(extent, tirx.IntImm) and int(extent) < LEAST for extent in extents):
            return None
        _tile(schedule, block, dtype, along_depth)
        scheduled: tirx.PrimFunc = schedule.mod["main"]
        return scheduled


def operand_type(block: s_tir.SBlock) -> str | None:
    """The type of both operands, where tensor cores have it with the type of the sums."""
    types = {str(region.source.dtype) for region in block.reads}
    sums = str(block.writes[0].source.dtype)
    return next((t for t in types if len(types) == 1 and _SUMS.get(t) == sums), None)


def _tile(schedule: s_tir.Schedule, block: Any, dtype: str, along_depth: list[bool]) -> None:
    from tvm.s_tir.dlight.gpu.matmul import auto_inline_consumer_chain

    from plugin_autogen.schedule.warp_matrix import intrinsics

    functions = intrinsics(dtype, _SUMS[dtype])
    schedule.pad_einsum(block, [1, TILE, TILE, DEPTH])
    batch, *axes = schedule.get_loops(block)
    (i, i_in), (j, j_in), (k, k_in) = (schedule.split(axis, [None, FRAGMENT]) for axis in axes)
    schedule.reorder(i, j, k, i_in, j_in, k_in)
    fragment = schedule.blockize(i_in)
    (i0, i1, i2), (j0, j1, j2) = (schedule.split(axis, [None, WARPS, FRAGMENTS]) for axis in (i, j))
    k0, k1 = schedule.split(k, [None, DEPTH // FRAGMENT])
    schedule.reorder(i0, j0, i1, j1, k0, k1, i2, j2)
    # one running number: the second and third dimension of a grid end at 65535
    schedule.bind(schedule.fuse(batch, i0, j0), "blockIdx.x")
    warp = schedule.fuse(i1, j1)
    schedule.bind(warp, "threadIdx.y")

    bytes_per_element = 1 if dtype == "int8" else 2
    threads = [("threadIdx.y", WARPS * WARPS), ("threadIdx.x", LANES)]
    for operand, (side, along) in enumerate(zip("ab", along_depth, strict=True)):
        copy = schedule.cache_read(fragment, operand, "shared")
        load = schedule.cache_read(fragment, operand, f"wmma.matrix_{side}")
        if not along:
            schedule.transform_layout(copy, ("write", 0), lambda batch, side, depth: (batch, depth, side))
        schedule.compute_at(load, k1)
        chunk = ACCESS_BYTES // bytes_per_element
        fetch(schedule, copy, k0, along, threads, chunk)
        schedule.storage_align(copy, 0, -2, 2 * chunk, chunk)  # rows stay aligned; fewer bank conflicts
        _on_fragments(schedule, load, functions[f"load_{side}{'' if along else '_across'}"])

    sums = schedule.cache_write(fragment, 0, "shared")
    schedule.storage_align(sums, 0, -2, 16, 4)  # fewer bank conflicts; rows stay aligned for the fragments
    store = schedule.cache_write(fragment, 0, "wmma.accumulator")
    schedule.reverse_compute_at(store, warp)
    schedule.reverse_compute_at(sums, warp)
    start = schedule.decompose_reduction(fragment, k0)
    schedule.tensorize(schedule.get_loops(schedule.get_child_blocks(start)[0])[-2], functions["fill"])
    _on_fragments(schedule, store, functions["store"])
    schedule.tensorize(schedule.get_loops(block)[-3], functions["multiply"])

    auto_inline_consumer_chain(schedule, sums)
    rows = schedule.fuse(*schedule.get_loops(sums)[-2:])
    _, lane = schedule.split(rows, [None, LANES])
    schedule.bind(lane, "threadIdx.x")


def _on_fragments(schedule: s_tir.Schedule, block: Any, intrinsic: str) -> None:
    """The copy between shared memory and a warp's fragments, a fragment at a time."""
    row, column = schedule.get_loops(block)[-2:]
    (i, i_in), (j, j_in) = (schedule.split(axis, [None, FRAGMENT]) for axis in (row, column))
    schedule.reorder(i, j, i_in, j_in)
    schedule.unroll(i)
    schedule.unroll(j)
    schedule.tensorize(i_in, intrinsic)
