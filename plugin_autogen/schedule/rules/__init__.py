"""Schedule rules, one a file: a rule gives the scheduled TIR function, or None where it does not apply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tvm import tirx
    from tvm.target import Target


class Rule(Protocol):
    """How one kind of TIR function is mapped to blocks and threads.

    Attributes:
        name: for the log.
        keeps_host_loops: whether loops around launches are meant (a sort's phases). With other rules such a loop is one
            that the rule failed to bind: a launch for each element.
    """

    name: str
    keeps_host_loops: bool

    def apply(self, function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc | None:
        """The scheduled function, or None. Must not change `function`."""


def default_rules() -> list[Rule]:
    """The rules in the order in which they are tried; the last ones hold for every function."""
    from plugin_autogen.schedule.rules.bound import Bound
    from plugin_autogen.schedule.rules.chain import Chain
    from plugin_autogen.schedule.rules.dlight import DlightRule
    from plugin_autogen.schedule.rules.elementwise import Elementwise
    from plugin_autogen.schedule.rules.mapped import Mapped
    from plugin_autogen.schedule.rules.matmul import Matmul
    from plugin_autogen.schedule.rules.reduction import Reduction
    from plugin_autogen.schedule.rules.serial import Serial
    from plugin_autogen.schedule.rules.short_rows import ShortRows
    from plugin_autogen.schedule.rules.tensor_cores import TensorCores
    from plugin_autogen.schedule.rules.thread_per_output import ThreadPerOutput
    from plugin_autogen.schedule.rules.thread_per_row import ThreadPerRow
    from plugin_autogen.schedule.rules.transpose import Transpose

    return [
        Mapped(),
        Bound(),
        Chain(),
        ThreadPerOutput(),
        ThreadPerRow(),
        TensorCores(),
        Matmul(),
        DlightRule("GEMV"),
        ShortRows(),
        DlightRule("GeneralReduction"),
        Reduction(),
        Transpose(),
        Elementwise(),
        DlightRule("Fallback"),
        Serial(),
    ]
