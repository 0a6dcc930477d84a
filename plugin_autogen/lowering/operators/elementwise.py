"""Unary, binary and variadic element-wise operators: arithmetic, comparisons, logic, bits, rounding, trigonometry."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from plugin_autogen.lowering.registry import NodeContext, converter, dtype_of, shape_of
from plugin_autogen.lowering.te_helpers import (
    bits_of,
    broadcast_index,
    broadcast_shape,
    c_math_expr,
    const_expr,
    dtype_of_expr,
    elementwise,
    is_float,
    is_unsigned,
    wide,
)

if TYPE_CHECKING:
    from tvm import relax, tirx

# unary ----------------------------------------------------------------------------------------------------------------


def _intrinsic(name: str) -> Callable[[NodeContext], relax.Expr]:
    """A converter that applies one of TIR's math functions, narrow floats computed in float32."""

    def convert(context: NodeContext) -> relax.Expr:
        from tvm import tirx

        return elementwise(context, getattr(tirx, name), context.input(0))

    return convert


for _operator, _function in {
    "Acos": "acos",
    "Acosh": "acosh",
    "Asin": "asin",
    "Asinh": "asinh",
    "Atan": "atan",
    "Ceil": "ceil",
    "Cos": "cos",
    "Cosh": "cosh",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "Log": "log",
    "Round": "nearbyint",
    "Sin": "sin",
    "Sinh": "sinh",
    "Sqrt": "sqrt",
    "Tan": "tan",
}.items():
    converter(_operator, since=1)(_intrinsic(_function))


@converter("Tanh", "Atanh", since=1)
def hyperbolic(context: NodeContext) -> relax.Expr:
    """Tanh-1, 6, 13 and Atanh-9, 22, exact near zero."""
    name = context.node.op_type.lower()
    return elementwise(context, lambda x: c_math_expr(name, x), context.input(0))


@converter("Abs", since=1)
def absolute(context: NodeContext) -> relax.Expr:
    """Abs-1, 6, 13. The smallest signed integer stays itself."""
    from tvm import tirx

    def magnitude(x: tirx.Expr) -> tirx.Expr:
        kind = dtype_of_expr(x)
        if is_unsigned(kind):
            return x
        return tirx.abs(x) if is_float(kind) else tirx.Select(x < 0, const_expr(0, kind) - x, x)

    return elementwise(context, magnitude, context.input(0))


@converter("Neg", since=1)
def negative(context: NodeContext) -> relax.Expr:
    """Neg-1, 6, 13. The sign of a zero changes too."""

    def negate(x: tirx.Expr) -> tirx.Expr:
        kind = dtype_of_expr(x)
        return x * const_expr(-1.0, kind) if is_float(kind) else const_expr(0, kind) - x

    return elementwise(context, negate, context.input(0))


@converter("Sign", since=9)
def sign(context: NodeContext) -> relax.Expr:
    """Sign-9, 13. Zeros and NaN stay."""
    from tvm import tirx

    def signum(x: tirx.Expr) -> tirx.Expr:
        kind = dtype_of_expr(x)
        zero, one = const_expr(0, kind), const_expr(1, kind)
        if is_unsigned(kind):
            return tirx.Select(x > zero, one, zero)
        return tirx.Select(x > zero, one, tirx.Select(x < zero, const_expr(-1, kind), x))

    return elementwise(context, signum, context.input(0))


@converter("Reciprocal", since=1)
def reciprocal(context: NodeContext) -> relax.Expr:
    """Reciprocal-1, 6, 13."""
    return elementwise(context, lambda x: const_expr(1, dtype_of_expr(x)) / x, context.input(0))


@converter("IsNaN", since=9)
def is_nan(context: NodeContext) -> relax.Expr:
    """IsNaN-9, 13, 20."""
    from tvm import tirx

    return elementwise(context, tirx.isnan, context.input(0), dtype="bool")


@converter("IsInf", since=10)
def is_inf(context: NodeContext) -> relax.Expr:
    """IsInf-10, 20 with `detect_negative` and `detect_positive`."""
    from tvm import tirx

    positive, negative = context.attribute("detect_positive", 1), context.attribute("detect_negative", 1)

    def detect(x: tirx.Expr) -> tirx.Expr:
        infinity = tirx.infinity(dtype_of_expr(x))
        if positive and negative:
            return tirx.EQ(tirx.abs(x), infinity)
        if positive:
            return tirx.EQ(x, infinity)
        return tirx.EQ(x, -infinity) if negative else const_expr(0, "bool")

    return elementwise(context, detect, context.input(0), dtype="bool")


@converter("Not", since=1)
def logical_not(context: NodeContext) -> relax.Expr:
    from tvm import tirx

    return elementwise(context, tirx.Not, context.input(0))


@converter("BitwiseNot", since=18)
def bitwise_not(context: NodeContext) -> relax.Expr:
    from tvm import tirx

    return elementwise(context, tirx.bitwise_not, context.input(0))


# binary ---------------------------------------------------------------------------------------------------------------


def _operands(context: NodeContext) -> tuple[relax.Expr, relax.Expr]:
    """Both inputs; before opset 7 `axis` says where the second one's shape starts in the first one's."""
    from tvm import relax

    a, b = context.input(0), context.input(1)
    if context.opset < 7 and context.attribute("broadcast", 0) and "axis" in context.attributes:
        rank, own = len(shape_of(a)), shape_of(b)
        axis = context.attribute("axis")
        after = rank - (axis % rank if axis < 0 else axis) - len(own)
        if after > 0:
            b = context.emit(relax.op.reshape(b, [*own, *[1] * after]))
    return a, b


def _binary(function: Callable[[Any, Any], Any], dtype: str | None = None) -> Callable[[NodeContext], relax.Expr]:
    """A converter for two operands of one type, narrow floats computed in float32."""

    def convert(context: NodeContext) -> relax.Expr:
        return elementwise(context, function, *_operands(context), dtype=dtype)

    return convert


converter("Add", since=1)(_binary(operator.add))
converter("Sub", since=1)(_binary(operator.sub))
converter("Mul", since=1)(_binary(operator.mul))


def _comparison(function: Callable[[Any, Any], Any]) -> Callable[[NodeContext], relax.Expr]:
    def convert(context: NodeContext) -> relax.Expr:
        compute = "uint8" if context.dtype(0) == "bool" else None
        return elementwise(context, function, *_operands(context), dtype="bool", compute=compute)

    return convert


def _tir_equal(a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
    from tvm import tirx

    return tirx.EQ(a, b)


converter("Equal", since=1)(_comparison(_tir_equal))
converter("Less", since=1)(_comparison(operator.lt))
converter("LessOrEqual", since=12)(_comparison(operator.le))
converter("Greater", since=1)(_comparison(operator.gt))
converter("GreaterOrEqual", since=12)(_comparison(operator.ge))


@converter("And", "Or", "Xor", since=1)
def logical(context: NodeContext) -> relax.Expr:
    """And, Or, Xor-1 and 7."""
    from tvm import tirx

    functions: dict[str, Callable[[Any, Any], Any]] = {"And": tirx.bitwise_and, "Or": tirx.bitwise_or, "Xor": tirx.NE}
    function = functions[context.node.op_type]
    return elementwise(context, function, *_operands(context), dtype="bool", compute="uint8")


@converter("BitwiseAnd", "BitwiseOr", "BitwiseXor", since=18)
def bitwise(context: NodeContext) -> relax.Expr:
    from tvm import tirx

    functions = {"BitwiseAnd": tirx.bitwise_and, "BitwiseOr": tirx.bitwise_or, "BitwiseXor": tirx.bitwise_xor}
    return elementwise(context, functions[context.node.op_type], context.input(0), context.input(1))


@converter("BitShift", since=11)
def bit_shift(context: NodeContext) -> relax.Expr:
    """BitShift-11, 28: amounts that are negative or not below the width leave nothing but copies of the sign bit."""
    from tvm import tirx

    left = context.attribute("direction") == "LEFT"

    def shift(x: tirx.Expr, amount: tirx.Expr) -> tirx.Expr:
        kind = dtype_of_expr(x)
        bits = bits_of(kind)
        zero = const_expr(0, kind)
        inside = tirx.EQ(
            tirx.bitwise_and(amount, const_expr(-bits % 2**bits if is_unsigned(kind) else -bits, kind)), zero
        )
        safe = tirx.bitwise_and(amount, const_expr(bits - 1, kind))
        if left:
            # shifted without a sign: what leaves the signed range would be undefined in C++
            plain = kind if is_unsigned(kind) else f"u{kind}"
            shifted = tirx.Cast(kind, tirx.shift_left(tirx.Cast(plain, x), tirx.Cast(plain, safe)))
            return tirx.Select(inside, shifted, zero)
        if is_unsigned(kind):
            return tirx.Select(inside, tirx.shift_right(x, safe), zero)
        return tirx.shift_right(x, tirx.Select(inside, amount, const_expr(bits - 1, kind)))

    return elementwise(context, shift, context.input(0), context.input(1))


def divide_expr(a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
    """The quotient; of integers truncated. An integer divided by zero gives 0 (ONNX leaves it open) and never traps."""
    from tvm import tirx

    kind = dtype_of_expr(a)
    if is_float(kind):
        return a / b
    zero, one = const_expr(0, kind), const_expr(1, kind)
    if is_unsigned(kind):
        return tirx.Select(tirx.EQ(b, zero), zero, tirx.truncdiv(a, tirx.Select(tirx.EQ(b, zero), one, b)))
    minus = const_expr(-1, kind)
    safe = tirx.Select(
        tirx.any(tirx.EQ(b, zero), tirx.EQ(b, minus)), one, b
    )  # the smallest integer divided by -1 would trap too
    return tirx.Select(tirx.EQ(b, zero), zero, tirx.Select(tirx.EQ(b, minus), zero - a, tirx.truncdiv(a, safe)))


converter("Div", since=1)(_binary(divide_expr))


@converter("Mod", since=10)
def mod(context: NodeContext) -> relax.Expr:
    """Mod-10, 13: the sign of the divisor, or with `fmod` that of the dividend. Integers modulo zero give 0."""
    from tvm import tirx

    truncated = bool(context.attribute("fmod", 0))

    def floats(a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
        kind = dtype_of_expr(a)
        zero = const_expr(0, kind)
        rest = tirx.truncmod(a, b)
        if truncated:
            return rest
        signed_zero = tirx.Select(b < zero, const_expr(-0.0, kind), zero)
        moved = tirx.Select(tirx.Select(rest < zero, b > zero, b < zero), rest + b, rest)
        return tirx.Select(tirx.EQ(rest, zero), signed_zero, moved)

    def integers(a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
        kind = dtype_of_expr(a)
        zero, one = const_expr(0, kind), const_expr(1, kind)
        # anything modulo -1 is 0, as it is modulo 1; the smallest integer would trap
        trivial = b == zero if is_unsigned(kind) else tirx.any(tirx.EQ(b, zero), b == const_expr(-1, kind))
        rest = tirx.truncmod(a, tirx.Select(trivial, one, b))
        if truncated or is_unsigned(kind):
            return rest
        opposite = tirx.all(tirx.NE(rest, zero), tirx.Select(rest < zero, b > zero, b < zero))
        return tirx.Select(tirx.Select(trivial, const_expr(0, "bool"), opposite), rest + b, rest)

    function = floats if is_float(wide(context.dtype(0))) else integers
    return elementwise(context, function, context.input(0), context.input(1))


@converter("Pow", since=1)
def power(context: NodeContext) -> relax.Expr:
    """Pow-1, 7, 12 (types may differ, the result has the base's), 13, 15. Integer powers of integers wrap."""
    from tvm import tirx

    base, exponent = _operands(context)
    kind, other = wide(dtype_of(base)), wide(dtype_of(exponent))
    if not is_float(kind) and not is_float(other):
        return _integer_power(context, base, exponent)
    compute = kind if is_float(kind) and other != "float64" else "float64"
    if context.is_constant(1) and context.constant(1).size == 1 and is_float(kind):
        fixed = float(context.constant(1).reshape(-1)[0])
        products: dict[float, Callable[[Any], Any]] = {1.0: lambda x: x, 2.0: lambda x: x * x, 3.0: lambda x: x * x * x}
        if fixed in products:
            return elementwise(context, lambda x, _: products[fixed](x), base, exponent)
    return elementwise(context, tirx.pow, base, exponent, compute=compute)


def _integer_power(context: NodeContext, base: relax.Expr, exponent: relax.Expr) -> relax.Expr:
    """Exponentiation by squaring modulo the width of the base; a negative exponent gives the truncated quotient."""
    from tvm import tirx

    from plugin_autogen.lowering import te_loops

    kind, other = dtype_of(base), dtype_of(exponent)
    shape = broadcast_shape([shape_of(base), shape_of(exponent)])
    index = te_loops.index_type(shape)
    plain = "uint64" if bits_of(kind) == 64 else "uint32"
    steps = bits_of(other) - (0 if is_unsigned(other) else 1)

    def inverse(x: tirx.Expr, times: tirx.Expr) -> tirx.Expr:
        unit = const_expr(1, kind)
        result = tirx.Select(tirx.EQ(x, unit), unit, const_expr(0, kind))
        if is_unsigned(kind):
            return result
        odd = tirx.NE(tirx.bitwise_and(times, const_expr(1, other)), const_expr(0, other))
        minus = const_expr(-1, kind)
        return tirx.Select(tirx.EQ(x, minus), tirx.Select(odd, minus, unit), result)

    def body(bases: Any, exponents: Any, out: Any) -> None:
        def element(buffer: Any, own: Sequence[Any], position: Sequence[Any]) -> Any:
            skip = len(position) - len(own)
            return buffer[tuple(map(broadcast_index, position[skip:], own, shape[skip:])) or 0]

        with te_loops.grid(te_loops.product(shape), dtype=index) as (flat,):
            position = te_loops.unravel(flat, shape)
            x = te_loops.bind(element(bases, shape_of(base), position))
            times = te_loops.bind(element(exponents, shape_of(exponent), position))
            product, square = te_loops.local(plain), te_loops.local(plain)
            product[0], square[0] = const_expr(1, plain), tirx.Cast(plain, x)
            with te_loops.serial(steps) as bit:
                shifted = tirx.shift_right(times, tirx.Cast(other, bit))
                odd = tirx.NE(tirx.bitwise_and(shifted, const_expr(1, other)), const_expr(0, other))
                product[0] = product[0] * tirx.Select(odd, square[0], const_expr(1, plain))
                square[0] = square[0] * square[0]
            result = tirx.Cast(kind, product[0])
            if not is_unsigned(other):
                result = tirx.Select(times < const_expr(0, other), inverse(x, times), result)
            out[tuple(position) or 0] = result

    return te_loops.kernel(context, body, [base, exponent], [(shape, kind)])[0]


# variadic -------------------------------------------------------------------------------------------------------------


def maximum_expr(a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
    """The larger one; NaN where either is."""
    from tvm import tirx

    return tirx.Select(tirx.any(a > b, tirx.isnan(a)) if is_float(dtype_of_expr(a)) else a > b, a, b)


def minimum_expr(a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
    """The smaller one; NaN where either is."""
    from tvm import tirx

    return tirx.Select(tirx.any(a < b, tirx.isnan(a)) if is_float(dtype_of_expr(a)) else a < b, a, b)


def _variadic(function: Callable[[Any, Any], Any]) -> Callable[[NodeContext], relax.Expr]:
    def convert(context: NodeContext) -> relax.Expr:
        inputs = [context.input(i) for i in range(len(context.inputs))]
        return elementwise(context, lambda *values: functools.reduce(function, values), *inputs)

    return convert


converter("Max", since=1)(_variadic(maximum_expr))
converter("Min", since=1)(_variadic(minimum_expr))
converter("Sum", since=1)(_variadic(operator.add))


@converter("Mean", since=1)
def mean(context: NodeContext) -> relax.Expr:
    """Mean-1, 6, 8, 13."""

    def average(*values: tirx.Expr) -> tirx.Expr:
        total = functools.reduce(operator.add, values)
        return total / const_expr(len(values), dtype_of_expr(total))

    return elementwise(context, average, *[context.input(i) for i in range(len(context.inputs))])


# ternary --------------------------------------------------------------------------------------------------------------


@converter("Where", since=9)
def where(context: NodeContext) -> relax.Expr:
    """Where-9, 16: any type, the bits of the chosen element unchanged."""
    from tvm import tirx

    return elementwise(context, tirx.Select, *(context.input(i) for i in range(3)), dtype=context.dtype(1), widen=False)


@converter("Clip", since=1)
def clip_attributes(context: NodeContext) -> relax.Expr:
    """Clip-1, 6: the bounds are attributes; from opset 6 on float32's largest values by default."""
    largest = None if context.opset < 6 else float.fromhex("0x1.fffffep+127")
    lowest = None if largest is None else -largest

    def clip(x: tirx.Expr) -> tirx.Expr:
        low, high = context.attribute("min", lowest), context.attribute("max", largest)
        return _clip_expr(
            x,
            None if low is None else const_expr(low, dtype_of_expr(x)),
            None if high is None else const_expr(high, dtype_of_expr(x)),
        )

    return elementwise(context, clip, context.input(0))


@converter("Clip", since=11)
def clip_inputs(context: NodeContext) -> relax.Expr:
    """Clip-11, 12, 13: the bounds are optional scalar inputs, known or not. Above both, the upper one holds."""
    from tvm import relax

    has_low, has_high = context.has_input(1), context.has_input(2)
    # ONNX asks for scalars; tensors of shape [1] occur in models and must not raise the rank
    bounds = [
        bound if len(shape_of(bound)) == 0 else context.emit(relax.op.reshape(bound, []))
        for bound in (context.input(i) for i, given in ((1, has_low), (2, has_high)) if given)
    ]

    def clip(x: tirx.Expr, *given: tirx.Expr) -> tirx.Expr:
        return _clip_expr(x, given[0] if has_low else None, given[-1] if has_high else None)

    return elementwise(context, clip, context.input(0), *bounds)


def _clip_expr(x: tirx.Expr, low: tirx.Expr | None, high: tirx.Expr | None) -> tirx.Expr:
    """`x` between the bounds; NaN stays NaN."""
    from tvm import tirx

    if low is not None:
        x = tirx.Select(x < low, low, x)
    return x if high is None else tirx.Select(x > high, high, x)


@converter("PRelu", since=1)
def prelu(context: NodeContext) -> relax.Expr:
    """PRelu-1, 6 (one slope a channel, axis 1), 7, 9, 16 (numpy's broadcasting)."""
    from tvm import relax, tirx

    x, slope = context.input(0), context.input(1)
    if context.opset < 7 and len(shape_of(slope)) == 1:
        after = max(len(shape_of(x)) - 2, 0)
        slope = context.emit(relax.op.reshape(slope, [*shape_of(slope), *[1] * after]))
    return elementwise(context, lambda v, s: tirx.Select(v < const_expr(0, dtype_of_expr(v)), v * s, v), x, slope)
