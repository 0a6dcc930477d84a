"""A fixed part of the node tests for every run of the test suite: each operator once, and some more."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

SIZE = 320


def sample(operators: Mapping[str, str], expressible: Mapping[str, bool], size: int = SIZE) -> list[str]:
    """Names of at least `size` tests, the same whenever the tests are the same.

    Args:
        operators: test name → the operator that it is about.
        expressible: test name → whether it can be a plugin; an operator is represented by such a test if it has one.
        size: tests to take; more where there are more operators.
    """
    first: dict[str, str] = {}
    for name in sorted(operators, key=lambda n: (not expressible[n], n)):
        first.setdefault(operators[name], name)
    chosen = set(first.values())
    others = sorted((n for n in operators if n not in chosen and expressible[n]), key=_rank)
    return sorted(chosen | set(others[: max(0, size - len(chosen))]))


def _rank(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
