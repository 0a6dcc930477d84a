"""Tensor expressions shared by the operator families: element-wise maps over broadcast shapes, conversions, reductions.

Functions named `…_expr` work on scalar TIR expressions inside a compute; the others emit whole computations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from plugin_autogen.errors import UnsupportedError
from plugin_autogen.lowering.registry import Dimension, NodeContext, constant_value, dtype_of, shape_of

if TYPE_CHECKING:
    from tvm import relax, te, tirx

_FLOAT8 = {
    # name: (mantissa bits, exponent bias, code of the largest finite value, code of infinity or None)
    "float8_e4m3fn": (3, 7, 0x7E, None),
    "float8_e5m2": (2, 15, 0x7B, 0x7C),
}
_NARROW_FLOATS = {"float16", "bfloat16", *_FLOAT8}


def is_float(dtype: str) -> bool:
    return dtype.startswith(("float", "bfloat"))


def is_unsigned(dtype: str) -> bool:
    return dtype.startswith("uint") or dtype == "bool"


def bits_of(dtype: str) -> int:
    """Bits of a TVM element type: 16 for `bfloat16`, 8 for `float8_e5m2` and `bool`."""
    if dtype == "bool":
        return 8
    digits = dtype.split("_")[0].lstrip("abcdefghijklmnopqrstuvwxyz")
    return int(digits)


def wide(dtype: str) -> str:
    """The type to compute in: float32 for the narrower floats (one rounding, at the end), else the type itself."""
    return "float32" if dtype in _NARROW_FLOATS else dtype


def dtype_of_expr(value: tirx.Expr) -> str:
    """TVM's name of a scalar expression's type."""
    return str(value.ty.dtype)


def const_expr(value: float | bool, dtype: str) -> tirx.Expr:
    """A literal of this type; narrow floats are not literals on every target and come as float32 that is cast."""
    from tvm import tirx

    if dtype in _NARROW_FLOATS:
        return cast_expr(tirx.const(float(value), "float32"), dtype)
    return tirx.const(float(value) if is_float(dtype) else int(value), dtype)


def c_math_expr(name: str, value: tirx.Expr) -> tirx.Expr:
    """A function of C's math library, on either target: `tanh`, `atanh`, `expm1`.

    TVM's own under LLVM compute these from exponentials and logarithms and lose every digit of small values.
    """
    from tvm import tirx

    kind = dtype_of_expr(value)
    return tirx.call_pure_extern(kind, f"{name}f" if kind == "float32" else name, value)


# conversions ---------------------------------------------------------------------------------------------------------


def cast_expr(value: tirx.Expr, dtype: str, saturate: bool = True) -> tirx.Expr:
    """`value` as ONNX's Cast converts it.

    Floats to integers truncate (values that do not fit are undefined in ONNX; here they wrap as numpy does up to 16
    bits); integers wrap; anything but zero is true. To float8, round half to even.

    Args:
        value: a scalar expression.
        dtype: TVM's name of the wanted type.
        saturate: for float8: values beyond the largest finite one become that one, else NaN or infinity.
    """
    from tvm import tirx

    source = dtype_of_expr(value)
    if source == dtype:
        return value
    if source in _FLOAT8:
        return cast_expr(_from_float8(value, source), dtype, saturate)
    if dtype in _FLOAT8:
        return _to_float8(cast_expr(value, "float32"), dtype, saturate)
    if dtype == "bool":
        value = cast_expr(value, wide(source))
        different = tirx.NE(value, const_expr(0, wide(source)))
        # under LLVM NE compares ordered: NaN would be false
        return tirx.any(different, tirx.isnan(value)) if is_float(source) else different
    if source in _NARROW_FLOATS and dtype != "float32":
        return cast_expr(tirx.Cast("float32", value), dtype)
    if dtype in _NARROW_FLOATS and not is_float(source) and source != "bool":
        return tirx.Cast(dtype, tirx.Cast("float32", value))
    if is_float(source) and not is_float(dtype) and bits_of(dtype) < 32:
        return tirx.Cast(dtype, tirx.Cast("int32", value))
    if source == "bool":
        return tirx.Select(value, const_expr(1, dtype), const_expr(0, dtype))
    return tirx.Cast(dtype, value)


def _to_float8(value: tirx.Expr, dtype: str, saturate: bool) -> tirx.Expr:
    """Encodes a float32 in integer arithmetic, the same on every target and for every GPU."""
    from tvm import tirx

    mantissa, bias, largest, infinity = _FLOAT8[dtype]
    drop = 23 - mantissa

    def i32(x: int) -> tirx.Expr:
        return tirx.const(x, "int32")

    bits = tirx.reinterpret("int32", value)
    magnitude = tirx.bitwise_and(bits, i32(0x7FFFFFFF))
    odd = tirx.bitwise_and(tirx.shift_right(magnitude, i32(drop)), i32(1))
    rounded = magnitude + i32((1 << (drop - 1)) - 1) + odd
    normal = tirx.shift_right(rounded, i32(drop)) - i32((127 - bias) << mantissa)
    # below the smallest normal number codes count multiples of the smallest subnormal one
    steps = tirx.reinterpret("float32", magnitude) * const_expr(2.0 ** (bias - 1 + mantissa), "float32")
    subnormal = tirx.Cast("int32", tirx.nearbyint(steps))
    is_subnormal = magnitude < i32((127 - bias + 1) << 23)
    code = tirx.Select(is_subnormal, tirx.Select(is_subnormal, subnormal, i32(0)), normal)
    overflow = i32(largest if saturate else (0x7F if infinity is None else infinity))
    code = tirx.Select(tirx.all(tirx.Not(is_subnormal), normal > i32(largest)), overflow, code)
    code = tirx.Select(magnitude > i32(0x7F800000), i32(0x7F), code)
    sign = tirx.bitwise_and(tirx.shift_right(bits, i32(24)), i32(0x80))
    return tirx.reinterpret(dtype, tirx.Cast("uint8", tirx.bitwise_or(code, sign)))


def _from_float8(value: tirx.Expr, dtype: str) -> tirx.Expr:
    """Decodes to float32, exactly."""
    from tvm import tirx

    mantissa, bias, _, infinity = _FLOAT8[dtype]

    def i32(x: int) -> tirx.Expr:
        return tirx.const(x, "int32")

    bits = tirx.Cast("int32", tirx.reinterpret("uint8", value))
    magnitude = tirx.bitwise_and(bits, i32(0x7F))
    normal = tirx.shift_left(magnitude, i32(23 - mantissa)) + i32((127 - bias) << 23)
    step = const_expr(2.0 ** (1 - bias - mantissa), "float32")
    subnormal = tirx.reinterpret("int32", tirx.Cast("float32", magnitude) * step)
    decoded = tirx.Select(magnitude < i32(1 << mantissa), subnormal, normal)
    if infinity is not None:
        decoded = tirx.Select(tirx.EQ(magnitude, i32(infinity)), i32(0x7F800000), decoded)
    decoded = tirx.Select(magnitude > i32(0x7E if infinity is None else infinity), i32(0x7FC00000), decoded)
    sign = tirx.Select(bits > i32(0x7F), i32(-0x80000000), i32(0))
    return tirx.reinterpret("float32", tirx.bitwise_or(decoded, sign))


def wrap_expr(value: tirx.Expr, bits: int, signed: bool) -> tirx.Expr:
    """The low `bits` of an 8-bit integer expression, sign-extended when signed: int4 and uint4 take a byte each."""
    from tvm import tirx

    low = tirx.bitwise_and(tirx.Cast("int32", value), tirx.const((1 << bits) - 1, "int32"))
    if signed:
        half = tirx.const(1 << (bits - 1), "int32")
        low = tirx.bitwise_xor(low, half) - half
    return tirx.Cast("int8" if signed else "uint8", low)


# element-wise computations -------------------------------------------------------------------------------------------


def broadcast_shape(shapes: Sequence[Sequence[Dimension]]) -> tuple[Dimension, ...]:
    """The shape that numpy's broadcasting gives.

    Of two symbolic dimensions either may turn out to be 1: the result is decided at run time. One that meets a known
    size other than 1 is that size or 1.

    Raises:
        UnsupportedError: two known sizes that do not go together.
    """
    rank = max((len(s) for s in shapes), default=0)
    result: list[Dimension] = [1] * rank
    for shape in shapes:
        for axis, size in enumerate(shape, rank - len(shape)):
            known = result[axis]
            if isinstance(size, int) and isinstance(known, int) and 1 not in (size, known) and size != known:
                raise UnsupportedError(f"shapes {[list(s) for s in shapes]} cannot be broadcast together")
            result[axis] = broadcast_size(known, size)
    return tuple(result)


def broadcast_size(a: Dimension, b: Dimension) -> Dimension:
    """The size of an axis where these two meet."""
    from tvm import tirx

    if is_one(a) or same_size(a, b):
        return b
    if is_one(b) or isinstance(a, int):
        return a
    return b if isinstance(b, int) else tirx.Select(tirx.EQ(a, tirx.const(1, "int64")), b, a)


UNKNOWN_SIZE = -1
"""For `broadcast_index` and `at`: a symbolic dimension may always be 1 where the result's is more."""


def broadcast_index(index: Any, size: Dimension, result: Dimension | None = None) -> Any:
    """Where an axis of `size` elements is read for this index into the axis of the result that it is broadcast to.

    `result` is the size of that; None where the axis is known to be as long as the result's, or to be 1. What is known
    only at run time stays inside the axis, even where the sizes do not go together.
    """
    from tvm import tirx

    if is_one(size):
        return 0
    if isinstance(size, int) or result is None or same_size(size, result):
        return index
    return tirx.min(index, size - 1)


def same_size(a: Dimension, b: Dimension) -> bool:
    """Whether two dimensions are known to be equal."""
    from tvm_ffi import structural_equal

    if isinstance(a, int) or isinstance(b, int):
        return isinstance(a, int) and isinstance(b, int) and a == b
    return bool(structural_equal(a, b))


def is_one(size: Dimension) -> bool:
    """Whether the dimension is known to be 1."""
    return isinstance(size, int) and size == 1


def dims(tensor: te.Tensor) -> tuple[Dimension, ...]:
    """A TE tensor's shape: ints where known."""
    from tvm import tirx

    return tuple(int(d) if isinstance(d, tirx.IntImm) else d for d in tensor.shape)


def at(tensor: te.Tensor, indices: Sequence[Any], shape: Sequence[Dimension] | None = None) -> tirx.Expr:
    """The element of a tensor that broadcasts to `shape`: its axes are the last ones, sizes 1 stay at 0.

    Without `shape`, dimensions that are not known to be 1 count as those of the indices.
    """
    own = dims(tensor)
    whole: Sequence[Dimension | None] = shape if shape is not None else [None] * len(indices)
    skip = len(indices) - len(own)
    return tensor(*map(broadcast_index, list(indices)[skip:], own, list(whole)[skip:]))


def elementwise(
    context: NodeContext,
    function: Callable[..., tirx.Expr],
    *inputs: relax.Expr,
    dtype: str | None = None,
    compute: str | None = None,
    widen: bool = True,
    name: str | None = None,
) -> relax.Var:
    """Emits one computation of `function` over the broadcast inputs, one TIR block without intermediate tensors.

    Args:
        context: of the node.
        function: takes a scalar expression for each input, gives a scalar expression.
        inputs: Relax tensors. Constants with one element become literals of the code.
        dtype: of the result; that of the first input by default.
        compute: type that every input is cast to before `function` sees it; by default each keeps its own, narrow
            floats as float32.
        widen: False where the function only moves values: narrow floats keep their type and their bits.
        name: of the TIR function; the operator's by default.
    """
    from tvm import te

    broadcast_shape([shape_of(x) for x in inputs])  # shapes that do not fit are the node's fault, said here
    result = dtype or dtype_of(inputs[0])
    literals = {i: v for i, x in enumerate(inputs) if (v := _literal(x)) is not None}
    tensors = [x for i, x in enumerate(inputs) if i not in literals]
    if not tensors:  # all constant: one stays a tensor, for TVM to fold the call
        literals, tensors = {}, list(inputs)

    def compute_all(*values: te.Tensor) -> te.Tensor:
        # the tensors' own symbolic sizes: TVM gives each function fresh variables
        sizes = iter(values)
        shape = broadcast_shape([shape_of(x) if i in literals else dims(next(sizes)) for i, x in enumerate(inputs)])

        def element(*indices: Any) -> tirx.Expr:
            rest = iter(values)
            scalars = []
            for i, x in enumerate(inputs):
                own = dtype_of(x)
                kind = compute or (wide(own) if widen else own)
                if i in literals:
                    scalars.append(const_expr(literals[i], kind))
                else:
                    tensor = next(rest)
                    # an index 0 on axes of size 1 would hide from TVM's fusion that nothing is broadcast
                    own_shape = dims(tensor)
                    whole = len(own_shape) == len(shape) and all(map(same_size, own_shape, shape))
                    value = tensor(*indices) if whole else at(tensor, indices, shape)
                    scalars.append(cast_expr(value, kind))
            return cast_expr(function(*scalars), result)

        return te.compute(shape, element, name=(name or context.node.op_type).lower())

    return context.te(compute_all, *tensors, name=name)


def _literal(value: relax.Expr) -> float | int | bool | None:
    """The value of a constant with one element that every target can write as a literal, else None."""
    array = constant_value(value)
    if array is None or array.size != 1:
        return None
    dtype = dtype_of(value)
    if dtype == "bool" or not is_float(dtype):
        number = int(array.reshape(-1)[0])
        return number if -(2**31) <= number < 2**31 else None
    if dtype in _FLOAT8:
        return None
    real = float(array.reshape(-1)[0])
    return real if math.isfinite(real) else None


def cast(
    context: NodeContext, value: relax.Expr, dtype: str, saturate: bool = True, name: str | None = None
) -> relax.Expr:
    """A Relax tensor in another element type (`cast_expr`); itself where it has that type."""
    from tvm import te

    if dtype_of(value) == dtype:
        return value
    return context.te(
        lambda x: te.compute(dims(x), lambda *i: cast_expr(x(*i), dtype, saturate), name="cast"),
        value,
        name=name or "cast",
    )


def as_scalar(context: NodeContext, value: relax.Expr) -> relax.Var:
    """A tensor of one element as one of rank 0: a view, which TVM's reshape to rank 0 is not."""
    from tvm import relax

    call = relax.op.call_pure_packed(
        "vm.builtin.reshape", value, relax.ShapeExpr([]), ty_args=[relax.TensorType([], dtype_of(value))]
    )
    return context.emit(call)


def normalize_axis(context: NodeContext, axis: int, rank: int, allow_end: bool = False) -> int:
    """A non-negative axis. Raises `UnsupportedError` for one out of range.

    Args:
        context: of the node, for the message.
        axis: in [-rank, rank); with `allow_end` also `rank` itself.
        rank: of the tensor.
        allow_end: whether the axis may lie one past the last (Flatten, old Softmax).
    """
    if not -rank <= axis < rank + (1 if allow_end else 0):
        context.unsupported(f"axis {axis} is out of range for rank {rank}")
    return axis % rank if axis < 0 else axis


# reductions -----------------------------------------------------------------------------------------------------------

COOPERATIVE_ELEMENTS = 32
"""Reductions over fewer elements than a warp has threads are not worth sharing."""
MANY_OUTPUTS = 4096
"""With this many outputs one thread each keeps a GPU busy."""
BUSY_OUTPUTS, LONG_ROW = 16384, 1024
"""With fewer outputs than these, rows as long as this are worth more than a thread each."""


def extent_of(sizes: Sequence[Dimension]) -> Dimension:
    """The number of elements: an int where every size is known."""
    total: Dimension = 1
    for size in sizes:
        total = total * size
    return total


def reduced_shape(sizes: Sequence[Dimension], axes: Sequence[int], keep: bool) -> list[Dimension]:
    """The shape after a reduction over `axes` (non-negative), these as 1 with `keep`."""
    return [1 if i in axes else size for i, size in enumerate(sizes) if keep or i not in axes]


def reduce_axes(sizes: Sequence[Dimension], axes: Sequence[int]) -> dict[int, tirx.IterVar]:
    """A TE reduction axis for each axis. Every reduction stage needs its own."""
    from tvm import te

    return {a: te.reduce_axis((0, sizes[a]), name=f"k{a}") for a in axes}


def combine_expr(combine: str, value: tirx.Expr, axis: Sequence[tirx.IterVar]) -> tirx.Expr:
    """A TE reduction: `sum`, `prod`, `max` or `min` of `value` over `axis`."""
    from tvm import te, tirx

    if combine == "prod":
        product = te.comm_reducer(lambda a, b: a * b, lambda t: tirx.const(1, dtype=t), name="prod")
        return product(value, axis=axis)
    return {"sum": te.sum, "max": te.max, "min": te.min}[combine](value, axis=axis)


def reduction_attributes(sizes: Sequence[Dimension], axes: Sequence[int], rows: Sequence[int]) -> dict[str, str]:
    """Block attributes of the stage that finishes a reduction: one thread a row where that suits the GPU.

    It does where rows are many and neighbouring ones read neighbouring elements, or few elements make a row. Where rows
    are long the threads of a few thousand of them leave most of a GPU idle: those are cut into parts.

    Args:
        sizes: of the reduced tensor.
        axes: that are reduced.
        rows: axes of the finishing stage that name a row.
    """
    from plugin_autogen.schedule.rules.thread_per_row import rows_attribute

    outputs = extent_of([size for i, size in enumerate(sizes) if i not in axes])
    elements = extent_of([sizes[a] for a in axes])
    few_elements = isinstance(elements, int) and elements < COOPERATIVE_ELEMENTS
    many_outputs = not isinstance(outputs, int) or outputs >= MANY_OUTPUTS
    beside = bool(sizes) and len(sizes) - 1 not in axes
    long = isinstance(elements, int) and elements >= LONG_ROW and isinstance(outputs, int) and outputs < BUSY_OUTPUTS
    return rows_attribute(rows) if many_outputs and not long and (beside or few_elements) else {}


def ordered_expr(combine: str, dtype: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Floats as integers of the same order, and back, for a `max` or `min` reduction; integers stay as they are.

    NaN wins either, as in numpy, and a maximum over infinities alone is right; neither holds for float instructions.
    """
    from tvm import tirx

    if not is_float(dtype):
        return (lambda v: v), (lambda v: v)
    kind = f"int{bits_of(dtype)}"
    mask = tirx.const(2 ** (bits_of(dtype) - 1) - 1, kind)
    winner = tirx.max_value(kind) if combine == "max" else tirx.min_value(kind)

    def flip(bits: tirx.Expr) -> tirx.Expr:
        return tirx.Select(bits < tirx.const(0, kind), tirx.bitwise_xor(bits, mask), bits)

    def encode(value: tirx.Expr) -> tirx.Expr:
        return tirx.Select(tirx.isnan(value), winner, flip(tirx.reinterpret(kind, value)))

    return encode, lambda bits: tirx.reinterpret(dtype, flip(bits))
