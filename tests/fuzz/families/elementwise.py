"""Unary, binary and variadic element-wise operators, activations."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.fuzz import draw as d
from tests.fuzz.case import Case, fuzz
from tests.fuzz.draw import Array, Draw

# unary ----------------------------------------------------------------------------------------------------------------

_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "Acos": np.arccos, "Acosh": np.arccosh, "Asin": np.arcsin, "Asinh": np.arcsinh, "Atan": np.arctan,
    "Atanh": np.arctanh, "Ceil": np.ceil, "Cos": np.cos, "Cosh": np.cosh, "Erf": np.vectorize(math.erf, otypes=[float]),
    "Exp": np.exp, "Floor": np.floor, "Log": np.log, "Reciprocal": np.reciprocal, "Round": np.rint, "Sin": np.sin,
    "Sinh": np.sinh, "Sqrt": np.sqrt, "Tan": np.tan, "Tanh": np.tanh,
}  # fmt: skip


def _in_double(function: Callable[..., Array]) -> Callable[..., Array]:
    """The function rounded once: ONNX Runtime's own approximations are no better than the kernels'."""
    return lambda x, *more: np.asarray(function(x.astype(np.float64), *more)).astype(x.dtype)


@fuzz(*_FUNCTIONS)
def math_function(draw: Draw, operator: str) -> Case:
    x = d.values(draw, d.shape(draw), d.one_of(draw, d.FLOATS), low=-1, high=1) if d.flag(draw) else None
    if x is None:
        x = d.values(draw, d.shape(draw), d.one_of(draw, d.FLOATS))
    opset = 22 if x.dtype.name == "bfloat16" else 21
    return Case(operator, [x], opset=opset, expected=_in_double(_FUNCTIONS[operator]), elementwise=True)


@fuzz("Abs", "Neg", "Sign")
def sign_function(draw: Draw, operator: str) -> Case:
    dtype = d.one_of(draw, (*d.FLOATS, *d.SIGNED) if operator == "Neg" else d.NUMBERS)
    function = {"Abs": np.abs, "Neg": np.negative, "Sign": np.sign}[operator]
    return Case(operator, [d.values(draw, d.shape(draw), dtype)], expected=function, exact=operator != "Sign")


@fuzz("IsInf", "IsNaN")
def detection(draw: Draw, operator: str) -> Case:
    dtype = d.one_of(draw, d.FLOATS)
    attributes = {}
    if operator == "IsInf" and d.flag(draw):
        attributes = {"detect_positive": int(d.flag(draw)), "detect_negative": int(d.flag(draw))}
    return Case(operator, [d.values(draw, d.shape(draw), dtype)], attributes)


@fuzz("Not")
def negation(draw: Draw, operator: str) -> Case:
    return Case(operator, [d.values(draw, d.shape(draw), "bool")])


@fuzz("BitwiseNot")
def complement(draw: Draw, operator: str) -> Case:
    return Case(operator, [d.values(draw, d.shape(draw), d.one_of(draw, d.INTEGERS))], expected=np.invert)


# binary ---------------------------------------------------------------------------------------------------------------


def _pair(draw: Draw, dtype: str, other: str | None = None, **limits: Any) -> tuple[Array, Array, list[int]]:
    """Two arrays of shapes that broadcast, and which of them is an initializer."""
    first, second = d.broadcast_pair(draw)
    constants = d.one_of(draw, [[], [], [1], [0]])
    return d.values(draw, first, dtype, **limits), d.values(draw, second, other or dtype, **limits), constants


def _truncated(a: Array, b: Array) -> Array:
    a, b = np.broadcast_arrays(a, b)
    quotients = [abs(int(x)) // abs(int(y)) * (1 if (x < 0) == (y < 0) else -1) for x, y in zip(a.flat, b.flat)]  # noqa: B905
    return np.array(quotients, a.dtype).reshape(a.shape)


@fuzz("Add", "Sub", "Mul", "Div")
def arithmetic(draw: Draw, operator: str) -> Case:
    dtype = d.one_of(draw, d.NUMBERS)
    a, b, constants = _pair(draw, dtype)
    if d.is_float(dtype):
        return Case(operator, [a, b], constants=constants, elementwise=True)
    if operator == "Div":  # by zero, and the smallest integer by -1, is undefined
        a, b = _divisible(a, b)
        return Case(operator, [a, b], constants=constants, expected=_truncated)
    function = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}[operator]
    return Case(operator, [a, b], constants=constants, expected=function)


def _divisible(a: Array, b: Array) -> tuple[Array, Array]:
    b = np.where(b == 0, np.array(1, b.dtype), b)
    smallest = np.iinfo(a.dtype).min
    return (np.where(a == smallest, np.array(smallest + 1, a.dtype), a) if smallest else a), b


@fuzz("Mod")
def modulo(draw: Draw, operator: str) -> Case:
    dtype = d.one_of(draw, d.NUMBERS)
    a, b, constants = _pair(draw, dtype)
    fmod = d.is_float(dtype) or d.flag(draw)  # ONNX has no other one for floats
    if not d.is_float(dtype):
        a, b = _divisible(a, b)
    function = np.fmod if fmod else np.mod
    return Case(operator, [a, b], {"fmod": int(fmod)}, constants, expected=function, elementwise=True)


@fuzz("Pow")
def power(draw: Draw, operator: str) -> Case:
    base = d.one_of(draw, (*d.FLOATS, "int32", "int64"))
    other = d.one_of(draw, (*d.FLOATS, *d.INTEGERS))
    if d.is_float(base):
        whole = not d.is_float(other)
        a, b, constants = _pair(draw, base, other, low=-4 if whole else None, high=4 if whole else None)
        if whole:
            a = d.values(draw, a.shape, base)
    else:  # what does not fit the integer is undefined, a negative power too
        a, b, constants = _pair(draw, base, other, low=0, high=5)

    def expected(x: Array, y: Array) -> Array:
        return np.power(x.astype(np.float64), y.astype(np.float64)).astype(x.dtype)

    # integer powers as floats: the truncation of 124.99999 is as right as 125
    fits = d.is_float(base) or not d.is_float(other)
    if not fits:
        b = np.round(b.astype(np.float64)).astype(b.dtype)
    return Case(operator, [a, b], {}, constants, expected=expected, widen=False, elementwise=True)


@fuzz("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
def comparison(draw: Draw, operator: str) -> Case:
    dtype = d.one_of(draw, d.ANY if operator == "Equal" else d.NUMBERS)
    a, b, constants = _pair(draw, dtype)
    names = {"Equal": "equal", "Less": "less", "LessOrEqual": "less_equal", "Greater": "greater"}
    return Case(operator, [a, b], {}, constants, expected=getattr(np, names.get(operator, "greater_equal")))


@fuzz("And", "Or", "Xor")
def logic(draw: Draw, operator: str) -> Case:
    a, b, constants = _pair(draw, "bool")
    return Case(operator, [a, b], {}, constants)


@fuzz("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def bits(draw: Draw, operator: str) -> Case:
    a, b, constants = _pair(draw, d.one_of(draw, d.INTEGERS))
    function = {"BitwiseAnd": np.bitwise_and, "BitwiseOr": np.bitwise_or, "BitwiseXor": np.bitwise_xor}[operator]
    return Case(operator, [a, b], {}, constants, expected=function)


@fuzz("BitShift")
def shift(draw: Draw, operator: str) -> Case:
    dtype = d.one_of(draw, d.UNSIGNED)
    left = d.flag(draw)
    first, second = d.broadcast_pair(draw)
    a = d.values(draw, first, dtype)
    b = d.values(draw, second, dtype, low=0, high=np.iinfo(dtype).bits - 1)
    function = np.left_shift if left else np.right_shift
    return Case(operator, [a, b], {"direction": "LEFT" if left else "RIGHT"},
                d.one_of(draw, [[], [1], [0]]), expected=function)  # fmt: skip


@fuzz("PRelu")
def prelu(draw: Draw, operator: str) -> Case:
    dtype = d.one_of(draw, (*d.FLOATS, "int32", "int64", "uint32", "uint64"))
    whole = d.shape(draw)
    x, slope = d.values(draw, whole, dtype), d.values(draw, d.broadcast(draw, whole), dtype)
    return Case(operator, [x, slope], {}, d.one_of(draw, [[], [1]]),
                expected=lambda a, b: np.where(a < 0, a * b, a), elementwise=True)  # fmt: skip


# variadic and others --------------------------------------------------------------------------------------------------


@fuzz("Max", "Min", "Sum", "Mean")
def variadic(draw: Draw, operator: str) -> Case:
    dtype = d.one_of(draw, d.NUMBERS if operator in ("Max", "Min") else d.FLOATS)
    whole = d.shape(draw)
    inputs = [d.values(draw, d.broadcast(draw, whole), dtype) for _ in range(d.integer(draw, 1, 4))]
    functions = {"Max": np.maximum, "Min": np.minimum}
    expected = None
    if operator in functions:
        expected = lambda *v: functools.reduce(functions[operator], v)  # noqa: E731
    elif operator == "Mean":

        def expected(*v: Array) -> Array:  # the evaluator adds in place, into too small a shape
            return np.asarray(sum(x.astype(np.float64) for x in v) / len(v)).astype(v[0].dtype)

    return Case(operator, inputs, {}, [0] if len(inputs) > 1 and d.flag(draw) else [], expected=expected)


@fuzz("Where")
def where(draw: Draw, operator: str) -> Case:
    dtype, whole = d.one_of(draw, d.ANY), d.shape(draw)
    condition = d.values(draw, d.broadcast(draw, whole), "bool")
    a, b = (d.values(draw, d.broadcast(draw, whole), dtype) for _ in range(2))
    return Case(operator, [condition, a, b], {}, d.one_of(draw, [[], [1], [2], [0]]), expected=np.where, exact=True)


@fuzz("Clip")
def clip(draw: Draw, operator: str) -> Case:
    dtype = d.one_of(draw, d.NUMBERS)
    x = d.values(draw, d.shape(draw), dtype)
    low, high = (d.values(draw, (), dtype, special=d.specials(dtype)[1:] if d.is_float(dtype) else True)
                 if d.flag(draw) else None for _ in range(2))  # fmt: skip

    def expected(value: Array, *bounds: Array | None) -> Array:
        at_least, at_most = (*bounds, None, None)[:2]
        value = value if at_least is None else np.maximum(value, at_least)
        return value if at_most is None else np.minimum(value, at_most)

    constants = [i for i, v in enumerate((low, high), 1) if v is not None and d.flag(draw)]
    return Case(operator, [x, low, high], {}, constants, expected=expected)


# activations ----------------------------------------------------------------------------------------------------------


def _number(draw: Draw, low: float = -2, high: float = 2) -> float:
    return float(np.float32(d.integer(draw, int(low * 8), int(high * 8)) / 8))


def _selu(x: Array, alpha: float, gamma: float) -> Array:
    return gamma * np.where(x > 0, x, alpha * np.expm1(x))


def _softplus(x: Array) -> Array:
    return np.logaddexp(x, 0)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


_ACTIVATIONS: dict[str, tuple[dict[str, tuple[float, float]], int, Callable[..., Array]]] = {
    "Celu": ({"alpha": (0.125, 2)}, 12, lambda x, alpha=1.0: np.where(x < 0, alpha * np.expm1(x / alpha), x)),
    "Elu": ({"alpha": (-2, 2)}, 21, lambda x, alpha=1.0: np.where(x < 0, alpha * np.expm1(x), x)),
    "HardSigmoid": (
        {"alpha": (-2, 2), "beta": (-2, 2)},
        21,
        lambda x, alpha, beta=0.5: np.clip(alpha * x + beta, 0, 1),
    ),
    "HardSwish": ({}, 21, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "LeakyRelu": ({"alpha": (-2, 2)}, 21, lambda x, alpha: np.where(x < 0, alpha * x, x)),
    "Mish": ({}, 21, lambda x: x * np.tanh(_softplus(x))),
    "Relu": ({}, 21, lambda x: np.maximum(x, 0)),
    "Selu": (
        {"alpha": (0.125, 2), "gamma": (0.125, 2)},
        21,
        lambda x, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875: _selu(x, alpha, gamma),
    ),
    "Sigmoid": ({}, 21, _sigmoid),
    "Softplus": ({}, 21, _softplus),
    "Softsign": ({}, 21, lambda x: x / (1 + np.abs(x))),
    "Swish": ({"alpha": (-2, 2)}, 24, lambda x, alpha=1.0: x * _sigmoid(alpha * x)),
    "ThresholdedRelu": ({"alpha": (-2, 2)}, 21, lambda x, alpha=1.0: np.where(x > alpha, x, 0)),
}


@fuzz(*_ACTIVATIONS)
def activation(draw: Draw, operator: str) -> Case:
    limits, opset, function = _ACTIVATIONS[operator]
    dtype = d.one_of(draw, ("float32",) if operator == "Celu" else d.FLOATS)
    if dtype == "bfloat16":
        opset = max(opset, 22)
    attributes = {name: _number(draw, *limit) for name, limit in limits.items() if d.flag(draw)}
    # infinity times zero is open: some formulas have its limit, some NaN
    special = [v for v in d.specials(dtype) if math.isnan(v) or abs(v) < 1e3]
    near = 1e-3 if d.flag(draw) else 4
    x = d.values(draw, d.shape(draw), dtype, low=-near, high=near, special=special, ties=near > 1)
    defaults = {"HardSigmoid": {"alpha": 0.2}, "LeakyRelu": {"alpha": 0.01}}.get(operator, {})
    numbers = {name: float(np.float32(value)) for name, value in (defaults | attributes).items()}
    expected = _in_double(lambda v: function(v, **numbers))
    return Case(operator, [x], attributes, opset=opset, expected=expected, elementwise=True)


@fuzz("Gelu")
def gelu(draw: Draw, operator: str) -> Case:
    dtype = d.one_of(draw, d.FLOATS)
    approximate = d.one_of(draw, ["none", "tanh"])
    erf = np.vectorize(math.erf, otypes=[float])

    def expected(x: Array) -> Array:
        if approximate == "none":
            return 0.5 * x * (1 + erf(x / math.sqrt(2)))
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    special = [v for v in d.specials(dtype) if math.isnan(v) or abs(v) < 1e3]
    x = d.values(draw, d.shape(draw), dtype, special=special)
    return Case(operator, [x], {"approximate": approximate}, expected=_in_double(expected))


@fuzz("Shrink")
def shrink(draw: Draw, operator: str) -> Case:
    dtype = d.one_of(draw, (*d.FLOATS, *d.INTEGERS))
    attributes = {"lambd": abs(_number(draw)), "bias": _number(draw)} if d.flag(draw) else {}
    if not d.is_float(dtype):  # halves have no place in integers
        attributes = {k: float(round(v)) for k, v in attributes.items()}
    low, high = (None, None) if d.is_float(dtype) else (3 if dtype.startswith("u") else -9, 9)
    x = d.values(draw, d.shape(draw), dtype, low=low, high=high)

    def expected(v: Array) -> Array:
        bound, bias = attributes.get("lambd", 0.5), attributes.get("bias", 0.0)
        wide = v.astype(np.float64)
        return np.where(wide < -bound, wide + bias, np.where(wide > bound, wide - bias, 0)).astype(v.dtype)

    return Case(operator, [x], attributes, expected=expected, elementwise=True)
