"""TopK, ArgMax, ArgMin."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(0)


def _top_k(x: np.ndarray, k: int, axis: int, largest: int) -> list[np.ndarray]:
    key = x.astype(np.float64) if x.dtype.kind not in "iu" else x.astype(object)
    order = np.argsort(-key if largest else key, axis=axis, kind="stable")
    indices = np.take(order, np.arange(k), axis=axis).astype(np.int64)
    return [np.take_along_axis(x, indices, axis), indices]


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize(
    ("shape", "k", "axis"),
    [((1,), 1, 0), ((3, 7), 7, 1), ((50, 4), 3, 0), ((2, 100, 3), 10, 1), ((2, 2048), 2048, -1), ((3, 10000), 5, 1)],
)
def test_top_k(shape: tuple[int, ...], k: int, axis: int, largest: int) -> None:
    x = RNG.integers(0, 50, shape).astype(np.float32)  # many ties
    expected = _top_k(x, k, axis, largest)
    check("TopK", [x, np.array([k])], {"axis": axis, "largest": largest}, constants=[1], outputs=2, expected=expected)


def test_top_k_is_few_kernels() -> None:
    x = RNG.standard_normal((8, 1000)).astype(np.float32)
    check("TopK", [x, np.array([5])], constants=[1], outputs=2, kernels=4)


def test_long_sort() -> None:
    x = RNG.standard_normal((2, 3000)).astype(np.float32)
    expected = _top_k(x, 2500, 1, 1)
    check("TopK", [x, np.array([2500])], constants=[1], outputs=2, expected=expected, kernels=6)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64", "float16", "bfloat16", "float64"])
def test_top_k_types(dtype: str) -> None:
    x = RNG.integers(0, 100, (3, 20)).astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))
    check("TopK", [x, np.array([4])], constants=[1], outputs=2, opset=24, expected=_top_k(x, 4, 1, 1))


def test_nan_is_largest() -> None:
    x = np.array([1, np.nan, np.inf, -np.inf, np.nan], np.float32)
    largest = [np.array([np.nan, np.nan, np.inf], np.float32), np.array([1, 4, 2])]
    smallest = [np.array([-np.inf, 1, np.inf], np.float32), np.array([3, 0, 2])]
    check("TopK", [x, np.array([3])], constants=[1], outputs=2, expected=largest)
    check("TopK", [x, np.array([3])], {"largest": 0}, constants=[1], outputs=2, expected=smallest)


def test_top_k_of_opset_1() -> None:
    x = RNG.standard_normal((3, 9)).astype(np.float32)
    check("TopK", [x], {"k": 2}, outputs=2, opset=1, expected=_top_k(x, 2, 1, 1))


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize(("shape", "axis", "keep"), [((7,), 0, 1), ((7,), 0, 0), ((4, 300), 1, 0), ((300, 4), -2, 1)])
def test_arg_extreme(operator: str, shape: tuple[int, ...], axis: int, keep: int, last: int) -> None:
    x = RNG.integers(0, 20, shape).astype(np.float32)
    attributes = {"axis": axis, "keepdims": keep, "select_last_index": last}
    check(operator, [x], attributes, kernels=1)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64", "float16", "bfloat16", "float64"])
def test_arg_extreme_types(dtype: str) -> None:
    x = RNG.integers(0, 100, (3, 20)).astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))
    expected = [np.argmax(x.astype(np.float64), axis=1)[:, None]]
    check("ArgMax", [x], {"axis": 1}, expected=expected, kernels=1)


def test_arg_extreme_nan() -> None:
    x = np.array([[1, np.nan, 3, np.nan], [4, 3, -np.inf, 1]], np.float32)
    check("ArgMax", [x], {"axis": 1, "keepdims": 0}, expected=[np.argmax(x, 1)])
    check("ArgMin", [x], {"axis": 1, "keepdims": 0}, expected=[np.argmin(x, 1)])
