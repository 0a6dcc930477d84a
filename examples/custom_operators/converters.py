"""Converters for the operators of the example's models: what they compute, as tensor expressions of TVM."""

from __future__ import annotations

import numpy as np
from tvm import te, tirx

from plugin_autogen import NodeContext, converter


def swish_in_numpy(x, beta=1.0):
    return (x / (1 + np.exp(-beta * x))).astype(x.dtype)


@converter("Swish", domain="custom_domain", reference=swish_in_numpy)
def swish(context: NodeContext):
    beta = context.attribute("beta", 1.0)

    def compute(x):
        return te.compute(x.shape, lambda *i: x(*i) / (1.0 + tirx.exp(-beta * x(*i))), name="swish")

    return context.te(compute, context.input(0))


def roll_in_numpy(x, shifts, dims):
    return np.roll(x, shifts, dims)


@converter("Roll", domain="custom_domain", reference=roll_in_numpy)
def roll(context: NodeContext):
    shifts, dims = context.attribute("shifts"), context.attribute("dims")
    if len(shifts) != len(dims):
        context.unsupported("shifts and dims differ in length")

    def compute(x):
        def source(*place):
            place = list(place)
            for shift, axis in zip(shifts, dims, strict=True):
                place[axis] = tirx.floormod(place[axis] - shift, x.shape[axis])
            return x(*place)

        return te.compute(x.shape, source, name="roll")

    return context.te(compute, context.input(0))


@converter("Xlogy", domain="ai.onnx.converters.tensorflow")
def xlogy(context: NodeContext):
    def compute(x, y):
        def value(*i):
            return tirx.if_then_else(x(*i) == 0.0, 0.0, x(*i) * tirx.log(y(*i)))

        return te.compute(x.shape, value, name="xlogy")

    return context.te(compute, context.input(0), context.input(1))


def until_negative_in_numpy(x):
    return x[: np.argmax(np.append(x, -1.0) < 0)]


@converter("UntilNegative", domain="custom_domain", reference=until_negative_in_numpy)
def until_negative(context: NodeContext):
    """The elements before the first one below 0."""
    x = context.input(0)
    (length,) = context.shape(0)
    bound = context.size_bound({0: 0}, length)  # output 0 has up to `length` elements along axis 0

    def first_negative(x):
        k = te.reduce_axis((0, length))
        found = tirx.Select(x(k) < 0, k.var, length)
        first = te.compute((1,), lambda _: te.min(found.astype("int64"), axis=k), name="first")
        return te.compute((1,), lambda i: tirx.min(first(i), length), name="count")  # of nothing the minimum is huge

    size = context.declare_size(bound, context.te(first_negative, x))  # from int64 [1]
    return context.te(lambda x: te.compute((size,), lambda i: x(i), name="kept"), x)
