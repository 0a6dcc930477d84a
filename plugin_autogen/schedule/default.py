"""The default schedule of every TIR function: the first rule whose result lowers to kernels and nothing else."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from plugin_autogen.errors import UnsupportedError
from plugin_autogen.schedule.lower import LoweredFunction, NotSchedulable, lower
from plugin_autogen.schedule.narrow import Bounds, bounds_of_calls, narrowed
from plugin_autogen.schedule.rules import Rule, default_rules
from plugin_autogen.schedule.unit_reductions import without_unit_reductions

if TYPE_CHECKING:
    import tvm
    from tvm import tirx
    from tvm.target import Target

log = logging.getLogger(__name__)


def schedule_module(
    module: tvm.IRModule, target: Target, largest: Mapping[str, int] | None = None, rules: Sequence[Rule] = ()
) -> dict[str, LoweredFunction]:
    """Every TIR function of the module, scheduled and lowered, by name.

    Args:
        module: `main` as a list of calls, and the functions.
        target: CUDA.
        largest: of symbolic dimensions by name; where it is known, indices may have 32 bits.
        rules: those that are tried before the default ones.

    Raises:
        UnsupportedError: a function for which no rule gives valid kernels.
    """
    bounds = bounds_of_calls(module, largest) if largest else {}
    return {
        name: schedule_function(function, name, target, bounds.get(name), rules)
        for name, function in functions_of(module).items()
    }


def functions_of(module: tvm.IRModule) -> dict[str, tirx.PrimFunc]:
    """The module's TIR functions by name, as schedule rules get them."""
    from tvm import tirx

    found = {
        variable.name_hint: without_unit_reductions(function)
        for variable, function in module.functions.items()
        if isinstance(function, tirx.PrimFunc)
    }
    return {name: narrowed(function, {}) or function for name, function in found.items()}


def schedule_function(
    function: tirx.PrimFunc, name: str, target: Target, bounds: Bounds | None = None, rules: Sequence[Rule] = ()
) -> LoweredFunction:
    """One function of `functions_of`, scheduled by the first rule that fits.

    Args:
        function: without reductions over nothing, with narrow indices where its sizes are fixed.
        name: of its kernels.
        target: CUDA.
        bounds: of its symbolic dimensions.
        rules: those that are tried before the default ones.

    Raises:
        UnsupportedError: no rule gives valid kernels.
    """
    rules = [*rules, *default_rules()]
    if bounds and (narrow := narrowed(function, bounds)) is not None:
        with contextlib.suppress(UnsupportedError):
            return replace(_first_fitting(narrow, name, target, rules), narrow=True)
    return _first_fitting(function, name, target, rules)


def _first_fitting(function: tirx.PrimFunc, name: str, target: Target, rules: Sequence[Rule]) -> LoweredFunction:
    reasons = []
    for rule in rules:
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
