"""Quantized operators of ONNX and com.microsoft against ONNX Runtime and numpy."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(11)
MICROSOFT = "com.microsoft"


def normal(*shape: int, dtype: Any = "float32") -> np.ndarray:
    return (3 * RNG.standard_normal(shape)).astype(dtype)


def integers(dtype: str, *shape: int) -> np.ndarray:
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max + 1, shape).astype(dtype)


def scale(*shape: int) -> np.ndarray:
    return RNG.uniform(0.01, 0.1, shape).astype("float32")


@pytest.mark.parametrize(("shape", "kernels"), [((), 2), ((3, 4), 2), ((2, 3, 70, 80), 3), ((7, 12345), 3)])
def test_dynamic_quantize_linear(shape: tuple[int, ...], kernels: int) -> None:
    check("DynamicQuantizeLinear", [normal(*shape)], outputs=3, opset=13, kernels=kernels)


@pytest.mark.parametrize("value", [0.0, 5.0, -5.0])
def test_dynamic_quantize_linear_of_equal_values(value: float) -> None:
    check("DynamicQuantizeLinear", [np.full((3, 4), value, "float32")], outputs=3, opset=13)


CONV_INTEGER: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 16, 12, 20), (32, 16, 1, 1), {}),
    ((1, 3, 24, 32), (16, 3, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((2, 16, 12, 20), (16, 1, 5, 5), {"group": 16, "strides": [2, 1], "pads": [2, 2, 2, 2]}),
    ((2, 16, 9, 8), (32, 8, 3, 3), {"group": 2, "dilations": [2, 1], "pads": [2, 1, 2, 1]}),
    ((1, 32, 1, 1), (16, 32, 1, 1), {}),
    ((1, 4, 9, 9), (4, 4, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
]


@pytest.mark.parametrize(("data", "weight", "attributes"), CONV_INTEGER, ids=str)
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_conv_integer(
    data: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, Any], constant: bool, dtype: str
) -> None:
    inputs = [integers("uint8", *data), integers(dtype, *weight), np.uint8(117), np.array(5, dtype)]
    check("ConvInteger", inputs, attributes, constants=(1, 3) if constant else (), opset=13, kernels=1)


def test_conv_integer_zero_point_for_each_output_channel() -> None:
    x, w, z = integers("uint8", 1, 2, 5, 6), integers("int8", 9, 2, 3, 3), integers("int8", 9)

    def expected(x: np.ndarray, w: np.ndarray, x_zero: np.ndarray, z: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(x.astype(int) - int(x_zero), (3, 3), (2, 3))
        return np.einsum("ncijkl,mckl->nmij", windows, w.astype(int) - z.reshape(-1, 1, 1, 1)).astype("int32")

    check("ConvInteger", [x, w, np.uint8(3), z], opset=13, expected=expected, kernels=1)


MATMUL_INTEGER = [
    ((4, 3), (3, 2), (), (), ()),
    ((40, 30), (30, 64), (), (64,), (1, 3)),
    ((1, 30), (30, 64), (), (), (1, 3)),
    ((2, 1, 40, 30), (3, 30, 16), (40,), (16,), ()),
    ((2, 40, 30), (30, 16), None, None, (1,)),
    ((5,), (5, 7), None, None, ()),
    ((7, 5), (5,), (), (), ()),
    ((5,), (5,), (), (), ()),
    ((2, 4, 3), (2, 3, 5), (2, 4, 1), (2, 1, 5), ()),
]


@pytest.mark.parametrize(("a", "b", "a_zero", "b_zero", "constants"), MATMUL_INTEGER, ids=str)
def test_matmul_integer(a: Any, b: Any, a_zero: Any, b_zero: Any, constants: Any) -> None:
    def expected(a: np.ndarray, b: np.ndarray, x: np.ndarray | None = None, y: np.ndarray | None = None) -> np.ndarray:
        a, b = a.astype(np.int64), b.astype(np.int64)
        if x is not None:
            a = a - (x.reshape(-1, 1) if x.ndim == 1 and x.size > 1 else x)
        return np.matmul(a, b if y is None else b - y).astype("int32")

    inputs = [
        integers("uint8", *a),
        integers("int8", *b),
        None if a_zero is None else integers("uint8", *a_zero),
        None if b_zero is None else integers("int8", *b_zero),
    ]
    check("MatMulInteger", inputs, constants=constants, opset=10, expected=expected, kernels=1)


@pytest.mark.parametrize("per_channel", [True, False])
def test_qlinear_conv(per_channel: bool) -> None:
    channels = (16,) if per_channel else ()
    inputs = [integers("uint8", 1, 3, 9, 8), scale(), np.uint8(120), integers("int8", 16, 3, 3, 3), scale(*channels)]
    inputs += [np.zeros(channels, "int8"), np.float32(0.7), np.uint8(100), integers("int16", 16).astype("int32")]
    check("QLinearConv", inputs, {"pads": [1, 1, 1, 1]}, opset=13, kernels=1)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_qlinear_matmul(dtype: str) -> None:
    zero = np.array(3, dtype)
    inputs = [integers(dtype, 2, 20, 9), scale(), zero, integers("int8", 2, 9, 16), scale(), np.int8(-2)]
    check("QLinearMatMul", [*inputs, np.float32(0.5), zero], opset=10, kernels=1)


QUANTIZED = ["int8", "uint8", "int16", "uint16", "int4", "uint4", "float8_e4m3fn", "float8_e5m2"]


@pytest.mark.parametrize("dtype", QUANTIZED)
@pytest.mark.parametrize("granularity", ["tensor", "axis", "block"])
@pytest.mark.parametrize("real", ["float32", "float16", "bfloat16"])
def test_quantize_and_dequantize(dtype: str, granularity: str, real: str) -> None:
    kind, real_type = np.dtype(getattr(ml_dtypes, dtype, dtype)), np.dtype(getattr(ml_dtypes, real, real))
    shape = {"tensor": (), "axis": (6,), "block": (4, 3)}[granularity]
    attributes = {"axis": -1, **({"block_size": 2} if granularity == "block" else {})}
    x, s = (40 * normal(4, 6)).astype(real_type), (20 * scale(*shape)).astype(real_type)
    z = (RNG.integers(0, 8, shape) if "int" in dtype else np.zeros(shape)).astype(kind)
    steps = np.repeat(s, 2, axis=-1) if granularity == "block" else s
    zeros = (np.repeat(z, 2, axis=-1) if granularity == "block" else z).astype("float32")
    ratio = (x.astype("float32") / steps.astype("float32")).astype(real_type).astype("float32")
    if "int" in dtype:
        limits = ml_dtypes.iinfo(kind)
        quantized = np.clip(np.rint(ratio) + zeros, limits.min, limits.max).astype(kind)
    else:
        largest = float(ml_dtypes.finfo(kind).max)
        quantized = np.clip(ratio, -largest, largest).astype(kind)
    check("QuantizeLinear", [x, s, z], attributes, opset=23, expected=[quantized], kernels=1)
    back = ((quantized.astype("float32") - zeros) * steps.astype("float32")).astype(real_type)
    check("DequantizeLinear", [quantized, s, z], attributes, opset=23, expected=[back], kernels=1)


def test_quantize_to_the_type_of_an_attribute() -> None:
    x = normal(5)
    expected = np.clip(np.rint(x / np.float32(0.5)), -128, 127).astype("int8")
    check("QuantizeLinear", [x, np.float32(0.5)], {"output_dtype": 3}, opset=21, expected=[expected])


def test_dequantize_int32() -> None:
    check("DequantizeLinear", [integers("int16", 3, 4).astype("int32"), scale(4)], {"axis": 1}, opset=13)


@pytest.mark.parametrize("operator", ["QLinearAdd", "QLinearMul"])
def test_qlinear_binary(operator: str) -> None:
    inputs = [integers("uint8", 2, 3, 4), scale(), np.uint8(120), integers("uint8", 3, 1), scale(), np.uint8(9)]
    check(operator, [*inputs, np.float32(0.3), np.uint8(50)], domain=MICROSOFT, kernels=1)


@pytest.mark.parametrize("columns", [(), (16,)])
def test_dynamic_quantize_matmul(columns: tuple[int, ...]) -> None:
    inputs = [normal(6, 20), integers("int8", 20, 16), scale(*columns), np.zeros(columns, "int8"), normal(16)]
    check("DynamicQuantizeMatMul", inputs, domain=MICROSOFT, kernels=3)


def test_matmul_integer_to_float() -> None:
    inputs = [integers("uint8", 6, 20), integers("int8", 20, 16), scale(), scale(16), np.uint8(7), None, normal(16)]
    check("MatMulIntegerToFloat", inputs, domain=MICROSOFT, kernels=1)
