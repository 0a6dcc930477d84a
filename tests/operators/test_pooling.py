"""Pooling operators against ONNX Runtime and ONNX's reference."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(3)


def normal(*shape: int, dtype: str = "float32") -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


WINDOWS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 11), {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    ((1, 2, 9, 10), {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 2, 1]}),
    ((1, 2, 9, 10), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1]}),
    ((1, 2, 7, 8), {"kernel_shape": [2, 3], "strides": [3, 3], "ceil_mode": 1}),
    ((1, 2, 9, 10), {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((1, 2, 9, 10), {"kernel_shape": [4, 2], "auto_pad": "SAME_LOWER", "strides": [3, 2]}),
    ((1, 2, 9, 10), {"kernel_shape": [3, 3], "auto_pad": "VALID", "strides": [2, 1]}),
    ((1, 2, 9, 10), {"kernel_shape": [2, 3], "dilations": [3, 2], "pads": [1, 2, 1, 2]}),
    ((1, 2, 5, 6, 7), {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2], "pads": [1, 0, 1, 0, 1, 0]}),
    ((1, 2, 20, 30), {"kernel_shape": [13, 17], "strides": [2, 2]}),
]


@pytest.mark.parametrize(("shape", "attributes"), WINDOWS, ids=str)
@pytest.mark.parametrize("count_include_pad", [0, 1])
def test_average_pool(shape: tuple[int, ...], attributes: dict[str, Any], count_include_pad: int) -> None:
    attributes = {**attributes, "count_include_pad": count_include_pad}
    check("AveragePool", [normal(*shape)], attributes, opset=19, kernels=2)


@pytest.mark.parametrize(("shape", "attributes"), WINDOWS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_max_pool(shape: tuple[int, ...], attributes: dict[str, Any], dtype: str) -> None:
    data = (100 * normal(*shape)).astype(dtype)
    check("MaxPool", [data], attributes, opset=12, kernels=1)


@pytest.mark.parametrize(("shape", "attributes"), WINDOWS, ids=str)
@pytest.mark.parametrize("storage_order", [0, 1])
def test_max_pool_with_indices(shape: tuple[int, ...], attributes: dict[str, Any], storage_order: int) -> None:
    data = RNG.integers(-5, 5, shape).astype("float32")
    check("MaxPool", [data], {**attributes, "storage_order": storage_order}, outputs=2, opset=12, kernels=1)


def test_max_pool_of_minus_infinity() -> None:
    data = np.full((1, 1, 4, 4), -np.inf, "float32")
    check(
        "MaxPool",
        [data],
        {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]},
        opset=12,
        expected=lambda x: [x[..., :1, :1] + np.zeros((5, 5), "float32")],
    )


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize(("shape", "attributes"), WINDOWS[:2] + WINDOWS[4:7], ids=str)
def test_lp_pool(shape: tuple[int, ...], attributes: dict[str, Any], p: int) -> None:
    check("LpPool", [normal(*shape)], {**attributes, "p": p}, opset=18, kernels=2)


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 5, 6), (1, 70, 40, 30), (1, 2, 3, 4, 5)], ids=str)
def test_global_pool(operator: str, shape: tuple[int, ...]) -> None:
    check(operator, [normal(*shape)], opset=12, kernels=2)


def test_float16_is_summed_in_float32() -> None:
    data = np.full((1, 1, 64, 64), 0.1, "float16")
    expected = [np.full((1, 1, 1, 1), np.float16(0.1))]
    check("GlobalAveragePool", [data], opset=12, expected=expected)
    check("AveragePool", [data], {"kernel_shape": [64, 64]}, opset=12, expected=expected)


@pytest.mark.parametrize("output_shape", [None, (1, 2, 7, 9)])
def test_max_unpool(output_shape: tuple[int, ...] | None) -> None:
    """Indices count in the inferred shape (1, 2, 6, 8)."""
    places = RNG.permutation(2 * 6 * 8)[:24].reshape(1, 2, 3, 4)
    values = normal(1, 2, 3, 4)
    expected = np.zeros(2 * 6 * 8, "float32")
    expected[places.reshape(-1)] = values.reshape(-1)
    expected = expected.reshape(1, 2, 6, 8)
    wanted = None
    if output_shape is not None:
        wanted = np.array(output_shape, "int64")
        expected = np.pad(expected, ((0, 0), (0, 0), (0, 1), (0, 1)))
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    inputs = [values, places.astype("int64"), wanted]
    check("MaxUnpool", inputs, attributes, constants=(2,), opset=11, expected=[expected], kernels=2)


@pytest.mark.parametrize("storage_order", [0, 1])
def test_max_pool_of_bfloat16_with_indices(storage_order: int) -> None:
    x = RNG.standard_normal((1, 2, 5, 7)).astype(ml_dtypes.bfloat16)
    attributes = {"kernel_shape": [2, 3], "strides": [1, 2], "storage_order": storage_order}
    values, places = check("MaxPool", [x.astype(np.float32)], attributes, outputs=2, opset=12).outputs
    check("MaxPool", [x], attributes, outputs=2, opset=22, expected=[values.astype(x.dtype), places], kernels=1)
