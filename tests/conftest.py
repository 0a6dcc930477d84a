"""Options of the whole suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--sanitizer",
        choices=("none", "check", "address"),
        default="none",
        help="what watches the kernels of operator tests on the CPU: check finds every access out of bounds and every "
        "race, and takes several times as long",
    )
