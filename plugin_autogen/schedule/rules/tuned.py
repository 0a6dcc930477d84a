"""The schedule that tuning found to be the fastest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugin_autogen.schedule.choices import Choices, key

if TYPE_CHECKING:
    from tvm import tirx
    from tvm.target import Target

TENSOR_CORE_ARCH = 80
"""Of the instructions that MetaSchedule's schedules for tensor cores use."""


class Tuned:
    """Applies to functions for which a choice other than the default was made."""

    name = "tuned"
    keeps_host_loops = False

    def __init__(self, choices: Choices, oldest_arch: int) -> None:
        self._choices = choices
        self._oldest_arch = oldest_arch

    def apply(self, function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc | None:
        import tvm
        from tvm import s_tir

        choice = self._choices.by_function.get(key(function))
        if choice is None or choice.trace is None:
            return None
        if any(instruction[0] == "Tensorize" for instruction in choice.trace[0]):
            if self._oldest_arch < TENSOR_CORE_ARCH:
                return None
            import tvm.s_tir.tensor_intrin
        schedule = s_tir.Schedule(tvm.IRModule({"main": function}))
        s_tir.schedule.Trace.apply_json_to_schedule(choice.trace, schedule)
        scheduled: tirx.PrimFunc = schedule.mod["main"]
        return scheduled
