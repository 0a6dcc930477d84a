"""Conv, ConvTranspose, CausalConvWithState and DeformConv against ONNX Runtime and ONNX's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(7)


def normal(*shape: int, dtype: str = "float32") -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


CONV: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 11), (4, 3, 3), {"strides": [2], "pads": [1, 2], "dilations": [2]}),
    ((1, 3, 9, 12), (16, 3, 3, 3), {"strides": [2, 1], "pads": [1, 0, 2, 1]}),
    ((2, 8, 7, 6), (8, 1, 5, 3), {"group": 8, "pads": [2, 1, 2, 1]}),
    ((2, 8, 7, 6), (32, 4, 3, 3), {"group": 2, "dilations": [1, 2], "pads": [1, 2, 1, 2]}),
    ((2, 4, 7, 6), (6, 2, 2, 3), {"group": 2, "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ((1, 2, 10, 9), (3, 2, 4, 4), {"auto_pad": "SAME_UPPER", "strides": [3, 2]}),
    ((1, 2, 10, 9), (9, 2, 4, 4), {"auto_pad": "VALID", "strides": [3, 2]}),
    ((1, 2, 4, 5, 6), (8, 2, 2, 3, 1), {"strides": [1, 2, 1], "pads": [1, 1, 0, 0, 1, 0]}),
    ((1, 32, 1, 1), (16, 32, 1, 1), {}),
]


@pytest.mark.parametrize(("data", "weight", "attributes"), CONV, ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_conv(data: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, Any], bias: bool) -> None:
    b = normal(weight[0]) if bias else None
    check("Conv", [normal(*data), normal(*weight), b], attributes, constants=(1, 2) if bias else (), kernels=1)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_conv_element_types(dtype: str) -> None:
    inputs = [normal(1, 3, 8, 9, dtype=dtype), normal(16, 3, 3, 3, dtype=dtype), normal(16, dtype=dtype)]
    check("Conv", inputs, {"pads": [1, 1, 1, 1]}, kernels=1)


TRANSPOSE: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], int]] = [
    ((1, 3, 5), (3, 4, 3), {"strides": [2], "pads": [1, 0]}, 2),
    ((2, 3, 5, 4), (3, 9, 3, 4), {}, 1),
    ((2, 3, 5, 4), (3, 9, 3, 4), {"strides": [2, 3], "output_padding": [1, 2], "pads": [1, 2, 0, 1]}, 2),
    ((1, 8, 5, 4), (8, 5, 3, 3), {"strides": [2, 2], "group": 2, "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, 2),
    ((1, 8, 5, 4), (8, 1, 4, 4), {"strides": [2, 2], "group": 8, "pads": [1, 1, 1, 1]}, 2),
    ((1, 2, 5, 4), (2, 3, 3, 2), {"strides": [2, 1], "dilations": [2, 3], "pads": [1, 0, 2, 1]}, 1),
    ((1, 2, 5, 4), (2, 3, 3, 3), {"strides": [3, 2], "output_shape": [15, 9]}, 2),
    ((1, 2, 5, 4), (2, 3, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, 2),
    ((1, 2, 3, 2, 4), (2, 2, 2, 3, 2), {"strides": [2, 1, 2]}, 2),
    ((1, 2, 4, 4), (2, 3, 1, 1), {"strides": [2, 2]}, 2),
]


@pytest.mark.parametrize(("data", "weight", "attributes", "kernels"), TRANSPOSE, ids=str)
def test_conv_transpose(
    data: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, Any], kernels: int
) -> None:
    bias = normal(weight[1] * attributes.get("group", 1))
    check("ConvTranspose", [normal(*data), normal(*weight), bias], attributes, kernels=kernels)


@pytest.mark.parametrize(("size", "past"), [(4, True), (3, False), (1, True)])
def test_causal_conv_with_state(size: int, past: bool) -> None:
    inputs = [normal(2, 5, 6), normal(5, 1, size), normal(5), normal(2, 5, size - 1) if past and size > 1 else None]
    check("CausalConvWithState", inputs, {"activation": "silu"}, outputs=2, opset=27, kernels=2)


@pytest.mark.parametrize(
    ("channels", "features", "group", "offset_group", "masked"), [(4, 16, 1, 2, True), (4, 6, 2, 1, False)]
)
def test_deform_conv(channels: int, features: int, group: int, offset_group: int, masked: bool) -> None:
    data, weight = normal(2, channels, 7, 6), normal(features, channels // group, 3, 2)
    offset = 1.5 * normal(2, offset_group * 3 * 2 * 2, 7, 5)
    mask = normal(2, offset_group * 3 * 2, 7, 5) if masked else None
    attributes = {"group": group, "offset_group": offset_group, "pads": [1, 0, 1, 0], "kernel_shape": [3, 2]}
    check("DeformConv", [data, weight, offset, normal(features), mask], attributes, opset=22, kernels=1)
