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
