"""Activations, each one element-wise computation; narrow floats are computed in float32 and rounded once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from plugin_autogen.lowering.operators.elementwise import maximum_expr
from plugin_autogen.lowering.registry import NodeContext, converter
from plugin_autogen.lowering.te_helpers import c_math_expr, const_expr, dtype_of_expr, elementwise

if TYPE_CHECKING:
    from tvm import relax, tirx

MICROSOFT = "com.microsoft"
SQRT_HALF = math.sqrt(0.5)


def _like(value: float, x: tirx.Expr) -> tirx.Expr:
    return const_expr(value, dtype_of_expr(x))


def sigmoid_expr(x: tirx.Expr) -> tirx.Expr:
    """1 / (1 + exp(-x)): the exponential's overflow gives the right limit."""
    from tvm import tirx

    return _like(1, x) / (_like(1, x) + tirx.exp(-x))


def softplus_expr(x: tirx.Expr) -> tirx.Expr:
    """log(1 + exp(x)) without overflow."""
    from tvm import tirx

    return maximum_expr(x, _like(0, x)) + tirx.log1p(tirx.exp(-tirx.abs(x)))


def gelu_expr(x: tirx.Expr) -> tirx.Expr:
    """x times the normal distribution's cumulative function."""
    from tvm import tirx

    return _like(0.5, x) * x * (_like(1, x) + tirx.erf(x * _like(SQRT_HALF, x)))


def gelu_tanh_expr(x: tirx.Expr) -> tirx.Expr:
    """The approximation of `gelu_expr` by a hyperbolic tangent."""

    inner = _like(math.sqrt(2 / math.pi), x) * (x + _like(0.044715, x) * x * x * x)
    return _like(0.5, x) * x * (_like(1, x) + c_math_expr("tanh", inner))


def quick_gelu_expr(x: tirx.Expr, alpha: float) -> tirx.Expr:
    """x * sigmoid(alpha * x), also known as Swish or SiLU."""
    return x * sigmoid_expr(_like(alpha, x) * x)


def _negative_part(x: tirx.Expr, value: tirx.Expr) -> tirx.Expr:
    """`value` below zero, `x` elsewhere and for NaN."""
    from tvm import tirx

    return tirx.Select(x < _like(0, x), value, x)


def _unary(function: Callable[..., tirx.Expr], **defaults: float) -> Callable[[NodeContext], relax.Expr]:
    """A converter that applies `function(x, *attributes)`, the attributes by name with their defaults."""

    def convert(context: NodeContext) -> relax.Expr:
        import numpy as np

        # attributes are float32, their defaults too: float64 shows the difference
        values = [float(np.float32(context.attribute(name, default))) for name, default in defaults.items()]
        return elementwise(context, lambda x: function(x, *values), context.input(0))

    return convert


def _relu(x: tirx.Expr) -> tirx.Expr:
    return _negative_part(x, _like(0, x))


def _leaky_relu(x: tirx.Expr, alpha: float) -> tirx.Expr:
    return _negative_part(x, _like(alpha, x) * x)


def _thresholded_relu(x: tirx.Expr, alpha: float) -> tirx.Expr:
    from tvm import tirx

    return tirx.Select(x > _like(alpha, x), x, _like(0, x))


def _elu(x: tirx.Expr, alpha: float) -> tirx.Expr:
    return _negative_part(x, _like(alpha, x) * c_math_expr("expm1", x))


def _celu(x: tirx.Expr, alpha: float) -> tirx.Expr:
    return _negative_part(x, _like(alpha, x) * c_math_expr("expm1", x / _like(alpha, x)))


def _selu(x: tirx.Expr, alpha: float, gamma: float) -> tirx.Expr:
    return _like(gamma, x) * _elu(x, alpha)


def _hard_sigmoid(x: tirx.Expr, alpha: float, beta: float) -> tirx.Expr:
    from tvm import tirx

    line = _like(alpha, x) * x + _like(beta, x)
    zero, one = _like(0, x), _like(1, x)
    return tirx.Select(line < zero, zero, tirx.Select(line > one, one, line))


def _hard_swish(x: tirx.Expr) -> tirx.Expr:
    return x * _hard_sigmoid(x, 1 / 6, 0.5)


def _softsign(x: tirx.Expr) -> tirx.Expr:
    from tvm import tirx

    return x / (_like(1, x) + tirx.abs(x))


def _mish(x: tirx.Expr) -> tirx.Expr:

    return x * c_math_expr("tanh", softplus_expr(x))


converter("Relu", since=1)(_unary(_relu))
converter("LeakyRelu", since=1)(_unary(_leaky_relu, alpha=0.01))
converter("ThresholdedRelu", since=10)(_unary(_thresholded_relu, alpha=1.0))
converter("Elu", since=1)(_unary(_elu, alpha=1.0))
converter("Celu", since=12)(_unary(_celu, alpha=1.0))
converter("Selu", since=6)(_unary(_selu, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875))
converter("Selu", since=1)(_unary(_selu, alpha=1.6732, gamma=1.0507))
converter("Sigmoid", since=1)(_unary(sigmoid_expr))
converter("HardSigmoid", since=1)(_unary(_hard_sigmoid, alpha=0.2, beta=0.5))
converter("HardSwish", since=14)(_unary(_hard_swish))
converter("Softplus", since=1)(_unary(softplus_expr))
converter("Softsign", since=1)(_unary(_softsign))
converter("Mish", since=18)(_unary(_mish))
converter("Swish", since=24)(_unary(quick_gelu_expr, alpha=1.0))
converter("QuickGelu", domain=MICROSOFT)(_unary(quick_gelu_expr, alpha=1.702))
converter("Gelu", domain=MICROSOFT)(_unary(gelu_expr))


@converter("Gelu", since=20)
def gelu(context: NodeContext) -> relax.Expr:
    """Gelu-20, `approximate` none or tanh."""
    function = gelu_tanh_expr if context.attribute("approximate", "none") == "tanh" else gelu_expr
    return elementwise(context, function, context.input(0))


@converter("FastGelu", "BiasGelu", domain=MICROSOFT)
def gelu_with_bias(context: NodeContext) -> relax.Expr:
    """The bias of the last axis is added first; FastGelu's is optional."""
    function = gelu_tanh_expr if context.node.op_type == "FastGelu" else gelu_expr
    if not context.has_input(1):
        return elementwise(context, function, context.input(0))
    return elementwise(context, lambda x, bias: function(x + bias), context.input(0), context.input(1))


@converter("SwiGLU", since=28)
def swiglu(context: NodeContext) -> relax.Expr:
    """Swish of the gate times the value."""
    alpha = float(context.attribute("alpha", 1.0))
    return elementwise(context, lambda a, b: quick_gelu_expr(a, alpha) * b, context.input(0), context.input(1))


@converter("Shrink", since=9)
def shrink(context: NodeContext) -> relax.Expr:
    """Shrink-9, on integers too: computed in floats as ONNX's bounds are floats."""
    from tvm import tirx

    bound, bias = float(context.attribute("lambd", 0.5)), float(context.attribute("bias", 0.0))

    def function(x: tirx.Expr) -> tirx.Expr:
        inside = tirx.Select(x > _like(bound, x), x - _like(bias, x), _like(0, x))
        return tirx.Select(x < _like(-bound, x), x + _like(bias, x), inside)

    dtype = context.dtype(0)
    compute = None if "float" in dtype else "float64" if dtype.endswith(("32", "64")) else "float32"
    return elementwise(context, function, context.input(0), compute=compute)
