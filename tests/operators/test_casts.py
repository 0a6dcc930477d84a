"""Cast, CastLike and BitCast among all element types."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest

from plugin_autogen import dtypes
from tests.operators.harness import check

FLOATS = ["float16", "bfloat16", "float32", "float64"]
FLOAT8 = ["float8_e4m3fn", "float8_e5m2"]
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
FOUR_BITS = ["int4", "uint4"]


def _type(name: str) -> np.dtype:
    return dtypes.from_name(name).numpy


def _cast(x: np.ndarray, to: str, wanted: np.ndarray, **attributes: int) -> None:
    number = dtypes.from_name(to).onnx
    check("Cast", [x], {"to": number, **attributes}, expected=[wanted], opset=23, kernels=1)


@pytest.mark.parametrize("source", [*FLOATS, *INTEGERS, "bool"])
@pytest.mark.parametrize("to", [*FLOATS, *INTEGERS, "bool"])
def test_values_that_both_types_hold(source: str, to: str) -> None:
    x = np.array([0, 1, 2, 3, 100, 0, 5, 127]).reshape(2, 4).astype(_type(source))
    _cast(x, to, x.astype(_type(to)))


@pytest.mark.parametrize("source", INTEGERS)
@pytest.mark.parametrize("to", INTEGERS)
def test_integers_wrap(source: str, to: str) -> None:
    info = np.iinfo(source)
    x = np.array([info.min, info.max, info.max // 3, 200 % info.max], source)
    _cast(x, to, x.astype(to))


@pytest.mark.parametrize("source", FLOATS)
def test_floats_truncate(source: str) -> None:
    x = np.array([1.5, -1.5, 2.75, -0.5, 99.25, 0.0, -0.0]).astype(_type(source))
    for to in ("int8", "int32", "int64"):
        _cast(x, to, np.trunc(x.astype(np.float64)).astype(to))
    _cast(x, "bool", x.astype(np.float64) != 0)
    _cast(np.array([np.nan, np.inf, -np.inf, 0.1]).astype(_type(source)), "bool", np.ones(4, bool))


@pytest.mark.parametrize("source", ["float32", "float64"])
@pytest.mark.parametrize("to", ["float16", "bfloat16"])
def test_floats_round_half_to_even_and_overflow_to_infinity(source: str, to: str) -> None:
    large = 1e39 if source == "float64" else 3e38
    ties = [1.0009765625, 1.00048828125, 1.00146484375, 1 + 3 / 256, 65519.0, 65520.0]
    x = np.array([*ties, large, np.nan, -np.inf, 1e-8], source)
    with np.errstate(over="ignore"):
        _cast(x, to, x.astype(_type(to)))


@pytest.mark.parametrize("to", FLOAT8)
def test_every_float16_to_float8(to: str) -> None:
    """Against ml_dtypes, which does not saturate; with `saturate` everything too large becomes the largest value."""
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    plain = x.astype(np.float32).astype(_type(to))
    _cast(x, to, plain, saturate=0)
    largest = float(ml_dtypes.finfo(_type(to)).max)
    bounded = np.where(np.isnan(x), np.nan, np.clip(x.astype(np.float32), -largest, largest)).astype(_type(to))
    _cast(x, to, bounded)


@pytest.mark.parametrize("to", FLOAT8)
def test_float8_rounding_near_its_limits(to: str) -> None:
    info = ml_dtypes.finfo(_type(to))
    points = np.array([float(info.smallest_subnormal), float(info.tiny), float(info.max), 1.0])
    near = np.concatenate([points * f for f in (0.25, 0.4999, 0.5, 0.5001, 0.75, 1.0, 1.03, 1.0625, 1.1, 1.5)])
    x = np.concatenate([near, -near]).astype(np.float32)
    _cast(x, to, x.astype(_type(to)), saturate=0)


@pytest.mark.parametrize("source", FLOAT8)
def test_every_float8(source: str) -> None:
    x = np.arange(256, dtype=np.uint8).view(_type(source))
    for to in ("float32", "float16", "float64", "bfloat16"):
        _cast(x, to, x.astype(np.float32).astype(_type(to)))
    other = FLOAT8[1 - FLOAT8.index(source)]
    _cast(x, other, x.astype(np.float32).astype(_type(other)), saturate=0)


@pytest.mark.parametrize("to", FOUR_BITS)
def test_four_bits(to: str) -> None:
    x = np.arange(-9, 16)
    wrapped = ((x + 8) % 16 - 8 if to == "int4" else x % 16).astype(_type(to))
    for source in ("float32", "float16", "int8", "int64"):
        _cast(x.astype(source), to, wrapped)
    for back in ("float32", "int8", "uint8", "float16"):
        _cast(wrapped, back, wrapped.astype(np.int32).astype(back))


def test_same_type_and_rank_0_and_no_elements() -> None:
    _cast(np.float32(2.5), "int32", np.array(2, np.int32))
    _cast(np.zeros((0, 3), np.float32), "float16", np.zeros((0, 3), np.float16))
    check("Cast", [np.ones((2, 2), np.float32)], {"to": onnx.TensorProto.FLOAT})


def test_cast_like() -> None:
    x = np.array([1.5, 300.0, -2.0], np.float32)
    check("CastLike", [x, np.zeros(1, np.int32)], expected=[np.array([1, 300, -2], np.int32)], kernels=1)
    check("CastLike", [x, np.zeros((), np.float16)], expected=[x.astype(np.float16)], constants=[1], kernels=1)


@pytest.mark.parametrize(
    ("source", "to"),
    [("float32", "int32"), ("int32", "float32"), ("float64", "int64"), ("uint16", "float16"), ("bfloat16", "int16"),
     ("int8", "uint8"), ("uint64", "float64"), ("bool", "uint8"), ("float8_e4m3fn", "uint8"), ("uint8", "float8_e5m2")],
)  # fmt: skip
def test_bit_cast(source: str, to: str) -> None:
    raw = np.random.default_rng(0).integers(0, 120, 24).astype(np.uint8)
    x = (raw & 1).astype(bool) if source == "bool" else raw.view(_type(source))
    check("BitCast", [x], {"to": dtypes.from_name(to).onnx}, opset=26, expected=[x.view(_type(to))], kernels=1)
