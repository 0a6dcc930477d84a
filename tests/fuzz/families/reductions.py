"""Reduce…, ArgMax and ArgMin, CumSum and CumProd, TopK."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.fuzz import draw as d
from tests.fuzz.case import Case, evaluator, fuzz
from tests.fuzz.draw import Array, Draw

SUMMABLE = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-6]
"""Special values whose sums do not depend on the order."""


def _log_sum_exp(x: Array, **how: Any) -> Array:
    top = np.max(x, axis=how["axis"], keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    rest = np.log(np.sum(np.exp(x - top), **how))
    return rest + (top if how["keepdims"] else top.reshape(rest.shape))


_REDUCTIONS: dict[str, Callable[..., Array]] = {
    "ReduceL1": lambda x, **how: np.sum(np.abs(x), **how),
    "ReduceL2": lambda x, **how: np.sqrt(np.sum(np.square(x), **how)),
    "ReduceLogSum": lambda x, **how: np.log(np.sum(x, **how)),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": lambda x, **how: np.max(x, initial=_bound(x, -1), **how),
    "ReduceMean": lambda x, **how: np.mean(x, **how),
    "ReduceMin": lambda x, **how: np.min(x, initial=_bound(x, 1), **how),
    "ReduceProd": lambda x, **how: np.prod(x, **how),
    "ReduceSum": lambda x, **how: np.sum(x, **how),
    "ReduceSumSquare": lambda x, **how: np.sum(np.square(x), **how),
}


def _bound(x: Array, sign: int) -> Any:
    if x.dtype == bool:
        return sign > 0
    if x.dtype.kind in "iu":
        return np.iinfo(x.dtype).max if sign > 0 else np.iinfo(x.dtype).min
    return sign * np.inf


@fuzz(*_REDUCTIONS)
def reduction(draw: Draw, operator: str) -> Case:
    ordered = operator in ("ReduceMax", "ReduceMin")
    dtype = d.one_of(draw, (*d.FLOATS, "int32", "int64", "uint32", "uint64", *(("int8", "uint8", "bool") * ordered)))
    positive = operator == "ReduceLogSum" or not d.is_float(dtype) and operator == "ReduceLogSumExp"
    # the mean of nothing is undefined, as is every logarithm of nothing in integers
    empty = operator != "ReduceMean" and (d.is_float(dtype) or not operator.startswith("ReduceLog"))
    sizes = (2, 1, 3, 4, 5, 0, 33, 130) if d.flag(draw) else d.SIZES
    shape = d.shape(draw, empty=empty, sizes=sizes)
    if operator == "ReduceProd":
        limits: dict[str, Any] = {"low": -2, "high": 2, "special": SUMMABLE[:1] if d.is_float(dtype) else False}
    elif ordered:
        limits = {}
    elif d.is_float(dtype):
        limits = {"special": SUMMABLE[:2] if positive else SUMMABLE, "low": 0.1 if positive else -3, "high": 4}
    else:
        limits = {"low": 1 if positive else -9, "high": 9, "special": False}
    x = d.values(draw, shape, dtype, **limits)
    axes = d.axes(draw, len(shape))
    keep = d.flag(draw)
    attributes: dict[str, Any] = {} if keep and d.flag(draw) else {"keepdims": int(keep)}
    by_attribute = operator != "ReduceSum" and dtype in ("float32", "int32", "int64") and d.flag(draw)
    noop = not by_attribute and d.flag(draw)
    inputs: list[Array | None] = [x]
    if by_attribute:
        if axes:
            attributes["axes"] = axes
    else:
        if axes or d.flag(draw):
            inputs.append(np.array(axes, np.int64))
        if noop:
            attributes["noop_with_empty_axes"] = 1
    over = tuple(axes) if axes else () if noop else None

    def expected(value: Array, *_: Array) -> Array:
        wide = value if ordered or dtype.startswith(("int", "uint")) and operator in _EXACT else value.astype(float)
        result = _REDUCTIONS[operator](wide, axis=over, keepdims=keep)
        return np.asarray(result).astype(value.dtype)

    return Case(operator, inputs, attributes, [1] if len(inputs) > 1 else [], opset=17 if by_attribute else 20,
                expected=expected)  # fmt: skip


_EXACT = ("ReduceSum", "ReduceProd", "ReduceSumSquare", "ReduceL1")


@fuzz("ArgMax", "ArgMin")
def arg_extreme(draw: Draw, operator: str) -> Case:
    shape = d.shape(draw, least=1)
    axis = d.axis(draw, len(shape))
    shape = tuple(max(s, 1) if i == axis % len(shape) else s for i, s in enumerate(shape))
    attributes: dict[str, Any] = {"axis": axis} if axis or d.flag(draw) else {}
    if d.flag(draw):
        attributes["keepdims"] = int(d.flag(draw))
    if d.flag(draw):
        attributes["select_last_index"] = int(d.flag(draw))
    case = Case(operator, [d.values(draw, shape, d.one_of(draw, d.NUMBERS))], attributes)
    # the first NaN wins in numpy; ONNX Runtime skips them
    return Case(operator, case.inputs, attributes, expected=lambda _: evaluator(case), widen=False)


@fuzz("CumSum", "CumProd")
def scan(draw: Draw, operator: str) -> Case:
    dtype = d.one_of(draw, (*d.FLOATS, "int32", "int64", "uint32", "uint64"))
    shape = d.shape(draw, least=1, sizes=(2, 1, 3, 5, 0, 33, 70, 300))
    product = operator == "CumProd"
    if product:
        x = d.values(draw, shape, dtype, low=0.8, high=1.25, special=[1, 2] if "int" in dtype else SUMMABLE[:1])
    else:
        x = d.values(draw, shape, dtype, special=SUMMABLE if d.is_float(dtype) else True)
    axis = d.axis(draw, len(shape))
    exclusive, reverse = d.flag(draw), d.flag(draw)

    def expected(value: Array, at: Array) -> Array:
        wide = value.astype(float) if value.dtype.kind == "f" else value
        wide = np.flip(wide, axis) if reverse else wide
        result = (np.cumprod if product else np.cumsum)(wide, axis=axis, dtype=wide.dtype)
        if exclusive:
            result = np.roll(result, 1, axis)
            index = [slice(None)] * value.ndim
            index[axis] = slice(0, 1)
            result[tuple(index)] = 1 if product else 0
        return (np.flip(result, axis) if reverse else result).astype(value.dtype)

    attributes = {"exclusive": int(exclusive), "reverse": int(reverse)}
    place = np.array(axis, d.one_of(draw, ["int32", "int64"]))
    return Case(operator, [x, place], attributes, [1], opset=26 if product else 21, expected=expected)


@fuzz("TopK")
def top_k(draw: Draw, operator: str) -> Case:
    dtype = d.one_of(draw, d.NUMBERS)
    shape = d.shape(draw, least=1, sizes=(2, 1, 3, 5, 0, 33, 70))
    axis, largest = d.axis(draw, len(shape)), d.flag(draw)
    k = d.integer(draw, 0, shape[axis])
    # where NaN stands is open
    special = [v for v in d.specials(dtype) if v == v]
    x = d.values(draw, shape, dtype, special=special)
    attributes: dict[str, Any] = {"axis": axis, "largest": int(largest)}

    def expected(value: Array, *_: Array) -> list[Array]:
        wide = value.astype(float) if value.dtype.kind == "f" else value.astype(object)
        order = np.argsort(-wide if largest else wide, axis=axis, kind="stable")
        places = np.take(order, np.arange(k), axis=axis)
        return [np.take_along_axis(value, places, axis), places.astype(np.int64)]

    return Case(operator, [x, np.array([k], np.int64)], attributes, [1], outputs=2, expected=expected)
