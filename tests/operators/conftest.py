"""The option that has every access of the generated kernels checked."""

from __future__ import annotations

import pytest

from tests.cpu_cuda.runner import Sanitizer
from tests.operators import harness


def pytest_configure(config: pytest.Config) -> None:
    harness.sanitizer = Sanitizer(config.getoption("--sanitizer"))
