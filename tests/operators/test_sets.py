"""NonZero, Compress, Unique: results of the stated size, and what happens beyond it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 5), (40, 50)])
@pytest.mark.parametrize("dtype", ["bool", "float32", "int64"])
def test_non_zero(shape: tuple[int, ...], dtype: str) -> None:
    x = RNG.integers(0, 2, shape).astype(dtype)
    check("NonZero", [x], expected=[np.array(np.nonzero(x), np.int64)], kernels=4)


def test_non_zero_over_many_chunks() -> None:
    x = (RNG.random(100_000) < 0.3).astype(np.float32)
    check("NonZero", [x], kernels=4)


def test_bounded() -> None:
    x = np.array([1, 0, 1, 1], np.float32)
    check("NonZero", [x], expected=[np.array([[0, 2]])])
    check("NonZero", [x], expected=[np.array([[0, 2, 3, -1, -1]])])
    check("Compress", [x, x > 0], expected=[np.array([1, 1, 1, 0], np.float32)])


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_compress(axis: int | None) -> None:
    x = RNG.standard_normal((4, 5, 6)).astype(np.float32)
    condition = np.array([True, False, True, True])
    check("Compress", [x, condition], {} if axis is None else {"axis": axis}, kernels=4)


@pytest.mark.parametrize("sorted_", [0, 1])
@pytest.mark.parametrize(
    ("shape", "axis"), [((30,), None), ((4, 6), None), ((3000,), None), ((12, 3), 0), ((2, 9, 2), 1)]
)
def test_unique(shape: tuple[int, ...], axis: int | None, sorted_: int) -> None:
    x = RNG.integers(0, 3 if axis is not None else 20, shape).astype(np.float32)
    attributes = {"sorted": sorted_} | ({} if axis is None else {"axis": axis})
    check("Unique", [x], attributes, outputs=4)


@pytest.mark.parametrize("dtype", ["int8", "int64", "float64", "float32"])
def test_unique_types(dtype: str) -> None:
    x = RNG.integers(0, 9, (40,)).astype(dtype)
    y, first, inverse, counts = np.unique(x, return_index=True, return_inverse=True, return_counts=True)
    check("Unique", [x], outputs=4, expected=[y, first, inverse, counts])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nan_is_not_zero(dtype: str) -> None:
    x = np.array([0, np.nan, -0.0, 1], np.float32).astype(getattr(ml_dtypes, dtype, dtype))
    check("NonZero", [x], expected=[np.array([[1, 3]], np.int64)])
