"""CumSum and CumProd."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.operators.harness import check


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize(("shape", "axis"), [((7,), 0), ((3, 300), 1), ((300, 5), -2), ((2, 5000, 3), 1)])
def test_cumsum(shape: tuple[int, ...], axis: int, exclusive: int, reverse: int) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    attributes = {"exclusive": exclusive, "reverse": reverse}
    check("CumSum", [x, np.array(axis)], attributes, constants=[1], kernels=1)


@pytest.mark.parametrize("dtype", ["int32", "int64", "float64", "float16", "bfloat16", "uint32", "uint64"])
def test_cumsum_types(dtype: str) -> None:
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    x = np.random.default_rng(0).integers(0, 4, (4, 100)).astype(kind)
    expected = np.cumsum(x.astype(np.float64 if kind.kind not in "iu" else kind), axis=1).astype(kind)
    check("CumSum", [x, np.array(1, np.int32)], constants=[1], expected=[expected], kernels=1)


def test_float16_sums_in_float32() -> None:
    x = np.full((1, 4096), 1, np.float16)  # in float16 the sum would stay at 2048
    check("CumSum", [x, np.array(1)], constants=[1], expected=[np.arange(1, 4097)[None].astype(np.float16)])


@pytest.mark.parametrize("attributes", [{}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}])
def test_cumprod(attributes: dict[str, int]) -> None:
    x = np.random.default_rng(0).uniform(0.9, 1.1, (3, 50)).astype(np.float32)
    check("CumProd", [x, np.array(1)], attributes, constants=[1], opset=26, kernels=1)


def test_empty() -> None:
    check("CumSum", [np.zeros((0, 3), np.float32), np.array(0)], constants=[1])
