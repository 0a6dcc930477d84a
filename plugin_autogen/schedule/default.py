"""The default schedule of every TIR function: the first rule whose result lowers to kernels and nothing else."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from plugin_autogen.errors import UnsupportedError
from plugin_autogen.schedule.lower import LoweredFunction, NotSchedulable, lower
from plugin_autogen.schedule.narrow import Bounds, bounds_of_calls, narrowed
from plugin_autogen.schedule.rules import default_rules
from plugin_autogen.schedule.unit_reductions import without_unit_reductions

if TYPE_CHECKING:
    import tvm
    from tvm import tirx
    from tvm.target import Target

log = logging.getLogger(__name__)


def schedule_module(
    module: tvm.IRModule, target: Target, largest: Mapping[str, int] | None = None
) -> dict[str, LoweredFunction]:
    """Every TIR function of the module, scheduled and lowered, by name.

    Args:
        module: `main` as a list of calls, and the functions.
        target: CUDA.
        largest: of symbolic dimensions by name; where it is known, indices may have 32 bits.

    Raises:
        UnsupportedError: a function for which no rule gives valid kernels.
    """
    from tvm import tirx

    bounds = bounds_of_calls(module, largest) if largest else {}
    return {
        variable.name_hint: schedule_function(function, variable.name_hint, target, bounds.get(variable.name_hint))
        for variable, function in module.functions.items()
        if isinstance(function, tirx.PrimFunc)
    }


def schedule_function(
    function: tirx.PrimFunc, name: str, target: Target, bounds: Bounds | None = None
) -> LoweredFunction:
    """One TIR function, scheduled by the first rule that fits; `bounds` are those of its symbolic dimensions."""
    function = without_unit_reductions(function)
    if bounds and (narrow := narrowed(function, bounds)) is not None:
        with contextlib.suppress(UnsupportedError):
            return replace(_first_fitting(narrow, name, target), narrow=True)
    return _first_fitting(function, name, target)


def _first_fitting(function: tirx.PrimFunc, name: str, target: Target) -> LoweredFunction:
    reasons = []
    for rule in default_rules():
        try:
            scheduled = rule.apply(function, target)
            if scheduled is None:
                continue
            lowered = lower(scheduled, name, rule.name, target, rule.keeps_host_loops)
        except NotSchedulable as error:
            reasons.append(f"{rule.name}: {error}")
        except Exception as error:  # a rule that fails inside TVM is a rule that does not apply
            reasons.append(f"{rule.name}: {str(error).strip().splitlines()[-1] if str(error).strip() else type(error)}")
        else:
            log.debug("%s: scheduled by %s%s", name, rule.name, f" (not by {'; '.join(reasons)})" if reasons else "")
            return lowered
    raise UnsupportedError(
        f"no CUDA schedule for the lowered function '{name}': {'; '.join(reasons) or 'no rule applies'}"
    )
