"""Softmax and its kin, normalizations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.fuzz import draw as d
from tests.fuzz.case import Case, fuzz
from tests.fuzz.draw import Array, Draw

EPSILON = float(np.float32(1e-5))
"""The default of an attribute is float32 as every other value; float64 shows the difference."""


def _softmax(x: Array, axis: int | tuple[int, ...]) -> Array:
    powers = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return np.asarray(powers / np.sum(powers, axis=axis, keepdims=True))


def _log_softmax(x: Array, axis: int | tuple[int, ...]) -> Array:
    rest = x - np.max(x, axis=axis, keepdims=True)
    return np.asarray(rest - np.log(np.sum(np.exp(rest), axis=axis, keepdims=True)))


def _hardmax(x: Array, axis: int) -> Array:
    place = np.expand_dims(np.argmax(x, axis=axis), axis)
    result = np.zeros_like(x)
    np.put_along_axis(result, place, 1, axis)
    return result


_SOFT: dict[str, Callable[..., Array]] = {"Softmax": _softmax, "LogSoftmax": _log_softmax, "Hardmax": _hardmax}


@fuzz(*_SOFT)
def softmax(draw: Draw, operator: str) -> Case:
    shape = d.shape(draw, least=1, sizes=(2, 1, 3, 5, 7, 0, 33, 130))
    axis = d.axis(draw, len(shape))
    old = d.flag(draw)
    if 0 in (shape[axis % len(shape) :] if old else shape[axis : axis + 1 or None]):
        shape = tuple(max(s, 1) for s in shape)
    dtype = d.one_of(draw, ("float32", "float16", "float64") if old else d.FLOATS)
    # where NaN is the largest is open; what is all -inf gives NaN
    special = [] if operator == "Hardmax" else [math.nan, -math.inf, math.inf, 0.0, -0.0]
    x = d.values(draw, shape, dtype, low=-40, high=40, special=special)

    def expected(value: Array) -> Array:
        wide = value.astype(np.float64)
        if old:
            start = axis % len(shape)
            flat = wide.reshape(math.prod(shape[:start]), math.prod(shape[start:]))
            return _SOFT[operator](flat, axis=1).reshape(shape).astype(value.dtype)
        return _SOFT[operator](wide, axis=axis).astype(value.dtype)

    return Case(operator, [x], {"axis": axis}, opset=11 if old else 13, expected=expected)


def _centred(draw: Draw, shape: tuple[int, ...], dtype: str) -> Array:
    """Values some of which are far from zero beside their spread, where the variance needs care."""
    offset = d.one_of(draw, [0, 0, 3, 30 if dtype in ("float32", "float64") else 8])
    return d.values(draw, shape, dtype, low=offset - 2, high=offset + 2, special=False, ties=False)


def _rows(draw: Draw) -> tuple[tuple[int, ...], int]:
    shape = d.shape(draw, least=1, sizes=(2, 3, 5, 8, 33, 130, 1), elements=3000)
    return shape, d.axis(draw, len(shape))


@fuzz("LayerNormalization")
def layer_normalization(draw: Draw, operator: str) -> Case:
    shape, axis = _rows(draw)
    dtype = d.one_of(draw, d.FLOATS)
    x = _centred(draw, shape, dtype)
    own = shape[axis % len(shape) :]
    scale = d.values(draw, own, dtype, special=False)
    bias = d.values(draw, own, dtype, special=False) if d.flag(draw) else None
    epsilon = d.one_of(draw, [None, 2.0**-10, 0.5])
    outputs = d.one_of(draw, [[True], [True, True], [True, True, True], [True, False, True]])
    if dtype != "float32":  # the statistics have a type of their own
        outputs = [True]
    over = tuple(range(axis % len(shape), len(shape)))

    def expected(value: Array, factor: Array, shift: Array | None = None) -> list[Array]:
        wide = value.astype(np.float64)
        mean = wide.mean(axis=over, keepdims=True)
        inverse = 1 / np.sqrt(((wide - mean) ** 2).mean(axis=over, keepdims=True) + (EPSILON if epsilon is None else epsilon))  # noqa: E501  # fmt: skip
        result = (wide - mean) * inverse * factor + (0 if shift is None else shift)
        every = [result.astype(value.dtype), mean.astype(np.float32), inverse.astype(np.float32)]
        return [v for v, kept in zip(every, outputs, strict=False) if kept]

    attributes: dict[str, Any] = {"axis": axis} | ({} if epsilon is None else {"epsilon": epsilon})
    inputs = [x, scale] if bias is None else [x, scale, bias]
    return Case(operator, inputs, attributes, d.one_of(draw, [[], [1]]), outputs=outputs, opset=17, expected=expected)


@fuzz("RMSNormalization")
def rms_normalization(draw: Draw, operator: str) -> Case:
    shape, axis = _rows(draw)
    dtype = d.one_of(draw, d.FLOATS)
    x, scale = _centred(draw, shape, dtype), d.values(draw, shape[axis % len(shape) :], dtype, special=False)
    over = tuple(range(axis % len(shape), len(shape)))

    def expected(value: Array, factor: Array) -> Array:
        wide = value.astype(np.float64)
        return (wide / np.sqrt((wide**2).mean(axis=over, keepdims=True) + EPSILON) * factor).astype(value.dtype)

    return Case(operator, [x, scale], {"axis": axis}, d.one_of(draw, [[], [1]]), opset=23, expected=expected)


@fuzz("InstanceNormalization", "GroupNormalization")
def channel_normalization(draw: Draw, operator: str) -> Case:
    n, groups, each = d.integer(draw, 1, 3), d.integer(draw, 1, 3), d.integer(draw, 1, 3)
    space = d.shape(draw, least=1, most=3, empty=False, sizes=(2, 3, 5, 33, 1))
    channels, dtype = groups * each, d.one_of(draw, d.FLOATS)
    x = _centred(draw, (n, channels, *space), dtype)
    scale, bias = (d.values(draw, (channels,), dtype, special=False) for _ in range(2))
    epsilon = d.one_of(draw, [2.0**-17, 2.0**-10])
    attributes: dict[str, Any] = {"epsilon": epsilon}
    if operator == "GroupNormalization":
        attributes["num_groups"] = groups

    def expected(value: Array, factor: Array, shift: Array) -> Array:
        parts = groups if operator == "GroupNormalization" else channels
        wide = value.astype(np.float64).reshape(n, parts, -1)
        mean = wide.mean(axis=-1, keepdims=True)
        wide = (wide - mean) / np.sqrt(((wide - mean) ** 2).mean(axis=-1, keepdims=True) + epsilon)
        per_channel = (1, channels, *[1] * len(space))
        whole = wide.reshape(value.shape) * factor.reshape(per_channel) + shift.reshape(per_channel)
        return whole.astype(value.dtype)

    return Case(operator, [x, scale, bias], attributes, d.one_of(draw, [[], [1, 2]]),
                opset=22 if operator.startswith("Instance") else 21, expected=expected)  # fmt: skip


@fuzz("BatchNormalization")
def batch_normalization(draw: Draw, operator: str) -> Case:
    shape = d.shape(draw, least=2, most=5, empty=False)
    dtype = d.one_of(draw, d.FLOATS)
    x = d.values(draw, shape, dtype)
    scale, bias, mean = (d.values(draw, shape[1:2], dtype, special=False) for _ in range(3))
    variance = d.values(draw, shape[1:2], dtype, low=0.1, high=4, special=False, ties=False)

    def expected(value: Array, *parameters: Array) -> Array:
        own = [p.astype(np.float64).reshape(1, -1, *[1] * (len(shape) - 2)) for p in parameters]
        wide = (value.astype(np.float64) - own[2]) / np.sqrt(own[3] + EPSILON) * own[0] + own[1]
        return wide.astype(value.dtype)

    return Case(operator, [x, scale, bias, mean, variance], {}, d.one_of(draw, [[], [1, 2, 3, 4]]), opset=15,
                expected=expected)  # fmt: skip


@fuzz("LpNormalization")
def lp_normalization(draw: Draw, operator: str) -> Case:
    shape = d.shape(draw, least=1)
    axis, p = d.axis(draw, len(shape)), d.one_of(draw, [1, 2])
    dtype = d.one_of(draw, ("float32", "float16", "float64"))
    x = d.values(draw, shape, dtype, low=0.5, high=4, special=False) * np.array(
        d.one_of(draw, [1, -1]), d.kind_of(dtype)
    )

    def expected(value: Array) -> Array:
        wide = value.astype(np.float64)
        norm = (
            np.abs(wide).sum(axis=axis, keepdims=True) if p == 1 else np.sqrt((wide**2).sum(axis=axis, keepdims=True))
        )
        return (wide / norm).astype(value.dtype)

    return Case(operator, [x], {"axis": axis, "p": p}, opset=22, expected=expected)


@fuzz("MeanVarianceNormalization")
def mean_variance_normalization(draw: Draw, operator: str) -> Case:
    shape = d.shape(draw, least=1, empty=False, sizes=(2, 3, 5, 33))
    axes = d.axes(draw, len(shape), least=1)
    x = d.values(draw, shape, d.one_of(draw, d.FLOATS), special=False, ties=False)

    def expected(value: Array) -> Array:
        wide, over = value.astype(np.float64), tuple(axes)
        mean = wide.mean(axis=over, keepdims=True)
        deviation = np.sqrt(((wide - mean) ** 2).mean(axis=over, keepdims=True))
        return ((wide - mean) / (deviation + 1e-9)).astype(value.dtype)

    return Case(operator, [x], {"axes": axes}, opset=13, expected=expected)


@fuzz("LRN")
def local_response(draw: Draw, operator: str) -> Case:
    shape = d.shape(draw, least=2, most=5, empty=False, sizes=(2, 3, 5, 1))
    attributes = {"size": d.one_of(draw, [1, 3, 5, 2]), "alpha": 0.5, "beta": 0.75, "bias": 1.5}
    x = d.values(draw, shape, d.one_of(draw, ("float32", "float16", "float64")), special=False)

    def expected(value: Array) -> Array:
        wide, size = value.astype(np.float64), attributes["size"]
        total = np.zeros_like(wide)
        channels = value.shape[1]
        for c in range(channels):
            first, last = max(0, c - (size - 1) // 2), min(channels - 1, c + math.ceil((size - 1) / 2))
            total[:, c] = (wide[:, first : last + 1] ** 2).sum(axis=1)
        return (wide / (1.5 + 0.5 / size * total) ** 0.75).astype(value.dtype)

    return Case(operator, [x], attributes, opset=13, expected=expected)
