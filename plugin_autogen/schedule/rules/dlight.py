"""TVM's dlight rules for GPUs, each behind our interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm import tirx
    from tvm.target import Target


class DlightRule:
    """One of `tvm.s_tir.dlight.gpu`'s rules, by class name.

    `Transpose` is left out: it schedules the index transpose of a GatherND and leaves the gather on the host.
    """

    keeps_host_loops = False

    def __init__(self, rule: str) -> None:
        self.name = f"dlight.{rule}"
        self._rule = rule

    def apply(self, function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc | None:
        from tvm.s_tir import dlight

        schedule = getattr(dlight.gpu, self._rule)().apply(function, target, False)
        if isinstance(schedule, list):
            schedule = schedule[0] if schedule else None
        return None if schedule is None else schedule.mod["main"]
