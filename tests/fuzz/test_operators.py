"""A fixed share of the drawn cases; `python -m tests.fuzz` draws as many as one likes."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase

from tests.fuzz import families as _  # noqa: F401  (registers all operators)
from tests.fuzz.case import STRATEGIES, Case, NoReferenceError, check_case

EXAMPLES = 5
PLUGIN_SHARE = 16
"""One case of so many also runs as the generated plugin: compiling takes ten times as long as LLVM."""


@pytest.mark.parametrize("operator", sorted(STRATEGIES))
def test_drawn_cases(operator: str) -> None:
    decided = []

    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(STRATEGIES[operator])
    def test(case: Case) -> None:
        try:
            check_case(case, PLUGIN_SHARE)
        except NoReferenceError:
            return
        decided.append(case)

    test()
    assert decided, "no reference computes any of the cases"
