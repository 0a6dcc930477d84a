"""Products of matrices on a GPU's ordinary arithmetic units: tiles in shared memory, smaller ones in registers.

A block of 16 x 16 threads makes a tile of sums, and each thread up to 8 x 8 of them: so many multiplications come from
few reads of shared memory. The tile is chosen so that most of a GPU is busy in its last round of blocks too.

- The product's axes are padded to whole tiles, with zeros. The padding must not count: the function sums products of
  its two operands, from 0. `max(a + b)` over a padded axis would see 0 + 0.
- What follows is applied on the way out. It must read the product at plain, distinct loop variables: from
  `product[m // 16, m % 16]` TVM's inlining derives no bound for the tile's second index, and a tile writes beyond its
  own rows. Such a block is rewritten to loop over the product's own axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plugin_autogen.schedule.tiles import ACCESS_BYTES, as_matrices, fetch

if TYPE_CHECKING:
    from tvm import s_tir, tirx
    from tvm.target import Target

SIDE = 16
"""Threads along each side of a block."""
VECTORS = 2
MULTIPROCESSORS = 128
"""Of a large GPU."""


@dataclass(frozen=True)
class Tile:
    """What a thread computes: `rows` x `columns` sums in each of `row_parts` x `column_parts` places.

    Attributes:
        cost: of a sum, relative to the largest tile's; it grows with the reads of shared memory for each.
    """

    rows: int
    columns: int
    row_parts: int
    column_parts: int
    depth: int
    cost: float

    @property
    def shape(self) -> tuple[int, int]:
        """Of the block's tile."""
        return SIDE * self.rows * self.row_parts, SIDE * self.columns * self.column_parts


TILES = (
    Tile(4, 4, 2, 2, 8, 1.0),
    Tile(4, 4, 2, 1, 16, 1.1),
    Tile(4, 4, 1, 1, 16, 1.3),
    Tile(2, 4, 1, 1, 16, 1.7),
    Tile(2, 2, 1, 1, 16, 2.2),
)


class Matmul:
    """Applies to one contraction of two operands, with element-wise blocks in front of it and behind it."""

    name = "matmul"
    keeps_host_loops = False

    def __init__(self, tiles: Sequence[Tile] = TILES) -> None:
        self._tiles = tiles

    def apply(self, function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc | None:
        from tvm import s_tir

        prepared = prepared_for_tiles(function)
        if prepared is None:
            return None
        schedule = s_tir.Schedule(prepared)
        block = contraction_of(schedule)
        along_depth = as_matrices(schedule, block)
        if along_depth is None or _is_vector(schedule.get(block)):
            return None
        tile = _tile_for([i.dom.extent for i in schedule.get(block).iter_vars[:3]], self._tiles)
        _schedule(schedule, block, tile, along_depth)
        scheduled: tirx.PrimFunc = schedule.mod["main"]
        return scheduled


def _is_vector(contraction: s_tir.SBlock) -> bool:
    """Whether one of the operands is a vector, or two: every element of the other is read once, and a tile is waste."""
    from tvm import tirx

    sides = [i.dom.extent for i in contraction.iter_vars[1:3]]
    return any(isinstance(extent, tirx.IntImm) and int(extent) <= VECTORS for extent in sides)


def _tile_for(extents: list[Any], tiles: Sequence[Tile]) -> Tile:
    """The tile with which the whole product takes the least time: rounds of blocks, times the cost of a block."""
    from tvm import tirx

    if not all(isinstance(extent, tirx.IntImm) for extent in extents):
        return tiles[len(tiles) // 2]
    batch, rows, columns = (int(extent) for extent in extents)

    def time(tile: Tile) -> float:
        height, width = tile.shape
        blocks = batch * -(-rows // height) * -(-columns // width)
        return -(-blocks // MULTIPROCESSORS) * height * width * tile.cost

    return min(tiles, key=time)


def _schedule(schedule: s_tir.Schedule, block: Any, tile: Tile, along_depth: list[bool]) -> None:
    from tvm.s_tir.dlight.gpu.matmul import auto_inline_consumer_chain

    element_bytes = [_bytes(region.source) for region in schedule.get(block).reads]
    schedule.pad_einsum(block, [1, *tile.shape, tile.depth])
    batch, i, j, k = schedule.get_loops(block)
    i0, i1, i2, i3 = schedule.split(i, [None, tile.row_parts, SIDE, tile.rows])
    j0, j1, j2, j3 = schedule.split(j, [None, tile.column_parts, SIDE, tile.columns])
    k0, k1 = schedule.split(k, [None, tile.depth])
    schedule.reorder(i0, j0, i1, j1, i2, j2, k0, k1, i3, j3)
    # one running number: the second and third dimension of a grid end at 65535
    schedule.bind(schedule.fuse(batch, i0, j0), "blockIdx.x")
    schedule.bind(i1, "vthread.y")
    schedule.bind(j1, "vthread.x")
    thread = schedule.fuse(i2, j2)
    schedule.bind(thread, "threadIdx.x")
    sums = schedule.cache_write(block, 0, "local")
    schedule.reverse_compute_at(sums, thread, preserve_unit_loops=True)
    for operand, along in enumerate(along_depth):
        copy = schedule.cache_read(block, operand, "shared")
        schedule.transform_layout(copy, ("write", 0), lambda batch, side, depth: (batch, depth, side))
        width = min(ACCESS_BYTES // element_bytes[operand], tile.shape[operand] * tile.depth // SIDE**2)
        fetch(schedule, copy, k0, along, [("threadIdx.x", SIDE**2)], width)
        schedule.storage_align(copy, 0, -2, 32, 4)  # fewer bank conflicts; rows stay aligned for vectors
        registers = schedule.cache_read(block, operand, "local")
        schedule.compute_at(registers, k1, preserve_unit_loops=True)
        schedule.vectorize(schedule.get_loops(registers)[-1])
    for loop in (k1, i3, j3):
        schedule.unroll(loop)
    auto_inline_consumer_chain(schedule, sums)
    schedule.decompose_reduction(block, k0)


def _bytes(buffer: Any) -> int:
    from tvm.runtime import DataType

    return (int(DataType(str(buffer.dtype)).bits) + 7) // 8


def contraction_of(schedule: s_tir.Schedule) -> Any | None:
    """The only block that reduces, where it sums products; None otherwise."""
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    reductions = [block for block in blocks if _reduces(schedule.get(block))]
    return reductions[0] if len(reductions) == 1 and _sums_products(schedule.get(reductions[0])) else None


def prepared_for_tiles(function: tirx.PrimFunc) -> tirx.PrimFunc | None:
    """The function with at most one block behind the contraction, which loops over the contraction's axes.

    None where the function is no contraction, or what follows it cannot be so written.
    """
    from tvm import s_tir

    schedule = s_tir.Schedule(function)
    contraction = contraction_of(schedule)
    if contraction is None:
        return None
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    behind = blocks[[schedule.get(block).same_as(schedule.get(contraction)) for block in blocks].index(True) + 1 :]
    for block in behind[:-1]:
        schedule.compute_inline(block)
    if behind:
        return _over_product(schedule, schedule.get(contraction).writes[0].source, behind[-1])
    prepared: tirx.PrimFunc = schedule.mod["main"]
    return prepared


def _reduces(block: s_tir.SBlock) -> bool:
    from tvm import tirx

    return any(i.iter_type != tirx.IterVar.DataPar for i in block.iter_vars)


def _sums_products(block: s_tir.SBlock) -> bool:
    """Whether the block is `c[…] = 0; c[…] = c[…] + a[…] * b[…]`, each operand perhaps cast to c's type."""
    from tvm import ir, tirx

    if not isinstance(block.init, tirx.BufferStore) or not isinstance(block.body, tirx.BufferStore):
        return False
    start = block.init.value
    if not isinstance(start, (tirx.IntImm, tirx.FloatImm)) or start.value != 0:
        return False
    total = block.body.value
    if not isinstance(total, tirx.Add):
        return False
    sums = [isinstance(side, ir.TensorLoad) and side.source.same_as(block.body.buffer) for side in (total.a, total.b)]
    product = total.b if sums[0] else total.a
    if sum(sums) != 1 or not isinstance(product, tirx.Mul):
        return False
    return all(_is_load(factor) for factor in (product.a, product.b))


def _is_load(value: Any) -> bool:
    """Whether the value is an element, perhaps cast: 0 where the element is 0."""
    from tvm import ir, tirx

    while isinstance(value, tirx.Cast):
        value = value.value
    return isinstance(value, ir.TensorLoad)


def _over_product(schedule: s_tir.Schedule, product: Any, block: Any) -> tirx.PrimFunc | None:
    """The function with the product's axes as the loops of the block behind it; None where that cannot be."""
    import tvm_ffi
    from tvm import ir, s_tir, tirx

    before = schedule.get(block)
    function: tirx.PrimFunc = schedule.mod["main"]
    if _reads_plainly(before, product):
        return function
    indices = _indices(before, product)
    if indices is None:
        return None
    # raises where the map is not one to one
    schedule.transform_block_layout(block, tirx.IndexMap([i.var for i in before.iter_vars], indices, None))
    after = schedule.get(block)
    # The map's results are the new variables. TVM writes them as the map of its inverse and does not simplify that.
    places = [i.var for i in after.iter_vars]
    region = tirx.BufferRegion(product, [ir.Range.from_min_extent(place, _one(place)) for place in places])
    body = tvm_ffi.structural_map(
        after.body,
        (ir.TensorLoad, lambda load: tirx.BufferLoad(product, places) if load.source.same_as(product) else load),
    )
    plain = s_tir.SBlock(
        after.iter_vars,
        [region if read.source.same_as(product) else read for read in after.reads],
        after.writes,
        after.name_hint,
        body,
        after.init,
        after.alloc_buffers,
        after.match_buffers,
        after.annotations,
    )
    if not _reads_plainly(plain, product):
        return None
    function = schedule.mod["main"]
    body = tvm_ffi.structural_map(
        function.body, (s_tir.SBlock, lambda b: plain if b.name_hint == after.name_hint else b)
    )
    return function.with_body(body)


def _one(variable: tirx.Var) -> tirx.IntImm:
    from tvm import tirx

    return tirx.IntImm(str(variable.ty.dtype), 1)


def _indices(block: s_tir.SBlock, buffer: Any) -> list[Any] | None:
    """Where the block reads the buffer; None where it does at several places."""
    regions = [region for region in block.reads if region.source.same_as(buffer)]
    if len(regions) != 1 or not all(_is_one(r.extent) for r in regions[0].region):
        return None
    return [r.min for r in regions[0].region]


def _reads_plainly(block: s_tir.SBlock, buffer: Any) -> bool:
    """Whether the block reads the buffer at distinct variables of its own that range over the buffer's sizes.

    An index may be 0 where the buffer has size 1.
    """
    from tvm import tirx
    from tvm_ffi import structural_equal

    indices = _indices(block, buffer)
    if indices is None:
        return False
    extents = {i.var: i.dom.extent for i in block.iter_vars}
    seen: set[Any] = set()
    for index, size in zip(indices, buffer.shape, strict=True):
        if _is_one(size):
            continue
        if not isinstance(index, tirx.Var) or index in seen or not structural_equal(extents.get(index), size):
            return False
        seen.add(index)
    return all(i.var in seen or _is_one(i.dom.extent) for i in block.iter_vars)


def _is_one(extent: Any) -> bool:
    from tvm import tirx

    return isinstance(extent, tirx.IntImm) and int(extent) == 1
