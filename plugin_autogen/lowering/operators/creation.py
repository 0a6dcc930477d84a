"""Operators that make tensors, or tell about them: constants, shapes, ranges, masks; Identity, Dropout and Trilu."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from plugin_autogen import dtypes
from plugin_autogen.lowering.registry import Dimension, NodeContext, converter, shape_of
from plugin_autogen.lowering.te_helpers import at, cast_expr, const_expr, dims, elementwise, wide

if TYPE_CHECKING:
    import numpy as np
    from tvm import relax, te, tirx


@converter("Identity", since=1)
def identity(context: NodeContext) -> relax.Expr:
    return context.input(0)


@converter("Constant", since=1)
def constant(context: NodeContext) -> relax.Expr:
    """Constant-1 to 25. Small ones are folded before; strings cannot be in a plugin."""
    import numpy as np
    from tvm import relax

    attributes = context.attributes
    if "value" in attributes:
        array = attributes["value"]
    elif "value_float" in attributes or "value_floats" in attributes:
        array = np.asarray(attributes.get("value_float", attributes.get("value_floats")), np.float32)
    elif "value_int" in attributes or "value_ints" in attributes:
        array = np.asarray(attributes.get("value_int", attributes.get("value_ints")), np.int64)
    elif "sparse_value" in attributes:
        array = _dense(context, attributes["sparse_value"])
    else:
        context.unsupported("a constant without a numeric value", "strings have no place in a TensorRT plugin")
    element = dtypes.from_name(array.dtype.name)
    return relax.const(np.ascontiguousarray(array, dtypes.from_name(element.held_as).numpy), element.held_as)


def _dense(context: NodeContext, sparse: Any) -> np.ndarray:
    """A SparseTensorProto as a dense array: indices are flat positions, or one row of coordinates a value."""
    import numpy as np
    import onnx.numpy_helper

    values = onnx.numpy_helper.to_array(sparse.values)
    indices = onnx.numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    elif indices.ndim == 2 and indices.shape[1] == dense.ndim:
        dense[tuple(indices.T)] = values
    else:
        context.unsupported("a sparse constant whose indices have neither rank 1 nor one column an axis")
    return dense


@converter("Shape", since=1)
def shape(context: NodeContext) -> relax.Expr:
    """Shape-1, 13, 15 (`start`, `end`), 19 to 25: int64; a constant where all sizes are known."""
    sizes = context.shape(0)
    rank = len(sizes)

    def bound(value: int) -> int:
        return min(max(value + rank if value < 0 else value, 0), rank)

    start, end = bound(context.attribute("start", 0)), bound(context.attribute("end", rank))
    return _sizes(context, lambda s: list(s[start : max(start, end)]), (max(end - start, 0),))


@converter("Size", since=1)
def size(context: NodeContext) -> relax.Expr:
    """Size-1, 13, 19 to 25."""

    def total(sizes: Sequence[Dimension]) -> list[Dimension]:
        product: Dimension = 1
        for extent in sizes:
            product = product * extent
        return [product]

    return _sizes(context, total, ())


def _sizes(
    context: NodeContext, choose: Callable[[Sequence[Dimension]], list[Dimension]], result: tuple[int, ...]
) -> relax.Expr:
    """An int64 tensor of dimensions of input 0: a constant, or a kernel that gets the symbolic ones as parameters."""
    import numpy as np
    from tvm import relax, te, tirx

    chosen = choose(context.shape(0))
    if all(isinstance(d, int) for d in chosen):
        return relax.const(np.asarray(chosen, np.int64).reshape(result), "int64")

    def compute(x: te.Tensor) -> te.Tensor:
        values = [tirx.const(d, "int64") if isinstance(d, int) else d for d in choose(dims(x))]

        def element(*position: Any) -> tirx.Expr:
            value = values[-1]
            for i, other in reversed(list(enumerate(values[:-1]))):
                value = tirx.Select(tirx.EQ(position[0], i), other, value)
            return tirx.Cast("int64", value)

        return te.compute(result, element, name="sizes")

    return context.te(compute, context.input(0))


@converter("ConstantOfShape", since=9)
def constant_of_shape(context: NodeContext) -> relax.Expr:
    """ConstantOfShape-9, 20 to 25: zero float32 by default."""
    import numpy as np

    value = context.attribute("value")
    value = np.zeros(1, np.float32) if value is None else value
    element = dtypes.from_name(value.dtype.name)
    if context.is_shape_input(0):
        sizes = tuple(context.resolve_shape(0, list))
    else:
        sizes = tuple(int(d) for d in context.constant(0).reshape(-1))
    number = value.reshape(-1)[0]
    return _generate(context, sizes, element.held_as, lambda *_: const_expr(_plain(number), element.held_as))


def _plain(number: Any) -> float | int:
    """A numpy scalar as Python's int or float."""
    return float(number) if number.dtype.kind in "fV" and "int" not in number.dtype.name else int(number)


def _generate(
    context: NodeContext, sizes: Sequence[Dimension], dtype: str, element: Callable[..., tirx.Expr]
) -> relax.Expr:
    """A tensor that depends on positions alone."""
    from tvm import te

    return context.te(lambda: te.compute(tuple(sizes), element, name=context.node.op_type.lower()))


@converter("Range", since=11)
def range_(context: NodeContext) -> relax.Expr:
    """Range-11, 27: `start`, `limit` and `delta` are known; element i is start + i * delta, computed at once."""
    import numpy as np
    from tvm import tirx

    dtype = context.dtype(0)
    start, limit, delta = (context.constant(i).reshape(-1)[0] for i in range(3))
    if delta == 0:
        context.unsupported("the step of the range is zero")
    if dtype.startswith("int"):
        count = max(-((int(start) - int(limit)) // int(delta)), 0)
    else:
        count = max(int(np.ceil((float(limit) - float(start)) / float(delta))), 0)
    compute = wide(dtype)
    first, step = const_expr(_plain(start), compute), const_expr(_plain(delta), compute)
    return _generate(context, (count,), dtype, lambda i: cast_expr(first + tirx.Cast(compute, i) * step, dtype))


@converter("EyeLike", since=9)
def eye_like(context: NodeContext) -> relax.Expr:
    """EyeLike-9, 22: ones on diagonal `k` of a matrix of the input's shape."""
    from tvm import te, tirx

    to = context.attribute("dtype")
    dtype = context.dtype(0) if to is None else dtypes.from_onnx(int(to)).held_as
    offset = int(context.attribute("k", 0))

    def compute(x: te.Tensor) -> te.Tensor:
        one, zero = const_expr(1, dtype), const_expr(0, dtype)
        return te.compute(
            dims(x),
            lambda row, column: tirx.Select(
                tirx.EQ(tirx.Cast("int64", column) - tirx.Cast("int64", row), tirx.const(offset, "int64")), one, zero
            ),
            name="eye_like",
        )

    return context.te(compute, context.input(0))


@converter("Trilu", since=14)
def trilu(context: NodeContext) -> relax.Expr:
    """Trilu-14: the upper or lower triangle of each matrix, from diagonal `k` (known or not); zeros elsewhere."""
    from tvm import te, tirx

    upper = bool(context.attribute("upper", 1))
    dtype = context.dtype(0)
    known = int(context.constant(1).reshape(-1)[0]) if context.is_constant(1) else None
    runtime = [context.input(1)] if context.has_input(1) and known is None else []

    def compute(x: te.Tensor, *diagonal: te.Tensor) -> te.Tensor:
        def element(*position: Any) -> tirx.Expr:
            row, column = (tirx.Cast("int64", i) for i in position[-2:])
            k = at(diagonal[0], [0] * len(diagonal[0].shape)) if diagonal else tirx.const(known or 0, "int64")
            inside = column - row >= k if upper else column - row <= k
            return tirx.Select(inside, x(*position), const_expr(0, dtype))

        return te.compute(dims(x), element, name="trilu")

    return context.te(compute, context.input(0), *runtime)


@converter("Dropout", since=1)
def dropout_without_mode(context: NodeContext) -> list[relax.Expr]:
    """Dropout-1, 6, 7, 10 in inference: the input itself; the mask, where asked for, keeps everything."""
    if context.opset < 7 and not context.attribute("is_test", 0):
        context.unsupported("drops values at random (is_test is 0)", "export the model for inference")
    mask = "bool" if context.opset >= 10 else context.dtype(0)
    return [context.input(0), *([_all_kept(context, mask)] if context.has_output(1) else [])]


@converter("Dropout", since=12)
def dropout(context: NodeContext) -> list[relax.Expr]:
    """Dropout-12, 13, 22. In training mode only with a `seed`, whose random numbers are numpy's, as ONNX's."""
    import numpy as np
    from tvm import relax, tirx

    training = context.has_input(2) and bool(context.constant(2).reshape(-1)[0])
    if not training:
        return [context.input(0), *([_all_kept(context, "bool")] if context.has_output(1) else [])]
    if "seed" not in context.attributes:
        context.unsupported("drops values at random in training mode", "export the model for inference, or set a seed")
    sizes = context.shape(0)
    if not all(isinstance(d, int) for d in sizes):
        context.unsupported("the mask of training mode needs a static shape")
    numbers = np.random.RandomState(int(context.attribute("seed"))).uniform(0, 1.0, sizes)
    random = relax.const(np.asarray(numbers, np.float64), "float64")
    ratio = context.input(1) if context.has_input(1) else relax.const(0.5, "float32")
    if len(shape_of(ratio)) > 0:
        ratio = context.emit(relax.op.reshape(ratio, []))

    def scaled(x: tirx.Expr, number: tirx.Expr, share: tirx.Expr) -> tirx.Expr:
        return tirx.Select(number >= share, x / (const_expr(1, "float64") - share), x * const_expr(0, "float64"))

    mask = elementwise(context, lambda number, share: number >= share, random, ratio, dtype="bool", compute="float64")
    value = elementwise(context, scaled, context.input(0), random, ratio, compute="float64")
    return [value, mask]


def _all_kept(context: NodeContext, dtype: str) -> relax.Expr:
    """Ones of the input's shape."""
    from tvm import te

    return context.te(lambda x: te.compute(dims(x), lambda *_: const_expr(1, dtype), name="mask"), context.input(0))
