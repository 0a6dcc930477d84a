"""Scatter, ScatterElements, ScatterND, TensorScatter."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(0)
APPLY = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}


def _values(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    return RNG.integers(0, 2, shape).astype(bool) if dtype == "bool" else RNG.integers(0, 4, shape).astype(kind)


def _scatter_nd(reduction: str, data: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
    result = data.copy()
    for row in np.ndindex(*indices.shape[:-1]):
        at = tuple(indices[row])
        result[at] = updates[row] if reduction == "none" else APPLY[reduction](result[at], updates[row])
    return result


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "min", "max"])
@pytest.mark.parametrize(
    ("shape", "depth", "rows"), [((40,), 1, (9,)), ((5, 6, 7), 2, (3, 4)), ((4, 3), 2, (30,)), ((3, 4, 5), 1, (2,))]
)
def test_scatter_nd(shape: tuple[int, ...], depth: int, rows: tuple[int, ...], reduction: str) -> None:
    data = RNG.standard_normal(shape).astype(np.float32)
    places = int(np.prod(shape[:depth]))
    count = int(np.prod(rows))
    if reduction == "none":  # duplicates without a reduction are undefined
        rows, count = (min(count, places),), min(count, places)
    flat = RNG.permutation(places)[:count] if reduction == "none" else RNG.integers(0, places, count)
    indices = np.stack(np.unravel_index(flat, shape[:depth]), -1).reshape(*rows, depth)
    indices = np.where(RNG.random(indices.shape) < 0.3, indices - np.array(shape[:depth]), indices)
    updates = RNG.standard_normal((*rows, *shape[depth:])).astype(np.float32)
    expected = _scatter_nd(reduction, data, indices, updates)
    check("ScatterND", [data, indices, updates], {"reduction": reduction}, opset=18, expected=[expected], kernels=2)


@pytest.mark.parametrize("reduction", ["add", "mul", "min", "max"])
@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float64", "int8", "uint8", "int16", "int32", "int64", "uint64"]
)
def test_types_with_duplicates(dtype: str, reduction: str) -> None:
    data, updates = _values((6, 3), dtype), _values((20, 3), dtype)
    indices = RNG.integers(-6, 6, (20, 1))
    expected = _scatter_nd(reduction, data, indices, updates)
    check("ScatterND", [data, indices, updates], {"reduction": reduction}, opset=18, expected=[expected], kernels=3)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "float16", "int64"])
def test_types_without_reduction(dtype: str) -> None:
    data, updates = _values((6, 3), dtype), _values((4, 3), dtype)
    indices = RNG.permutation(6)[:4, None]
    expected = _scatter_nd("none", data, indices, updates)
    check("ScatterND", [data, indices, updates], opset=16, expected=[expected], kernels=2)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "min", "max"])
@pytest.mark.parametrize(("shape", "part", "axis"), [((5, 8), (3, 4), 1), ((7,), (5,), 0), ((3, 4, 5), (3, 2, 5), -2)])
def test_scatter_elements(shape: tuple[int, ...], part: tuple[int, ...], axis: int, reduction: str) -> None:
    data, updates = RNG.standard_normal(shape).astype(np.float32), RNG.standard_normal(part).astype(np.float32)
    order = np.argsort(
        RNG.random(tuple(shape[axis] if a == axis % len(shape) else d for a, d in enumerate(part))), axis
    )
    indices = np.take(order, np.arange(part[axis]), axis)
    if reduction != "none":
        indices = indices // 2 - 1  # duplicates and negative ones
    check("ScatterElements", [data, indices, updates], {"axis": axis, "reduction": reduction}, opset=18, kernels=2)


def test_scatter_of_opset_9() -> None:
    data, updates = np.zeros((3, 3), np.float32), np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    indices = np.array([[1, 0, 2], [0, 2, 1]], np.int32)
    check("Scatter", [data, indices, updates], {"axis": 0}, opset=9, kernels=2)


def test_scalar_update() -> None:
    data, indices = np.arange(4, dtype=np.float32), np.array([2])
    check(
        "ScatterND", [data, indices, np.array(9, np.float32)], expected=[np.array([0, 1, 9, 3], np.float32)], kernels=2
    )


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_tensor_scatter(mode: str) -> None:
    past, update = (
        RNG.standard_normal((2, 3, 6, 4)).astype(np.float32),
        RNG.standard_normal((2, 3, 2, 4)).astype(np.float32),
    )
    start = np.array([4, 5 if mode == "circular" else 1])
    expected = past.copy()
    for b in range(2):
        for s in range(2):
            expected[b, :, (start[b] + s) % 6] = update[b, :, s]
    check("TensorScatter", [past, update, start], {"mode": mode}, opset=24, expected=[expected], kernels=1)


@pytest.mark.parametrize("reduction", ["min", "max"])
def test_nan_wins(reduction: str) -> None:
    data, updates = np.array([np.nan, 1, 2], np.float32), np.array([3, np.nan, 1], np.float32)
    expected = APPLY[reduction](data, updates)
    check("ScatterElements", [data, np.arange(3), updates], {"reduction": reduction}, opset=18, expected=[expected])
