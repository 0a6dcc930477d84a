"""Gather and its family, OneHot."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("indices", [(), (4,), (2, 3)])
def test_gather(axis: int, indices: tuple[int, ...]) -> None:
    x = RNG.standard_normal((4, 5, 6)).astype(np.float32)
    check("Gather", [x, RNG.integers(-4, 4, indices)], {"axis": axis}, kernels=1)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "float16", "bfloat16", "float64"])
def test_gather_types(dtype: str) -> None:
    x = RNG.integers(0, 2, (4, 5)).astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))
    indices = np.array([3, -1, 0], np.int32)
    check("Gather", [x, indices], {"axis": 1}, expected=[x[:, indices]], kernels=1)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_elements(axis: int) -> None:
    x = RNG.standard_normal((4, 5, 6)).astype(np.float32)
    check("GatherElements", [x, RNG.integers(-4, 4, (4, 5, 6))], {"axis": axis}, kernels=1)


@pytest.mark.parametrize(
    ("batch", "indices"), [(0, (7, 2)), (0, (2, 3, 1)), (1, (4, 3, 2)), (2, (4, 5, 2, 1)), (0, (2, 3))]
)
def test_gather_nd(batch: int, indices: tuple[int, ...]) -> None:
    x = RNG.standard_normal((4, 5, 6)).astype(np.float32)
    check("GatherND", [x, RNG.integers(-4, 4, indices)], {"batch_dims": batch}, kernels=1)


def test_gather_reads_no_foreign_memory() -> None:
    x = np.arange(4, dtype=np.float32)
    check("Gather", [x, np.array([9, -9])], expected=[np.array([3, 0], np.float32)])


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize(
    ("index", "value"), [("int64", "float32"), ("float32", "int8"), ("int32", "float16"), ("uint8", "bool")]
)
def test_one_hot(axis: int, index: str, value: str) -> None:
    indices = np.array([[0, 3, 9], [5, 1, 7]]).astype(index)
    if index != "uint8":
        indices[0, 1] = -2
    on_off = np.array([2, 5]).astype(value) if value != "bool" else np.array([True, False])
    places = np.where(indices < 0, indices + 6, indices).astype(int)
    expected = np.where(np.moveaxis(places[..., None] == np.arange(6), -1, axis), on_off[1], on_off[0])
    check("OneHot", [indices, np.array(6), on_off], {"axis": axis}, constants=[1], expected=[expected], kernels=1)


def test_one_hot_scalar() -> None:
    values = np.array([0, 1], np.float32)
    check(
        "OneHot",
        [np.array(2), np.array([4.0], np.float32), values],
        constants=[1],
        expected=[values[[0, 0, 1, 0]]],
        kernels=1,
    )


def test_array_feature_extractor() -> None:
    x = RNG.standard_normal((3, 5)).astype(np.float32)
    check("ArrayFeatureExtractor", [x, np.array([[4, 0]])], domain="ai.onnx.ml", kernels=1)
