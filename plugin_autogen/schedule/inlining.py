"""Where most schedule rules begin: a function's blocks in order, with those inlined that need no loops of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm import s_tir, tirx


def inlined(function: tirx.PrimFunc) -> tuple[s_tir.Schedule, list[Any]] | None:
    """A schedule of the function and dlight's description of each block left; None where dlight cannot describe one."""
    from tvm import s_tir
    from tvm.s_tir.dlight.analysis import normalize_prim_func
    from tvm.s_tir.dlight.base import try_inline

    schedule = s_tir.Schedule(function)
    blocks = normalize_prim_func(schedule)
    return None if blocks is None else (schedule, list(try_inline(schedule, blocks)))
