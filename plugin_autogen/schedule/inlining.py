"""Where most schedule rules begin: a function's blocks in order, with those inlined that need no loops of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm import s_tir, tirx


def inlined(function: tirx.PrimFunc) -> tuple[s_tir.Schedule, list[Any]] | None:
    """A schedule of the function and dlight's description of each block left; None where dlight cannot describe one."""
    from tvm import s_tir

    schedule = s_tir.Schedule(function)
    blocks = inline(schedule)
    return None if blocks is None else (schedule, blocks)


def inline(schedule: s_tir.Schedule) -> list[Any] | None:
    """The same for a schedule that exists; it changes."""
    from tvm.s_tir.dlight.analysis import normalize_prim_func
    from tvm.s_tir.dlight.base import try_inline

    blocks = normalize_prim_func(schedule)
    return None if blocks is None else list(try_inline(schedule, blocks))


def single_spatial_block(schedule: s_tir.Schedule) -> tuple[Any, list[int]] | None:
    """The only block that inlining leaves and its extents; None where it reduces, or a size is not fixed."""
    blocks = inline(schedule)
    if blocks is None or len(blocks) != 1 or set(blocks[0].dom_kind()) != {"S"}:
        return None
    block = blocks[0].block_rv
    extents = [iterator.dom.extent for iterator in schedule.get(block).iter_vars]
    return (block, [int(e) for e in extents]) if all(hasattr(e, "value") for e in extents) else None
