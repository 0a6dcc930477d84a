"""QuantizeLinear and its kin: ONNX's quantized operators and those of com.microsoft.

Integers are accumulated in int32, scales applied in float32. Rounding is half to even, integers saturate.
"""

from __future__ import annotations

from typing import Any

from plugin_autogen import dtypes
from plugin_autogen.lowering.operators.convolution import convolve, padded_sample
from plugin_autogen.lowering.registry import NodeContext, converter, dtype_of, shape_of
from plugin_autogen.lowering.spatial import sliding_window
from plugin_autogen.lowering.te_helpers import at, broadcast_shape, cast_expr
from plugin_autogen.lowering.te_operands import broadcast_element, element, emit, is_one, operand, rounded_to

MICROSOFT = "com.microsoft"
THREADS = 256
"""Threads of a block that looks for a range."""
RANGE_PART = 8192
"""Elements from which on another block helps to find the range."""
RANGE_BLOCKS = 512


def quantize(value: Any, scale: Any, zero_point: Any, dtype: str) -> Any:
    """saturate(round(value / scale) + zero_point), of the integer type `dtype` from a float32 value and scale."""
    from tvm import tirx

    return to_integer(tirx.nearbyint(value / scale), zero_point, dtype)


def to_integer(rounded: Any, zero_point: Any, dtype: str) -> Any:
    """A rounded float32 plus the zero point, saturated to an integer type of at most 16 bits."""
    from tvm import tirx

    low, high = integer_range(dtype)
    if zero_point is not None:
        rounded = rounded + zero_point.astype("float32")
    clipped = tirx.max(tirx.min(rounded, tirx.const(high, "float32")), tirx.const(low, "float32"))
    return clipped.astype("int32").astype(dtypes.from_name(dtype).held_as)


def integer_range(dtype: str) -> tuple[int, int]:
    """Smallest and largest value of `int8`, `uint4` …"""
    bits = dtypes.from_name(dtype).bits
    return (0, 2**bits - 1) if dtype.startswith("uint") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


# DynamicQuantizeLinear -----------------------------------------------------------------------------------------------


@converter("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(context: NodeContext) -> list[Any]:
    """uint8 values, scale and zero point from the range of the float32 input, which always includes 0."""
    x = context.input(0)
    scale, zero_point = dynamic_parameters(context, x)
    return [apply_quantization(context, x, scale, zero_point), scale, zero_point]


def dynamic_parameters(context: NodeContext, x: Any) -> tuple[Any, Any]:
    """Scale (float32 scalar) and zero point (uint8 scalar) of a float32 tensor.

    One kernel of one block for a small tensor; else a first one in which each block finds the range of its part.
    """
    from tvm import relax, tirx

    from plugin_autogen.lowering import te_loops as loops

    count = loops.product(shape_of(x))
    index = loops.index_type(shape_of(x))
    flat = x if len(shape_of(x)) == 1 else context.emit(relax.op.reshape(x, [count]))
    parts = min(RANGE_BLOCKS, -(-count // RANGE_PART)) if isinstance(count, int) else RANGE_BLOCKS
    zero = tirx.const(0.0, "float32")

    def find(load: Any, first: Any, end: Any, steps: Any, done: Any) -> None:
        """Inside a block: the range of `load(i)` for i in [first, end), handed to `done` by one thread."""
        low, high = loops.shared([THREADS], "float32"), loops.shared([THREADS], "float32")
        with loops.thread(THREADS, dtype=index) as (t,):
            smallest, largest = loops.local("float32"), loops.local("float32")
            smallest[0] = zero
            largest[0] = zero
            with loops.serial(steps, index) as step:
                i = first + step * THREADS + t
                with loops.when(i < end):
                    a, b = load(i)
                    smallest[0] = tirx.min(smallest[0], a)
                    largest[0] = tirx.max(largest[0], b)
            low[t] = smallest[0]
            high[t] = largest[0]
        half = THREADS // 2
        while half:
            with loops.thread(half, dtype=index) as (t,):
                low[t] = tirx.min(low[t], low[t + half])
                high[t] = tirx.max(high[t], high[t + half])
            half //= 2
        done(low[0], high[0])

    def steps(length: Any) -> Any:
        return (length + THREADS - 1) // THREADS if isinstance(length, int) else tirx.ceildiv(length, THREADS)

    def partial(data: Any, low: Any, high: Any) -> None:
        length = -(-count // parts) if isinstance(count, int) else tirx.ceildiv(count, parts)
        with loops.block(parts, dtype=index, threads=THREADS) as (p,):

            def done(smallest: Any, largest: Any) -> None:
                low[p] = smallest
                high[p] = largest

            end = tirx.min((p + 1) * length, count)
            find(lambda i: (data[i], data[i]), p * length, end, steps(length), done)

    def whole(lows: Any, highs: Any, scale: Any, zero_point: Any, length: Any) -> None:
        with loops.block(1, dtype=index, threads=THREADS):

            def done(smallest: Any, largest: Any) -> None:
                spread = largest - smallest
                # of an all-zero tensor ONNX leaves the scale open; ONNX Runtime has 1
                one = tirx.const(1.0, "float32")
                step = tirx.Select(spread == 0.0, one, spread / tirx.const(255.0, "float32"))
                scale[()] = step
                start = tirx.nearbyint(tirx.max(tirx.min((0.0 - smallest) / step, tirx.const(255.0, "float32")), zero))
                zero_point[()] = to_integer(start, None, "uint8")

            find(lambda i: (lows[i], highs[i]), tirx.const(0, index), length, steps(length), done)

    results = [((), "float32"), ((), "uint8")]
    if parts <= 1:
        small = loops.kernel(context, lambda d, s, z: whole(d, d, s, z, count), [flat], results, "range_parameters")
        return small[0], small[1]
    ranges = loops.kernel(context, partial, [flat], [((parts,), "float32")] * 2, "range")
    found = loops.kernel(context, lambda a, b, s, z: whole(a, b, s, z, parts), ranges, results, "range_parameters")
    return found[0], found[1]


def apply_quantization(context: NodeContext, x: Any, scale: Any, zero_point: Any) -> Any:
    """uint8 values of a float32 tensor by a scalar scale and zero point."""
    from tvm import te

    return context.te(
        lambda x, s, z: te.compute(x.shape, lambda *i: quantize(x(*i), s(), z(), "uint8"), name="quantized"),
        x,
        scale,
        zero_point,
        name="quantize",
    )


# QuantizeLinear, DequantizeLinear ------------------------------------------------------------------------------------


class _Granularity:
    """Which element of a scale or zero point serves an element of the data.

    One for all, one an index of `axis`, or one a block of `block_size` along `axis`.
    """

    def __init__(self, context: NodeContext, shape: tuple[Any, ...], parameter: tuple[Any, ...]) -> None:
        self._rank = len(parameter)
        if self._rank == 0 or all(is_one(d) for d in parameter):
            self._rank = 0
            return
        axis = int(context.attribute("axis", 1))
        self._axis = axis + len(shape) if axis < 0 else axis
        self._block = int(context.attribute("block_size", 0))
        if not 0 <= self._axis < len(shape):
            context.unsupported(f"axis {axis} is not one of a tensor of rank {len(shape)}")
        if self._rank == 1 and (len(shape) != 1 or not self._block):
            self._block = 0
            return
        if self._rank != len(shape):
            context.unsupported(f"a scale of shape {list(parameter)} fits neither an axis nor blocks of the data")
        if not self._block:
            own, whole = parameter[self._axis], shape[self._axis]
            if not (isinstance(own, int) and isinstance(whole, int) and own and whole % own == 0):
                context.unsupported("block_size is missing")
            self._block = whole // own

    def at(self, value: Any, indices: tuple[Any, ...]) -> Any:
        from tvm import te, tirx

        if value is None or not isinstance(value, te.Tensor) or self._rank == 0:
            return element(value)
        if not self._block:
            return value(indices[self._axis])
        own = list(indices)
        own[self._axis] = tirx.floordiv(own[self._axis], self._block)
        return value(*own)


def _float_type(number: int) -> str:
    return dtypes.from_onnx(number).name


@converter("QuantizeLinear", since=10)
def quantize_linear(context: NodeContext) -> Any:
    """Per tensor, per axis and blocked; to integers of 4 to 16 bits and 8-bit floats."""
    from tvm import te, tirx

    x = context.input(0)
    out = context.output(0).dtype.name
    granularity = _Granularity(context, shape_of(x), context.shape(1))
    precision = context.attribute("precision", 0)
    divide_as = _float_type(precision) if precision else dtype_of(context.input(1))
    saturate = bool(context.attribute("saturate", 1))

    def compute(x: te.Tensor, scale: Any, zero_point: Any) -> te.Tensor:
        def one(*i: Any) -> Any:
            ratio = x(*i).astype("float32") / granularity.at(scale, i).astype("float32")
            ratio = rounded_to(ratio, divide_as)
            if out.startswith("float8"):
                return cast_expr(ratio, out, saturate)
            zero = None if zero_point is None else granularity.at(zero_point, i)
            return to_integer(tirx.nearbyint(ratio), zero, out)

        return te.compute(x.shape, one, name="quantized")

    return emit(context, compute, {"x": x, "scale": operand(context, 1), "zero_point": operand(context, 2)})


@converter("DequantizeLinear", since=10)
def dequantize_linear(context: NodeContext) -> Any:
    """(x - zero_point) * scale in float32, then the type of the scale (or `output_dtype`)."""
    from tvm import te

    x = context.input(0)
    out = context.output(0).dtype.name
    granularity = _Granularity(context, shape_of(x), context.shape(1))
    is_integer = dtypes.from_name(dtype_of(x)).is_integer

    def compute(x: te.Tensor, scale: Any, zero_point: Any) -> te.Tensor:
        def one(*i: Any) -> Any:
            value = x(*i)
            if not is_integer:
                value = cast_expr(value, "float32")
            elif zero_point is not None:
                value = (value.astype("int32") - granularity.at(zero_point, i).astype("int32")).astype("float32")
            else:
                value = value.astype("int32").astype("float32")
            return (value * granularity.at(scale, i).astype("float32")).astype(out)

        return te.compute(x.shape, one, name="dequantized")

    zero_point = operand(context, 2) if is_integer else None
    return emit(context, compute, {"x": x, "scale": operand(context, 1), "zero_point": zero_point})


# matrix products -----------------------------------------------------------------------------------------------------


class MatrixProduct:
    """numpy.matmul of two integer matrices (or stacks of them), zero points subtracted, as tensor expressions.

    Zero points: a scalar or one element for all; of A one a row, of B one a column; or of the operand's rank with the
    reduced axis of size 1.

    Attributes:
        shape: of the result.
    """

    def __init__(self, a: tuple[Any, ...], b: tuple[Any, ...]) -> None:
        self._a, self._b = a, b
        self._has_row, self._has_column = len(a) > 1, len(b) > 1
        self._batch = broadcast_shape([a[:-2], b[:-2]])
        self.shape = (*self._batch, *((a[-2],) if self._has_row else ()), *((b[-1],) if self._has_column else ()))

    def place(self, indices: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any, Any]:
        """Batch, row and column of an element of the result; 0 for what a 1-D operand lacks."""
        batch, rest = indices[: len(self._batch)], list(indices[len(self._batch) :])
        return batch, rest.pop(0) if self._has_row else 0, rest.pop(0) if self._has_column else 0

    def stages(self, a: Any, b: Any, a_zero: Any, b_zero: Any) -> Any:
        """The int32 product as a TE tensor."""
        from tvm import te

        lhs = te.compute(self._a, lambda *i: self._centred(a, i, a_zero, i[-2] if self._has_row else 0), name="lhs")
        rhs = te.compute(self._b, lambda *i: self._centred(b, i, b_zero, i[-1] if self._has_column else 0), name="rhs")
        k = te.reduce_axis((0, self._a[-1]), "k")

        def one(*i: Any) -> Any:
            batch, row, column = self.place(i)
            left = at(lhs, (*batch, row, k), (*self._batch, *self._a[-2:])) if self._has_row else lhs(k)
            right = at(rhs, (*batch, k, column), (*self._batch, *self._b[-2:])) if self._has_column else rhs(k)
            return te.sum(left * right, axis=k)

        return te.compute(self.shape, one, name="product")

    @staticmethod
    def _centred(value: Any, indices: Any, zero_point: Any, line: Any) -> Any:
        from tvm import te

        result = value(*indices).astype("int32")
        if zero_point is None:
            return result
        if isinstance(zero_point, te.Tensor) and len(zero_point.shape) == 1:
            return result - element(zero_point, line).astype("int32")
        return result - broadcast_element(zero_point, *indices).astype("int32")


@converter("MatMulInteger", since=10)
def matmul_integer(context: NodeContext) -> Any:
    """int32 product of 8-bit matrices with zero points known or at run time."""
    product = MatrixProduct(context.shape(0), context.shape(1))
    operands = {
        "a": context.input(0),
        "b": context.input(1),
        "a_zero": operand(context, 2),
        "b_zero": operand(context, 3),
    }
    return emit(context, product.stages, operands)


@converter("QLinearMatMul", since=10)
def qlinear_matmul(context: NodeContext) -> Any:
    """Scales and zero points of A per row, of B per column, of the result per tensor (or broadcast to it)."""
    from tvm import te, tirx

    product = MatrixProduct(context.shape(0), context.shape(3))
    out = context.output(0).dtype.name

    def compute(a: Any, b: Any, a_zero: Any, b_zero: Any, a_scale: Any, b_scale: Any, y_scale: Any, y_zero: Any) -> Any:
        sums = product.stages(a, b, a_zero, b_zero)

        def one(*i: Any) -> Any:
            _, row, column = product.place(i)

            def real(value: Any, line: Any) -> Any:
                return _vector_or_full(value, i, line).astype("float32")

            scale = real(a_scale, row) * real(b_scale, column) / real(y_scale, row)
            rounded = tirx.nearbyint(sums(*i).astype("float32") * scale)
            return to_integer(rounded, _vector_or_full(y_zero, i, row), out)

        return te.compute(sums.shape, one, name="requantized")

    names = ("a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "y_scale", "y_zero")
    operands = {name: operand(context, i) for i, name in enumerate(names)}
    operands["a"], operands["b"] = context.input(0), context.input(3)
    return emit(context, compute, operands)


def _vector_or_full(value: Any, indices: tuple[Any, ...], line: Any) -> Any:
    """The element of a quantization parameter: of a vector that of this row or column, else broadcast to the result."""
    from tvm import te

    if isinstance(value, te.Tensor) and len(value.shape) == 1:
        return element(value, line)
    return broadcast_element(value, *indices)


# convolutions --------------------------------------------------------------------------------------------------------


@converter("ConvInteger", since=10)
def conv_integer(context: NodeContext) -> Any:
    """int32 convolution of 8-bit tensors; padding stands for the zero point."""
    return _integer_convolution(context, 0, 1, 2, 3, None)


@converter("QLinearConv", since=10)
def qlinear_conv(context: NodeContext) -> Any:
    """Convolution with int32 bias, rescaled per tensor or per output channel."""
    from tvm import tirx

    out = context.output(0).dtype.name

    def finish(
        total: Any, channel: Any, x_scale: Any, w_scale: Any, y_scale: Any, y_zero: Any, bias: Any = None
    ) -> Any:
        if bias is not None:
            total = total + element(bias, channel)
        scale = element(x_scale) * element(w_scale, channel) / element(y_scale)
        return to_integer(tirx.nearbyint(total.astype("float32") * scale), element(y_zero), out)

    extra = {"x_scale": 1, "w_scale": 4, "y_scale": 6, "y_zero": 7, "bias": 8}
    return _integer_convolution(context, 0, 3, 2, 5, finish, {k: operand(context, i) for k, i in extra.items()})


def _integer_convolution(
    context: NodeContext, x: int, w: int, x_zero: int, w_zero: int, finish: Any, extra: dict[str, Any] | None = None
) -> Any:
    """`finish(total, output channel, **extra)` gives the output from the int32 sum."""
    from tvm import te

    data, weight = context.input(x), context.input(w)
    window = sliding_window(context, shape_of(data)[2:], context.attribute("kernel_shape") or shape_of(weight)[2:])

    def compute(data: te.Tensor, weight: te.Tensor, x_zero: Any, w_zero: Any, **extra: Any) -> te.Tensor:
        def load(*i: Any) -> Any:
            value = data(*i).astype("int32")
            return value if x_zero is None else value - element(x_zero).astype("int32")

        def load_weight(m: Any, *i: Any) -> Any:
            value = weight(m, *i).astype("int32")
            return value if w_zero is None else value - element(w_zero, m).astype("int32")

        shape = shape_of(context.input(x))
        return convolve(
            shape[0],
            window.outputs,
            shape_of(context.input(w)),
            int(context.attribute("group", 1)),
            padded_sample(window, shape[2:], load, "int32"),
            load_weight,
            None if finish is None else lambda total, channel: finish(total, channel, **extra),
        )

    operands = {
        "data": data,
        "weight": weight,
        "x_zero": operand(context, x_zero),
        "w_zero": operand(context, w_zero),
        **(extra or {}),
    }
    return emit(context, compute, operands)


# com.microsoft -------------------------------------------------------------------------------------------------------


@converter("QLinearAdd", "QLinearMul", domain=MICROSOFT)
def qlinear_binary(context: NodeContext) -> Any:
    """Inputs A, A_scale, A_zero_point, B, B_scale, B_zero_point, C_scale, C_zero_point; numpy's broadcasting."""
    from tvm import te

    out = dtype_of(context.input(0))
    shape = broadcast_shape([context.shape(0), context.shape(3)])
    is_add = context.node.op_type == "QLinearAdd"

    def compute(a: Any, b: Any, a_scale: Any, b_scale: Any, c_scale: Any, a_zero: Any, b_zero: Any, c_zero: Any) -> Any:
        def real(value: Any, scale: Any, zero: Any) -> Any:
            value = value.astype("int32")
            value = value if zero is None else value - element(zero).astype("int32")
            return value.astype("float32") * element(scale)

        def one(*i: Any) -> Any:
            left = real(broadcast_element(a, *i, shape=shape), a_scale, a_zero)
            right = real(broadcast_element(b, *i, shape=shape), b_scale, b_zero)
            zero = None if c_zero is None else element(c_zero)
            return quantize(left + right if is_add else left * right, element(c_scale), zero, out)

        return te.compute(shape, one, name="requantized")

    names = ("a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "c_scale", "c_zero")
    operands = {name: operand(context, i) for i, name in enumerate(names)}
    operands["a"], operands["b"] = context.input(0), context.input(3)
    return emit(context, compute, operands)


@converter("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(context: NodeContext) -> Any:
    """Inputs A, B, a_scale, b_scale, a_zero_point, b_zero_point, bias."""
    return _product_to_float(
        context,
        context.input(0),
        context.input(1),
        {name: operand(context, i) for i, name in enumerate(("a_scale", "b_scale", "a_zero", "b_zero", "bias"), 2)},
    )


@converter("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_quantize_matmul(context: NodeContext) -> Any:
    """Inputs A (float32, quantized to uint8 at run time), B (8 bits), b_scale, b_zero_point, bias."""
    a = context.input(0)
    scale, zero_point = dynamic_parameters(context, a)
    parameters = {
        "a_scale": scale,
        "a_zero": zero_point,
        "b_scale": operand(context, 2),
        "b_zero": operand(context, 3),
        "bias": operand(context, 4),
    }
    return _product_to_float(context, apply_quantization(context, a, scale, zero_point), context.input(1), parameters)


def _product_to_float(context: NodeContext, a: Any, b: Any, parameters: dict[str, Any]) -> Any:
    from tvm import te

    product = MatrixProduct(shape_of(a), shape_of(b))

    def compute(a: Any, b: Any, a_scale: Any, b_scale: Any, a_zero: Any, b_zero: Any, bias: Any) -> te.Tensor:
        sums = product.stages(a, b, a_zero, b_zero)

        def one(*i: Any) -> Any:
            _, row, column = product.place(i)
            scale = _vector_or_full(a_scale, i, row) * _vector_or_full(b_scale, i, column)
            value = sums(*i).astype("float32") * scale
            return value if bias is None else value + element(bias, column)

        return te.compute(sums.shape, one, name="scaled")

    return emit(context, compute, {"a": a, "b": b, **parameters})
