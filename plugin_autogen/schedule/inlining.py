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
