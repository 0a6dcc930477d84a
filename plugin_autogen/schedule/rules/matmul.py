"""Products of matrices by dlight's tiles in shared memory.

dlight pads the product's axes to whole tiles, with zeros, and inlines what follows into the write-back of a tile. It
takes more functions than that is right for, so this rule hands it only those where it is:

- The padding must not count: the function sums products of its two operands, from 0. `max(a + b)` over a padded axis
  would see 0 + 0.
- What follows must read the product at plain, distinct loop variables. From `product[m // 16, m % 16]` TVM's inlining
  derives no bound for the tile's second index, and a tile writes beyond its own rows. Such a block is rewritten to loop
  over the product's own axes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugin_autogen.schedule.target import cuda_target

if TYPE_CHECKING:
    from tvm import s_tir, tirx
    from tvm.target import Target


class Matmul:
    """Applies to one contraction of two operands, with element-wise blocks in front of it and behind it."""

    name = "matmul"
    keeps_host_loops = False

    def apply(self, function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc | None:
        from tvm.s_tir import dlight

        prepared = prepared_for_tiles(function)
        if prepared is None:
            return None
        # As for a GPU without tensor cores: dlight's tiles for those need more shared memory than every launch has, and
        # twenty seconds of imports. tensor_cores.py has others.
        schedule = dlight.gpu.Matmul().apply(prepared, cuda_target(61), False)
        return None if schedule is None else schedule.mod["main"]


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
