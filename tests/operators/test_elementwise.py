"""Unary, binary and variadic element-wise operators over types, ranks, broadcasting and special values."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(0)
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, np.inf, -np.inf, np.nan, 1e-30, 3e5], np.float32)


def _array(shape: tuple[int, ...], dtype: str, low: float = -5, high: float = 5) -> np.ndarray:
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    if dtype == "bool":
        return RNG.integers(0, 2, shape).astype(bool)
    if "int" in dtype:
        return RNG.integers(0 if dtype.startswith("u") else low, high, shape).astype(kind)
    return RNG.uniform(low, high, shape).astype(kind)


IN_DOMAIN = {
    "Acos": (-1, 1), "Acosh": (1, 9), "Asin": (-1, 1), "Asinh": (-9, 9), "Atan": (-9, 9), "Atanh": (-0.9, 0.9),
    "Cos": (-50, 50), "Cosh": (-5, 5), "Erf": (-3, 3), "Exp": (-9, 9), "Log": (0.01, 9), "Reciprocal": (0.1, 4),
    "Sin": (-50, 50), "Sinh": (-5, 5), "Sqrt": (0, 90), "Tan": (-1.5, 1.5), "Tanh": (-9, 9),
}  # fmt: skip


@pytest.mark.parametrize("operator", IN_DOMAIN)
def test_math(operator: str) -> None:
    low, high = IN_DOMAIN[operator]
    functions = {"Acos": "arccos", "Acosh": "arccosh", "Asin": "arcsin", "Asinh": "arcsinh", "Atan": "arctan"}
    functions["Atanh"] = "arctanh"

    def expected(x: np.ndarray) -> np.ndarray:
        if operator == "Erf":
            import math

            return np.vectorize(math.erf)(x.astype(np.float64)).astype(x.dtype)
        function = getattr(np, functions.get(operator, operator.lower()))
        return function(x.astype(np.float64)).astype(x.dtype)

    for dtype, shape in (("float32", (3, 5)), ("float64", (7,)), ("float16", ()), ("bfloat16", (2, 1, 3))):
        check(operator, [_array(shape, dtype, low, high)], expected=expected, kernels=1, opset=18)


def test_tanh_of_small_values_keeps_their_digits() -> None:
    x = np.array([1e-4, -3e-6, 1e-7], np.float32)
    lowered = check("Tanh", [x], expected=lambda v: v)
    np.testing.assert_allclose(lowered.outputs[0], x, rtol=1e-2)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int64", "uint64", "float16", "float64"])
def test_sign_changes(dtype: str) -> None:
    x = _array((4, 3), dtype)
    check("Abs", [x], expected=np.abs, kernels=1)
    check("Sign", [x], expected=np.sign, kernels=1)
    if not dtype.startswith("u"):
        check("Neg", [x], expected=np.negative, kernels=1)


def test_special_values() -> None:
    for operator in ("Abs", "Neg", "Ceil", "Floor", "Round", "Sign", "Exp", "Relu", "Sigmoid", "Tanh"):
        check(operator, [SPECIAL], opset=18)
    assert np.signbit(check("Neg", [np.zeros(1, np.float32)]).outputs[0]).all()
    check("IsNaN", [SPECIAL], opset=20)
    for positive, negative in ((1, 1), (1, 0), (0, 1), (0, 0)):
        check("IsInf", [SPECIAL], {"detect_positive": positive, "detect_negative": negative}, opset=20)
        small = SPECIAL.astype(ml_dtypes.bfloat16)
        wanted = (np.isposinf(SPECIAL) & bool(positive)) | (np.isneginf(SPECIAL) & bool(negative))
        check("IsInf", [small], {"detect_positive": positive, "detect_negative": negative}, expected=[wanted], opset=20)


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "bfloat16", "float64", "int8", "uint8", "int32", "int64", "uint64"]
)
def test_arithmetic(operator: str, dtype: str) -> None:
    a, b = (
        _array((2, 3, 4), dtype, 1),
        _array((3, 1), dtype, 1) + np.array(1, np.dtype(getattr(ml_dtypes, dtype, dtype))),
    )

    def expected(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        if operator == "Div" and "int" in dtype:
            return np.trunc(x / y).astype(x.dtype)
        wide = (v.astype(np.float64) if "float" in dtype else v for v in (x, y))
        names = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
        return names[operator](*wide).astype(x.dtype)

    check(operator, [a, b], expected=expected, kernels=1)


@pytest.mark.parametrize(
    ("first", "second"),
    [((), ()), ((), (3, 2)), ((5,), (1,)), ((2, 1, 4, 1, 3), (4, 5, 1)), ((0, 3), (1, 3)), ((1,), (0,))],
)
def test_broadcasting(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    check("Add", [_array(first, "float32"), _array(second, "float32")])
    check("Less", [_array(first, "int32"), _array(second, "int32")])
    check("Add", [_array(first, "float32"), _array(second, "float32")], constants=[1])


def test_broadcasting_before_opset_7() -> None:
    a, b = _array((2, 3, 4), "float32"), _array((3,), "float32")
    check("Add", [a, b], {"broadcast": 1, "axis": 1}, opset=6, expected=[a + b[:, None]])
    check("Mul", [a, _array((4,), "float32")], {"broadcast": 1}, opset=6, expected=lambda x, y: x * y)
    check("PRelu", [a, b], opset=6, expected=[np.where(a < 0, a * b[:, None], a)])


def test_integer_division_never_traps() -> None:
    smallest = np.iinfo(np.int32).min
    a = np.array([7, -7, 7, -7, 5, smallest, smallest], np.int32)
    b = np.array([2, 2, -2, -2, 0, -1, 0], np.int32)
    check("Div", [a, b], expected=[np.array([3, -3, -3, 3, 0, smallest, 0], np.int32)])
    check("Mod", [a, b], expected=[np.array([1, 1, -1, -1, 0, 0, 0], np.int32)])
    check("Mod", [a, b], {"fmod": 1}, expected=[np.array([1, -1, 1, -1, 0, 0, 0], np.int32)])
    check("Div", [np.array([7, 0], np.uint8), np.array([0, 3], np.uint8)], expected=[np.array([0, 0], np.uint8)])


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int8", "int64", "uint16"])
@pytest.mark.parametrize("fmod", [0, 1])
def test_mod(dtype: str, fmod: int) -> None:
    if "float" in dtype and not fmod:
        a, b = _array((20,), dtype), _array((20,), dtype)
        return check("Mod", [a, b], expected=lambda x, y: np.mod(x, y), opset=13) and None
    b = _array((20,), dtype)
    check("Mod", [_array((20,), dtype), np.where(b == 0, 1, b).astype(dtype)], {"fmod": fmod},
          expected=lambda x, y: np.fmod(x, y) if fmod else np.mod(x, y))  # fmt: skip
    return None


@pytest.mark.parametrize(
    ("base", "exponent"),
    [("float32", "float32"), ("float32", "int64"), ("float16", "float16"), ("float64", "int32"), ("int32", "float32"),
     ("bfloat16", "float32")],
)  # fmt: skip
def test_power(base: str, exponent: str) -> None:
    x = np.abs(_array((3, 4), base)) + np.array(1, np.dtype(getattr(ml_dtypes, base, base)))
    y = _array((4,), exponent, 0, 3)
    check("Pow", [x, y], expected=lambda a, b: np.power(a.astype(np.float64), b.astype(np.float64)).astype(a.dtype))


def test_power_of_integers_is_exact_and_wraps() -> None:
    x = np.array([3, -3, 7, 2, 2, 0, 0, 1, -1, -1, 5], np.int64)
    y = np.array([39, 3, 22, 62, 63, 0, 5, -2, -3, -4, -1], np.int64)
    wanted = [3**39, -27, 7**22, 2**62, -(2**63), 1, 0, 1, -1, 1, 0]
    check("Pow", [x, y], expected=[np.array(wanted, np.int64)], kernels=1)
    check("Pow", [x.astype(np.int32)[:3], np.array([2, 5, 3], np.int32)], expected=[np.array([9, -243, 343], np.int32)])


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0, -1.0, 0.5])
def test_power_with_a_constant_exponent(exponent: float) -> None:
    check("Pow", [np.abs(_array((3, 4), "float32")) + 0.1, np.array(exponent, np.float32)], constants=[1], kernels=1)


def test_negative_base_with_a_whole_exponent() -> None:
    check("Pow", [np.array([-2.0, -3.0], np.float32), np.array([3.0, 2.0], np.float32)])


@pytest.mark.parametrize("operator", ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint64", "int64", "bool"])
def test_comparisons(operator: str, dtype: str) -> None:
    if dtype == "bool" and operator != "Equal":
        return
    names = {"Equal": "equal", "Less": "less", "LessOrEqual": "less_equal", "Greater": "greater"}
    function = getattr(np, names.get(operator, "greater_equal"))
    check(operator, [_array((4, 5), dtype, -2, 2), _array((5,), dtype, -2, 2)], expected=function, kernels=1)


def test_large_unsigned_values_compare_unsigned() -> None:
    a, b = np.array([2**63 + 1, 1], np.uint64), np.array([1, 2**64 - 1], np.uint64)
    check("Greater", [a, b], expected=np.greater)
    check("Max", [a, b], expected=np.maximum)
    check("Equal", [a, np.array(2**63 + 1, np.uint64)], constants=[1], expected=np.equal)


def test_comparisons_with_nan() -> None:
    for operator in ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"):
        check(operator, [SPECIAL, SPECIAL[::-1].copy()])


def test_logic() -> None:
    a, b = _array((3, 4), "bool"), _array((4,), "bool")
    for operator, function in (("And", np.logical_and), ("Or", np.logical_or), ("Xor", np.logical_xor)):
        check(operator, [a, b], expected=function, kernels=1)
    check("Not", [a], expected=np.logical_not, kernels=1)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int64"])
def test_bits(dtype: str) -> None:
    a, b = _array((3, 4), dtype, -100, 100), _array((4,), dtype, -100, 100)
    for operator, function in (
        ("BitwiseAnd", np.bitwise_and),
        ("BitwiseOr", np.bitwise_or),
        ("BitwiseXor", np.bitwise_xor),
    ):
        check(operator, [a, b], expected=function, kernels=1)
    check("BitwiseNot", [a], expected=np.invert, kernels=1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_bit_shift(dtype: str) -> None:
    bits = np.iinfo(dtype).bits
    x = np.array([1, 255, 200, 77, 3, 9], dtype)
    amount = np.array([0, 1, bits - 1, bits, bits + 3, 7], dtype)
    for direction in ("LEFT", "RIGHT"):
        wanted = [
            0 if int(a) >= bits else ((int(v) << int(a)) % 2**bits if direction == "LEFT" else int(v) >> int(a))
            for v, a in zip(x, amount, strict=True)
        ]
        check("BitShift", [x, amount], {"direction": direction}, expected=[np.array(wanted, dtype)], kernels=1)
        check("BitShift", [x, np.array([3], dtype)], {"direction": direction}, constants=[1])


def test_variadic() -> None:
    a, b, c = _array((2, 3), "float32"), _array((3,), "float32"), _array((2, 1), "float32")
    for operator in ("Max", "Min", "Sum", "Mean"):
        check(operator, [a, b, c], kernels=1)
        check(operator, [a], kernels=1)
        half = [v.astype(np.float16) for v in (a, b, c)]
        functions: dict[str, Any] = {
            "Max": lambda *v: np.maximum(np.maximum(v[0], v[1]), v[2]),
            "Min": lambda *v: np.minimum(np.minimum(v[0], v[1]), v[2]),
            "Sum": lambda *v: sum(x.astype(np.float32) for x in v).astype(np.float16),
            "Mean": lambda *v: (sum(x.astype(np.float32) for x in v) / 3).astype(np.float16),
        }
        check(operator, half, expected=functions[operator])
    for dtype in ("int8", "uint8", "int64"):
        check("Max", [_array((4,), dtype), _array((4,), dtype)], expected=np.maximum)


def test_largest_and_smallest_with_nan() -> None:
    other = SPECIAL[::-1].copy()
    check("Max", [SPECIAL, other], expected=np.maximum)
    check("Min", [SPECIAL, other], expected=np.minimum)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "bool", "int64", "uint8"])
def test_where(dtype: str) -> None:
    check(
        "Where", [_array((3, 1), "bool"), _array((2, 1, 4), dtype), _array((4,), dtype)], expected=np.where, kernels=1
    )


def test_where_keeps_bits() -> None:
    x = np.array([0x7E01, 0xFE55], np.uint16).view(np.float16)
    lowered = check("Where", [np.array([True, True]), x, np.zeros(2, np.float16)], expected=[x])
    assert (lowered.outputs[0].view(np.uint16) == x.view(np.uint16)).all()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "int64"])
def test_clip(dtype: str) -> None:
    x = _array((3, 4), dtype, -9, 9)
    low, high = np.array(1, dtype), np.array(4, dtype)
    for given in ([low, high], [low, None], [None, high], [None, None]):
        wanted = np.clip(x, *given) if any(g is not None for g in given) else x
        for constants in ([], [i for i, g in enumerate(given, 1) if g is not None]):
            check("Clip", [x, *given], constants=constants, expected=[wanted], kernels=1)
    check("Clip", [x, high, low], expected=[np.full_like(x, 1)])


def test_clip_of_special_values_and_attributes() -> None:
    check("Clip", [SPECIAL, np.array(-1, np.float32), np.array(1, np.float32)])
    check("Clip", [SPECIAL], {"min": -0.5, "max": 2.0}, opset=6)
    check("Clip", [SPECIAL], {"max": 2.0}, opset=6)


def test_prelu() -> None:
    check("PRelu", [_array((2, 3, 4), "float32"), _array((3, 1), "float32")], kernels=1)
