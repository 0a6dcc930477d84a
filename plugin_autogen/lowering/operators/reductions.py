"""The Reduce… family: one kernel each, narrow floats accumulated in float32."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plugin_autogen.lowering.operators.elementwise import divide_expr
from plugin_autogen.lowering.registry import Dimension, NodeContext, converter
from plugin_autogen.lowering.te_helpers import (
    as_scalar,
    bits_of,
    cast_expr,
    combine_expr,
    const_expr,
    dims,
    dtype_of_expr,
    elementwise,
    extent_of,
    is_float,
    normalize_axis,
    ordered_expr,
    reduce_axes,
    reduced_shape,
    reduction_attributes,
    wide,
)

if TYPE_CHECKING:
    from tvm import relax, te, tirx

Scalar = Callable[[Any], Any]


@dataclass(frozen=True)
class Reduction:
    """What distinguishes one reduction from another.

    Attributes:
        combine: `sum`, `prod`, `max` or `min`.
        before: applied to each element.
        after: applied to the combined value and the number of elements, where there is anything to do.
        empty: the result over no elements.
        in_floats: whether integers are computed in float64.
    """

    combine: str
    before: Scalar = lambda x: x
    after: Callable[[Any, Any], Any] | None = None
    empty: float = 0.0
    in_floats: bool = False


def _absolute(x: tirx.Expr) -> tirx.Expr:
    from tvm import tirx

    kind = dtype_of_expr(x)
    if is_float(kind):
        return tirx.abs(x)
    return x if kind.startswith("uint") else tirx.Select(x < 0, const_expr(0, kind) - x, x)


def _sqrt(x: tirx.Expr) -> tirx.Expr:
    from tvm import tirx

    return tirx.sqrt(x)


def _log(x: tirx.Expr) -> tirx.Expr:
    from tvm import tirx

    return tirx.log(x)


_REDUCTIONS = {
    "ReduceSum": Reduction("sum"),
    "ReduceSumSquare": Reduction("sum", before=lambda x: x * x),
    "ReduceL1": Reduction("sum", before=_absolute),
    "ReduceL2": Reduction("sum", before=lambda x: x * x, after=lambda x, _: _sqrt(x), in_floats=True),
    "ReduceLogSum": Reduction("sum", after=lambda x, _: _log(x), empty=-math.inf, in_floats=True),
    "ReduceMean": Reduction("sum", after=divide_expr, empty=math.nan),
    "ReduceProd": Reduction("prod", empty=1.0),
    "ReduceMax": Reduction("max", empty=-math.inf),
    "ReduceMin": Reduction("min", empty=math.inf),
}


def axes_of(context: NodeContext) -> list[int]:
    """The reduced axes, ascending: an attribute, or from opset 13 or 18 on a constant input; all by default."""
    rank = len(context.shape(0))
    axes = context.attribute("axes")
    if axes is None and context.has_input(1):
        axes = [int(a) for a in context.constant(1).reshape(-1)]
    if not axes:
        return [] if context.attribute("noop_with_empty_axes", 0) else list(range(rank))
    return sorted({normalize_axis(context, int(axis), rank) for axis in axes})


def _convert(context: NodeContext) -> relax.Expr:
    reduction = _REDUCTIONS[context.node.op_type]
    dtype = context.dtype(0)
    # threads exchange 32 bits at least: for narrower types TVM counts on warps in lock step, which no GPU promises
    compute = wide(dtype) if is_float(dtype) or bits_of(dtype) >= 32 else "int32"
    if reduction.in_floats and not is_float(compute):
        compute = "float64"
    return reduce_to(context, reduction, axes_of(context), bool(context.attribute("keepdims", 1)), compute, dtype)


for _operator in _REDUCTIONS:
    converter(_operator, since=1)(_convert)


def reduce_to(
    context: NodeContext, reduction: Reduction, axes: Sequence[int], keep: bool, compute: str, dtype: str
) -> relax.Expr:
    """Emits a reduction of input 0 over `axes`, computed in `compute`, its result in `dtype`."""
    from tvm import te, tirx

    if len(axes) == len(context.shape(0)) > 0 and not keep:  # schedules want a loop around: a rank of 1 or more
        return as_scalar(context, reduce_to(context, reduction, axes, True, compute, dtype))

    if not axes:
        one = const_expr(1, compute)
        after = reduction.after or (lambda x, _: x)
        return elementwise(
            context, lambda x: after(reduction.before(x), one), context.input(0), dtype=dtype, compute=compute
        )

    def reduce_all(x: te.Tensor) -> te.Tensor:
        sizes = dims(x)
        result = reduced_shape(sizes, axes, keep)
        count = extent_of([sizes[a] for a in axes])
        if isinstance(count, int) and count == 0:
            return te.compute(result, lambda *_: _empty(reduction, dtype), name="empty")
        is_order = reduction.combine in ("max", "min") and is_float(compute)
        encode, decode = ordered_expr(reduction.combine, compute)
        axis = reduce_axes(sizes, axes)
        attributes = reduction_attributes(sizes, axes, range(len(result)))
        last = reduction.after is None and not is_order and compute == dtype and not attributes

        def element(*i: Any) -> tirx.Expr:
            value = reduction.before(cast_expr(x(*position_of(i, sizes, axes, keep, axis)), compute))
            return combine_expr(reduction.combine, encode(value) if is_order else value, list(axis.values()))

        combined = te.compute(
            result,
            element,
            name="reduce",
        )
        if last:
            return combined
        total = const_expr(count, compute) if isinstance(count, int) else tirx.Cast(compute, count)

        def finish(*i: Any) -> tirx.Expr:
            value = decode(combined(*i)) if is_order else combined(*i)
            return cast_expr(reduction.after(value, total) if reduction.after else value, dtype)

        return te.compute(result, finish, name=context.node.op_type.lower(), attrs=attributes)

    return context.te(reduce_all, context.input(0))


def _empty(reduction: Reduction, dtype: str) -> tirx.Expr:
    """The result over no elements; where the type has no infinity, its bound."""
    from tvm import tirx

    if dtype == "bool":
        return const_expr(reduction.empty > 0, dtype)
    if is_float(dtype) or math.isfinite(reduction.empty):
        value = tirx.const(reduction.empty, "float32") if is_float(dtype) else const_expr(reduction.empty, dtype)
        return cast_expr(value, dtype)
    if math.isnan(reduction.empty):
        return const_expr(0, dtype)
    return tirx.max_value(dtype) if reduction.empty > 0 else tirx.min_value(dtype)


def position_of(
    indices: Sequence[Any], sizes: Sequence[Dimension], axes: Sequence[int], keep: bool, axis: dict[int, tirx.IterVar]
) -> list[Any]:
    """Where in the input to read for an output element: its own indices, and the reduction's at the reduced axes."""
    rest = iter(indices)
    position = []
    for i in range(len(sizes)):
        if i in axes:
            if keep:
                next(rest)
            position.append(axis[i])
        else:
            position.append(next(rest))
    return position


@converter("ReduceLogSumExp", since=1)
def log_sum_exp(context: NodeContext) -> relax.Expr:
    """ReduceLogSumExp-1, 11, 13, 18: the largest element is taken out first, so that nothing overflows."""
    axes, keep = axes_of(context), bool(context.attribute("keepdims", 1))
    if len(axes) == len(context.shape(0)) > 0 and not keep:
        return as_scalar(context, _log_sum_exp(context, axes, True))
    return _log_sum_exp(context, axes, keep)


def _log_sum_exp(context: NodeContext, axes: Sequence[int], keep: bool) -> relax.Expr:
    from tvm import te, tirx

    dtype = context.dtype(0)
    compute = wide(dtype) if is_float(dtype) else "float64"
    if not axes:
        return context.input(0)
    nothing = Reduction("sum", empty=-math.inf)
    encode, decode = ordered_expr("max", compute)

    def compute_all(x: te.Tensor) -> te.Tensor:
        sizes = dims(x)
        result = reduced_shape(sizes, axes, keep)
        count = extent_of([sizes[a] for a in axes])
        if isinstance(count, int) and count == 0:
            return te.compute(result, lambda *_: _empty(nothing, dtype), name="empty")
        attributes = reduction_attributes(sizes, axes, range(len(result)))
        first, second = reduce_axes(sizes, axes), reduce_axes(sizes, axes)

        def value(i: Sequence[Any], axis: dict[int, tirx.IterVar]) -> tirx.Expr:
            return cast_expr(x(*position_of(i, sizes, axes, keep, axis)), compute)

        largest = te.compute(
            result, lambda *i: combine_expr("max", encode(value(i, first)), list(first.values())), name="largest"
        )

        def top(i: Sequence[Any]) -> tirx.Expr:
            found = decode(largest(*i))  # infinities cannot be taken out: inf - inf is NaN
            return tirx.Select(tirx.abs(found) < tirx.infinity(compute), found, const_expr(0, compute))

        total = te.compute(
            result,
            lambda *i: te.sum(tirx.exp(value(i, second) - top(i)), axis=list(second.values())),
            name="total",
        )
        return te.compute(
            result,
            lambda *i: cast_expr(tirx.log(total(*i)) + top(i), dtype),
            name="logsumexp",
            attrs=attributes,
        )

    return context.te(compute_all, context.input(0))
