"""Quantization: linear, dynamic, and integer products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.fuzz import draw as d
from tests.fuzz.case import Case, default_reference, fuzz
from tests.fuzz.draw import Array, Draw, Shape
from tests.fuzz.families.spatial import image, window

NARROW = ("int8", "uint8")


def _scale(draw: Draw, shape: Shape, dtype: str = "float32") -> Array:
    if d.flag(draw):  # powers of two: many values lie half-way between two integers
        return np.asarray(2.0 ** np.float64(d.values(draw, shape, "int32", low=-6, high=3, special=False))).astype(
            d.kind_of(dtype)
        )
    return d.values(draw, shape, dtype, low=0.01, high=2, special=False, ties=False)


def _parameters(draw: Draw, shape: Shape) -> tuple[dict[str, Any], Shape]:
    """Attributes and the shape of scale and zero point: of the whole tensor, an axis, or blocks along one."""
    how = d.one_of(draw, ["tensor", "axis", "block"]) if shape else "tensor"
    if how == "tensor":
        return {}, ()
    axis = d.axis(draw, len(shape))
    size = shape[axis]
    if how == "axis":
        return {"axis": axis}, (size,)
    block = d.integer(draw, 1, size)
    return {"axis": axis, "block_size": block}, tuple(
        -(-s // block) if i == axis % len(shape) else s for i, s in enumerate(shape)
    )


def _spread(parameter: Array, shape: Shape, attributes: dict[str, Any]) -> Array:
    """Scale or zero point at every element."""
    if "block_size" in attributes:
        axis = attributes["axis"]
        return np.take(np.repeat(parameter, attributes["block_size"], axis), np.arange(shape[axis]), axis)
    if parameter.ndim:
        axis = attributes["axis"] % len(shape)
        return parameter.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return parameter


def _saturated(rounded: Array, zero: Array | int, dtype: np.dtype) -> Array:
    limits = np.iinfo(dtype)
    return np.clip(rounded + np.asarray(zero, np.float64), limits.min, limits.max).astype(dtype)


@fuzz("QuantizeLinear")
def quantize(draw: Draw, operator: str) -> Case:
    source, to = (
        d.one_of(draw, ("float32", "float32", "float16", "int32")),
        d.one_of(draw, (*NARROW, "int16", "uint16")),
    )
    shape = d.shape(draw, empty=False, most=5)
    attributes, own = _parameters(draw, shape)
    special = [v for v in d.specials(source) if not math.isnan(v)] if source != "int32" else True
    x = d.values(draw, shape, source, low=-300 if d.flag(draw) else -4, high=300, special=special)
    scale = _scale(draw, own, "float32" if source == "int32" else source)
    zero = d.values(draw, own, to)

    def expected(value: Array, step: Array, start: Array) -> Array:
        ratio = (value.astype(np.float32) / _spread(step, shape, attributes).astype(np.float32)).astype(step.dtype)
        return _saturated(np.rint(ratio.astype(np.float64)), _spread(start, shape, attributes), start.dtype)

    return Case(operator, [x, scale, zero], attributes, d.one_of(draw, [[], [1, 2]]), expected=expected, widen=False)


@fuzz("DequantizeLinear")
def dequantize(draw: Draw, operator: str) -> Case:
    source = d.one_of(draw, (*NARROW, "int16", "uint16", "int32"))
    shape = d.shape(draw, empty=False, most=5)
    attributes, own = _parameters(draw, shape)
    to = d.one_of(draw, ("float32", "float16", "bfloat16"))
    limits: dict[str, Any] = {"low": -5000, "high": 5000} if source == "int32" else {}
    x, scale = d.values(draw, shape, source, **limits), _scale(draw, own, to)
    zero = d.values(draw, own, source) if source != "int32" and d.flag(draw) else None

    def expected(value: Array, step: Array, start: Array | None = None) -> Array:
        less = 0 if start is None else _spread(start, shape, attributes).astype(np.int64)
        wide = (value.astype(np.int64) - less).astype(np.float64)
        return (wide * _spread(step, shape, attributes).astype(np.float64)).astype(step.dtype)

    inputs = [x, scale] if zero is None else [x, scale, zero]
    return Case(operator, inputs, attributes, d.one_of(draw, [[], [1]]), expected=expected, widen=False,
                elementwise=True)  # fmt: skip


@fuzz("DynamicQuantizeLinear")
def dynamic_quantize(draw: Draw, operator: str) -> Case:
    shape = d.shape(draw, empty=False, sizes=(2, 1, 3, 5, 33, 130), elements=3000)
    low, high = d.one_of(draw, [(-4, 4), (1, 5), (-7, -2), (-0.01, 0.02), (-1e6, 10)])
    return Case(operator, [d.values(draw, shape, "float32", low=low, high=high, special=[0.0], ties=False)], outputs=3)


@fuzz("MatMulInteger")
def matmul_integer(draw: Draw, operator: str) -> Case:
    m, k, n = (d.one_of(draw, [2, 1, 3, 5, 16, 33]) for _ in range(3))
    batch = d.shape(draw, most=2, empty=False, sizes=(2, 1, 3))
    a = d.values(draw, (*d.broadcast(draw, batch), m, k), d.one_of(draw, NARROW))
    b = d.values(draw, (*d.broadcast(draw, batch), k, n), d.one_of(draw, NARROW))
    left = d.values(draw, (), a.dtype.name) if d.flag(draw) else None
    right = d.values(draw, d.one_of(draw, [(), (n,)]), b.dtype.name) if d.flag(draw) else None

    def expected(x: Array, y: Array, x_zero: Array | None = None, y_zero: Array | None = None) -> Array:
        x, y = x.astype(np.int32), y.astype(np.int32)
        x = x if x_zero is None else x - x_zero.astype(np.int32)
        y = y if y_zero is None else y - y_zero.astype(np.int32)
        return np.matmul(x, y)

    return Case(operator, [a, b, left, right], {}, d.one_of(draw, [[], [1]]), expected=expected)


@fuzz("ConvInteger")
def conv_integer(draw: Draw, operator: str) -> Case:
    rank = d.integer(draw, 1, 2)
    attributes, kernel, least = window(draw, rank)
    group, inside, outside = d.one_of(draw, [1, 1, 2]), d.integer(draw, 1, 4), d.integer(draw, 1, 4)
    x = d.values(draw, (d.integer(draw, 1, 2), group * inside, *image(draw, least)), "uint8")
    w = d.values(draw, (group * outside, inside, *kernel), "uint8")
    zeros = [d.values(draw, (), "uint8") if d.flag(draw) else None for _ in range(2)]
    attributes["group"] = group
    return Case(operator, [x, w, *zeros], attributes, d.one_of(draw, [[], [1]]))


@fuzz("QLinearMatMul")
def qlinear_matmul(draw: Draw, operator: str) -> Case:
    m, k, n = (d.one_of(draw, [2, 1, 3, 5, 16, 33]) for _ in range(3))
    a, b = (d.values(draw, s, d.one_of(draw, NARROW)) for s in ((m, k), (k, n)))
    to = d.one_of(draw, NARROW)
    steps = [np.array(2.0 ** d.integer(draw, -6, 0), np.float32) for _ in range(3)]
    starts = [d.values(draw, (), v) for v in (a.dtype.name, b.dtype.name, to)]

    def expected(x: Array, xs: Array, xz: Array, y: Array, ys: Array, yz: Array, zs: Array, zz: Array) -> Array:
        total = np.matmul(x.astype(np.int64) - int(xz), y.astype(np.int64) - int(yz))
        return _saturated(np.rint(total * (float(xs) * float(ys) / float(zs))), int(zz), zz.dtype)

    inputs = [a, steps[0], starts[0], b, steps[1], starts[1], steps[2], starts[2]]
    return Case(operator, inputs, {}, d.one_of(draw, [[], [1, 2, 3, 4, 5, 6, 7]]), expected=expected)


@fuzz("QLinearConv")
def qlinear_conv(draw: Draw, operator: str) -> Case:
    attributes, kernel, least = window(draw, 2)
    group, inside, outside = d.one_of(draw, [1, 1, 2]), d.integer(draw, 1, 4), d.integer(draw, 1, 4)
    x = d.values(draw, (d.integer(draw, 1, 2), group * inside, *image(draw, least)), "uint8")
    w = d.values(draw, (group * outside, inside, *kernel), "uint8")
    # powers of two: what is half-way between two integers is so in every order of computation
    steps = [np.array(2.0 ** d.integer(draw, -6, 0), np.float32) for _ in range(3)]
    starts = [d.values(draw, (), "uint8") for _ in range(3)]
    bias = [d.values(draw, (group * outside,), "int32", low=-900, high=900, special=False)] if d.flag(draw) else []
    attributes["group"] = group
    inputs = [x, steps[0], starts[0], w, steps[1], starts[1], steps[2], starts[2], *bias]

    def expected(*_: Array) -> Array:
        # of its own ONNX Runtime adds the zero point before it rounds halves to even, on some processors
        total = default_reference(Case("ConvInteger", [x, w, starts[0], starts[1]], attributes))[0].astype(np.float64)
        if bias:
            total = total + bias[0].reshape(-1, 1, 1)
        ratio = float(steps[0]) * float(steps[1]) / float(steps[2])
        return _saturated(np.rint(total * ratio), starts[2], starts[2].dtype)

    return Case(operator, inputs, attributes, d.one_of(draw, [[], [3], [1, 2, 3, 4, 5, 6, 7]]), expected=expected)
