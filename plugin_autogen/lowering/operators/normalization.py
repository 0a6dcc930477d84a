"""Softmax and its kin, and normalizations: statistics in float32 (or wider), in two passes, so that nothing cancels.

Each is one TIR function of reductions followed by one element-wise stage over the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from plugin_autogen.lowering.operators.reductions import position_of
from plugin_autogen.lowering.registry import Dimension, NodeContext, converter, dtype_of, shape_of
from plugin_autogen.lowering.te_helpers import (
    at,
    cast_expr,
    combine_expr,
    const_expr,
    dims,
    elementwise,
    extent_of,
    normalize_axis,
    ordered_expr,
    reduce_axes,
    reduced_shape,
    reduction_attributes,
    wide,
)

if TYPE_CHECKING:
    from tvm import relax, te, tirx

Indices = Sequence[Any]
Element = Callable[..., Any]


class Rows:
    """Reductions of one tensor over fixed axes, as TE stages with the reduced axes left out of their shapes."""

    def __init__(self, sizes: Sequence[Dimension], axes: Sequence[int]) -> None:
        self.sizes, self.axes = tuple(sizes), tuple(axes)
        self.shape = reduced_shape(self.sizes, self.axes, keep=False)
        self.count = extent_of([self.sizes[a] for a in self.axes])

    def reduce(self, combine: str, element: Element, name: str) -> te.Tensor:
        """`combine` over the rows' elements; `element` takes a full position."""
        from tvm import te

        axis = reduce_axes(self.sizes, self.axes)
        if not axis:
            return te.compute(self.shape, lambda *i: element(*i), name=name)
        return te.compute(
            self.shape,
            lambda *i: combine_expr(
                combine, element(*position_of(i, self.sizes, self.axes, False, axis)), list(axis.values())
            ),
            name=name,
        )

    def row(self, position: Indices) -> list[Any]:
        """The part of a full position that names the row."""
        return [i for a, i in enumerate(position) if a not in self.axes]

    @property
    def attributes(self) -> dict[str, str]:
        """Block attributes of a last stage over all elements."""
        return reduction_attributes(self.sizes, self.axes, [a for a in range(len(self.sizes)) if a not in self.axes])

    def elements(self, dtype: str) -> tirx.Expr:
        """How many elements a row has, as a number to divide by."""
        from tvm import tirx

        return const_expr(self.count, dtype) if isinstance(self.count, int) else tirx.Cast(dtype, self.count)


# softmax -------------------------------------------------------------------------------------------------------------


def _softmax_axes(context: NodeContext) -> list[int]:
    """From opset 13 on one axis; before, the axes from `axis` on are one."""
    rank = len(context.shape(0))
    if context.opset >= 13:
        return [normalize_axis(context, int(context.attribute("axis", -1)), rank)] if rank else []
    return list(range(normalize_axis(context, int(context.attribute("axis", 1)), rank, allow_end=True), rank))


def largest_of(rows: Rows, element: Element) -> Element:
    """The stage that finds each row's largest element, read at a full position.

    Rows of NaN or infinities need no care here: what a softmax makes of them is NaN in any case.
    """
    stage = rows.reduce("max", element, "largest")
    return lambda *i: stage(*rows.row(i))


@converter("Softmax", "LogSoftmax", since=1)
def softmax(context: NodeContext) -> relax.Expr:
    """Softmax and LogSoftmax-1, 11 (the axes from `axis` on as one), 13."""
    from tvm import te, tirx

    dtype, axes = context.dtype(0), _softmax_axes(context)
    compute = wide(dtype)
    logarithm = context.node.op_type == "LogSoftmax"

    def compute_all(x: te.Tensor) -> te.Tensor:
        rows = Rows(dims(x), axes)

        def value(*i: Any) -> tirx.Expr:
            return cast_expr(x(*i), compute)

        top = largest_of(rows, value)
        total = rows.reduce("sum", lambda *i: tirx.exp(value(*i) - top(*i)), "total")

        def result(*i: Any) -> tirx.Expr:
            shifted = value(*i) - top(*i)
            below = total(*rows.row(i))
            return cast_expr(shifted - tirx.log(below) if logarithm else tirx.exp(shifted) / below, dtype)

        return te.compute(rows.sizes, result, name=context.node.op_type.lower(), attrs=rows.attributes)

    return context.te(compute_all, context.input(0))


@converter("Hardmax", since=1)
def hardmax(context: NodeContext) -> relax.Expr:
    """Hardmax-1, 11 (the axes from `axis` on as one), 13: one at the first of the largest elements."""
    from tvm import te, tirx

    dtype, axes = context.dtype(0), _softmax_axes(context)
    compute = wide(dtype)
    encode, _ = ordered_expr("max", compute)

    def compute_all(x: te.Tensor) -> te.Tensor:
        rows = Rows(dims(x), axes)

        def key(*i: Any) -> tirx.Expr:
            return encode(cast_expr(x(*i), compute))

        def place(*i: Any) -> tirx.Expr:
            flat: Any = tirx.const(0, "int64")
            for axis in rows.axes:
                flat = flat * rows.sizes[axis] + tirx.Cast("int64", i[axis])
            return flat

        largest = rows.reduce("max", key, "largest")
        never = tirx.max_value("int64")
        first = rows.reduce(
            "min", lambda *i: tirx.Select(tirx.EQ(key(*i), largest(*rows.row(i))), place(*i), never), "first"
        )
        one, zero = const_expr(1, dtype), const_expr(0, dtype)
        return te.compute(
            rows.sizes,
            lambda *i: tirx.Select(tirx.EQ(first(*rows.row(i)), place(*i)), one, zero),
            name="hardmax",
            attrs=rows.attributes,
        )

    return context.te(compute_all, context.input(0))


# layer, group and instance normalization -----------------------------------------------------------------------------


def standardize(
    context: NodeContext,
    x: relax.Expr,
    axes: Sequence[int],
    epsilon: float,
    finish: Callable[..., Any],
    extra: Sequence[relax.Expr] = (),
    statistics: bool = False,
    centered: bool = True,
    name: str | None = None,
) -> list[relax.Expr]:
    """Emits (x - mean) / sqrt(variance + epsilon) over `axes`, finished by an element-wise function.

    Args:
        context: of the node.
        x: the tensor.
        axes: that are normalized.
        epsilon: added to the variance.
        finish: takes the normalized value, the full position and a TE tensor for each of `extra`.
        extra: Relax tensors (scale, bias).
        statistics: whether mean and inverse deviation are results too; then they are a function of their own.
        centered: False leaves the mean in (RMS normalization).
        name: of the TIR function.

    Returns:
        the result in the type of `x`, and with `statistics` the mean and 1 / sqrt(variance + epsilon), shaped like `x`
        with sizes 1 at `axes`, in the type that they were computed in.
    """
    from tvm import te, tirx

    dtype = dtype_of(x)
    compute = wide(dtype)
    label = name or context.node.op_type.lower()

    def stages(tensor: te.Tensor) -> tuple[Element, Element]:
        """Mean and inverse standard deviation, readable at full positions."""
        rows = Rows(dims(tensor), axes)
        elements = rows.elements(compute)

        def value(*i: Any) -> tirx.Expr:
            return cast_expr(tensor(*i), compute)

        total = rows.reduce("sum", value, "total") if centered else None

        def mean(*i: Any) -> tirx.Expr:
            return total(*rows.row(i)) / elements if total is not None else const_expr(0, compute)

        def square(*i: Any) -> tirx.Expr:
            difference = value(*i) - mean(*i) if centered else value(*i)
            return difference * difference

        squares = rows.reduce("sum", square, "squares")
        return (
            mean,
            lambda *i: (
                const_expr(1, compute) / tirx.sqrt(squares(*rows.row(i)) / elements + const_expr(epsilon, compute))
            ),
        )

    def normalized(tensor: te.Tensor, mean: Element, inverse: Element, more: Sequence[te.Tensor]) -> te.Tensor:
        def element(*i: Any) -> tirx.Expr:
            value = cast_expr(tensor(*i), compute)
            centre = value - mean(*i) if centered else value
            return cast_expr(finish(centre * inverse(*i), i, *more), dtype)

        return te.compute(dims(tensor), element, name=label, attrs=Rows(dims(tensor), axes).attributes)

    if not statistics:

        def whole(tensor: te.Tensor, *more: te.Tensor) -> te.Tensor:
            mean, inverse = stages(tensor)
            return normalized(tensor, mean, inverse, more)

        return [context.te(whole, x, *extra, name=label)]

    def statistic(which: int) -> Callable[[te.Tensor], te.Tensor]:
        def compute_one(tensor: te.Tensor) -> te.Tensor:
            kept = reduced_shape(dims(tensor), axes, keep=True)
            attributes = reduction_attributes(dims(tensor), axes, range(len(kept)))
            return te.compute(kept, stages(tensor)[which], name="statistic", attrs=attributes)

        return compute_one

    # two functions, each of reductions that end in one stage, which are one kernel each
    mean = context.te(statistic(0), x, name=f"{label}_mean")
    inverse = context.te(statistic(1), x, name=f"{label}_inverse")

    def apply(tensor: te.Tensor, centre: te.Tensor, scale: te.Tensor, *more: te.Tensor) -> te.Tensor:
        return normalized(tensor, lambda *i: at(centre, i), lambda *i: at(scale, i), more)

    return [context.te(apply, x, mean, inverse, *extra, name=label), mean, inverse]


def _scale_and_bias(compute: str, has_bias: bool, place: Callable[[te.Tensor, Indices], Any]) -> Callable[..., Any]:
    """`finish` of `standardize`: times the scale, plus the bias; `place` reads a parameter at a full position."""

    def finish(value: tirx.Expr, position: Indices, scale: te.Tensor, *bias: te.Tensor) -> tirx.Expr:
        value = value * cast_expr(place(scale, position), compute)
        return value + cast_expr(place(bias[0], position), compute) if has_bias else value

    return finish


def _broadcast_to(shape: Sequence[Dimension]) -> Callable[[te.Tensor, Indices], Any]:
    """Reads a parameter that is broadcast to this shape."""
    return lambda parameter, position: at(parameter, position, shape)


@converter("LayerNormalization", since=1)
def layer_normalization(context: NodeContext) -> list[relax.Expr]:
    """LayerNormalization-17 (and ONNX Runtime's of opset 1), with Mean and InvStdDev where they are asked for."""
    dtype, rank = context.dtype(0), len(context.shape(0))
    axis = normalize_axis(context, int(context.attribute("axis", -1)), rank)
    has_bias = context.has_input(2)
    results = standardize(
        context,
        context.input(0),
        list(range(axis, rank)),
        float(context.attribute("epsilon", 1e-5)),
        _scale_and_bias(wide(dtype), has_bias, _broadcast_to(context.shape(0))),
        [context.input(1), *([context.input(2)] if has_bias else [])],
        statistics=context.has_output(1) or context.has_output(2),
    )
    return [results[0], *(_as_stated(context, i, value) for i, value in enumerate(results[1:], 1))]


def _as_stated(context: NodeContext, index: int, value: relax.Expr) -> relax.Expr:
    """A statistic in the type that ONNX states for the output (that of `stash_type`)."""
    stated = context.outputs[index] if index < len(context.outputs) else None
    if stated is None or stated.dtype.name == dtype_of(value):
        return value
    return elementwise(context, lambda v: v, value, dtype=stated.dtype.name, name="cast")


@converter("RMSNormalization", since=23)
@converter("SimplifiedLayerNormalization", since=1)
@converter("SimplifiedLayerNormalization", domain="com.microsoft")
def rms_normalization(context: NodeContext) -> list[relax.Expr]:
    """RMSNormalization-23 and ONNX Runtime's SimplifiedLayerNormalization."""
    dtype, rank = context.dtype(0), len(context.shape(0))
    axis = normalize_axis(context, int(context.attribute("axis", -1)), rank)
    results = standardize(
        context,
        context.input(0),
        list(range(axis, rank)),
        float(context.attribute("epsilon", 1e-5)),
        _scale_and_bias(wide(dtype), False, _broadcast_to(context.shape(0))),
        [context.input(1)],
        statistics=context.has_output(1),
        centered=False,
    )
    return [results[0], *([results[2]] if len(results) > 1 else [])]


@converter("InstanceNormalization", since=1)
def instance_normalization(context: NodeContext) -> relax.Expr:
    """InstanceNormalization-1, 6, 22: over the spatial axes, a scale and a bias for each channel."""
    rank = len(context.shape(0))
    return standardize(
        context,
        context.input(0),
        list(range(2, rank)),
        float(context.attribute("epsilon", 1e-5)),
        _scale_and_bias(wide(context.dtype(0)), True, lambda parameter, i: parameter(i[1])),
        [context.input(1), context.input(2)],
    )[0]


@converter("GroupNormalization", since=18)
def group_normalization(context: NodeContext) -> relax.Expr:
    """GroupNormalization-18 (a scale and a bias for each group) and 21 (for each channel)."""
    from tvm import relax

    sizes = context.shape(0)
    groups = int(context.attribute("num_groups"))
    channels = sizes[1]
    if not isinstance(channels, int) or channels % groups:
        context.unsupported(f"{channels} channels do not fall into {groups} groups")
    members = channels // groups
    grouped = context.emit(relax.op.reshape(context.input(0), [sizes[0], groups, members, *sizes[2:]]))

    def place(parameter: te.Tensor, i: Indices) -> Any:
        return parameter(i[1] if context.opset < 21 else i[1] * members + i[2])

    normalized = standardize(
        context,
        grouped,
        list(range(2, len(sizes) + 1)),
        float(context.attribute("epsilon", 1e-5)),
        _scale_and_bias(wide(context.dtype(0)), True, place),
        [context.input(1), context.input(2)],
    )[0]
    return relax.op.reshape(normalized, list(sizes))


@converter("MeanVarianceNormalization", since=9)
def mean_variance_normalization(context: NodeContext) -> relax.Expr:
    """MeanVarianceNormalization-9, 13: (x - mean) / (deviation + 1e-9) over `axes`."""
    from tvm import te, tirx

    dtype, rank = context.dtype(0), len(context.shape(0))
    compute = wide(dtype)
    axes = sorted({normalize_axis(context, int(a), rank) for a in context.attribute("axes", [0, 2, 3])})

    def compute_all(x: te.Tensor) -> te.Tensor:
        rows = Rows(dims(x), axes)
        count = rows.elements(compute)

        def value(*i: Any) -> tirx.Expr:
            return cast_expr(x(*i), compute)

        total = rows.reduce("sum", value, "total")

        def centre(*i: Any) -> tirx.Expr:
            return value(*i) - total(*rows.row(i)) / count

        squares = rows.reduce("sum", lambda *i: centre(*i) * centre(*i), "squares")

        def result(*i: Any) -> tirx.Expr:
            deviation = tirx.sqrt(squares(*rows.row(i)) / count) + const_expr(1e-9, compute)
            return cast_expr(centre(*i) / deviation, dtype)

        return te.compute(rows.sizes, result, name="mvn", attrs=rows.attributes)

    return context.te(compute_all, context.input(0))


@converter("LpNormalization", since=1)
def lp_normalization(context: NodeContext) -> relax.Expr:
    """LpNormalization-1, 22 for p 1 and 2; rows of zeros stay zero."""
    from tvm import te, tirx

    dtype = context.dtype(0)
    compute = wide(dtype)
    p = int(context.attribute("p", 2))
    if p not in (1, 2):
        context.unsupported(f"p is {p}, ONNX knows 1 and 2")
    axis = normalize_axis(context, int(context.attribute("axis", -1)), len(context.shape(0)))

    def compute_all(x: te.Tensor) -> te.Tensor:
        rows = Rows(dims(x), [axis])

        def value(*i: Any) -> tirx.Expr:
            return cast_expr(x(*i), compute)

        total = rows.reduce("sum", lambda *i: tirx.abs(value(*i)) if p == 1 else value(*i) * value(*i), "total")

        def result(*i: Any) -> tirx.Expr:
            zero = const_expr(0, compute)
            norm = total(*rows.row(i)) if p == 1 else tirx.sqrt(total(*rows.row(i)))
            return cast_expr(tirx.Select(tirx.EQ(norm, zero), zero, value(*i) / norm), dtype)

        return te.compute(rows.sizes, result, name="lp_norm", attrs=rows.attributes)

    return context.te(compute_all, context.input(0))


@converter("LRN", since=1)
def local_response_normalization(context: NodeContext) -> relax.Expr:
    """LRN-1, 13: over `size` neighbouring channels, the odd one out on the far side."""
    from tvm import te, tirx

    dtype = context.dtype(0)
    compute = wide(dtype)
    size = int(context.attribute("size"))
    alpha, beta = float(context.attribute("alpha", 1e-4)), float(context.attribute("beta", 0.75))
    bias = float(context.attribute("bias", 1.0))
    before = (size - 1) // 2

    def compute_all(x: te.Tensor) -> te.Tensor:
        sizes = dims(x)
        neighbour = te.reduce_axis((0, size), name="neighbour")

        def squared(*i: Any) -> tirx.Expr:
            channel = i[1] + neighbour - before
            value = cast_expr(x(i[0], channel, *i[2:]), compute)
            inside = tirx.all(channel >= 0, channel < sizes[1])
            return tirx.if_then_else(inside, value * value, const_expr(0, compute))

        total = te.compute(sizes, lambda *i: te.sum(squared(*i), axis=neighbour), name="total")

        def result(*i: Any) -> tirx.Expr:
            scale = const_expr(bias, compute) + const_expr(alpha / size, compute) * total(*i)
            return cast_expr(cast_expr(x(*i), compute) / tirx.pow(scale, const_expr(beta, compute)), dtype)

        # one thread an element: its window of channels is short
        return te.compute(
            sizes, result, name="lrn", attrs=reduction_attributes([*sizes, 1], [len(sizes)], range(len(sizes)))
        )

    return context.te(compute_all, context.input(0))


# batch normalization -------------------------------------------------------------------------------------------------


@converter("BatchNormalization", since=1)
def batch_normalization(context: NodeContext) -> list[relax.Expr]:
    """BatchNormalization-1, 6 (`is_test`, `spatial`), 7, 9, 14 and 15 (`training_mode`)."""
    epsilon = float(context.attribute("epsilon", 1e-5))
    if context.opset >= 14:
        training = bool(context.attribute("training_mode", 0))
    elif context.opset >= 7:
        training = len([name for name in context.node.output if name]) > 1
    else:
        training = not context.attribute("is_test", 0)
    if training:
        return _batch_statistics(context, epsilon)
    return [_apply_statistics(context, context.input(3), context.input(4), epsilon)]


def _apply_statistics(context: NodeContext, mean: relax.Expr, variance: relax.Expr, epsilon: float) -> relax.Expr:
    """scale * (x - mean) / sqrt(variance + epsilon) + bias, one parameter a channel (or an element, `spatial` = 0)."""
    from tvm import te, tirx

    dtype = context.dtype(0)
    compute = wide(dtype)

    def compute_all(x: te.Tensor, *parameters: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> tirx.Expr:
            own = i[1 : 1 + len(parameters[0].shape)]
            scale, bias, centre, spread = (cast_expr(p(*own), compute) for p in parameters)
            factor = scale / tirx.sqrt(spread + const_expr(epsilon, compute))
            return cast_expr((cast_expr(x(*i), compute) - centre) * factor + bias, dtype)

        return te.compute(dims(x), element, name="batchnorm")

    return context.te(compute_all, context.input(0), context.input(1), context.input(2), mean, variance)


def _batch_statistics(context: NodeContext, epsilon: float) -> list[relax.Expr]:
    """Training mode: the batch's own mean and (biased) variance, and the running ones as further outputs."""
    from tvm import te

    dtype = context.dtype(0)
    compute = wide(dtype)
    momentum = float(context.attribute("momentum", 0.9))
    if len(shape_of(context.input(1))) != 1:
        context.unsupported("training mode with statistics for each element (spatial = 0)")

    def statistics(x: te.Tensor) -> list[te.Tensor]:
        rows = Rows(dims(x), [a for a in range(len(x.shape)) if a != 1])
        count = rows.elements(compute)

        def value(*i: Any) -> tirx.Expr:
            return cast_expr(x(*i), compute)

        total = rows.reduce("sum", value, "total")

        def squared(*i: Any) -> tirx.Expr:
            centre = value(*i) - total(*rows.row(i)) / count
            return centre * centre

        squares = rows.reduce("sum", squared, "squares")
        return [
            te.compute(rows.shape, lambda *i: total(*i) / count, name="mean"),
            te.compute(rows.shape, lambda *i: squares(*i) / count, name="variance"),
        ]

    mean, variance = context.te(statistics, context.input(0), name="batch_statistics")

    def running(old: relax.Expr, new: relax.Expr) -> relax.Expr:
        kind = wide(dtype_of(old))
        return elementwise(
            context,
            lambda a, b: a * const_expr(momentum, kind) + cast_expr(b, kind) * const_expr(1 - momentum, kind),
            old,
            new,
            name="running_statistic",
        )

    results = [_apply_statistics(context, mean, variance, epsilon)]
    results += [running(context.input(3), mean), running(context.input(4), variance)]
    if context.opset < 14:
        results += [elementwise(context, lambda v: v, v, dtype=dtype, name="saved") for v in (mean, variance)]
    return results[: max(len(context.node.output), 1)]


# ONNX Runtime --------------------------------------------------------------------------------------------------------


@converter("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain="com.microsoft")
def skip_layer_normalization(context: NodeContext) -> list[relax.Expr]:
    """Layer (or RMS) normalization of input + skip (+ bias) over the last axis; the sum is an output too."""
    simplified = context.node.op_type.startswith("SkipSimplified")
    # Skip: input, skip, gamma, beta, bias; simplified: input, skip, gamma, bias
    beta = None if simplified else 3
    bias = 3 if simplified else 4
    terms = [context.input(0), context.input(1), *([context.input(bias)] if context.has_input(bias) else [])]

    def add(*values: tirx.Expr) -> tirx.Expr:
        total = values[0]
        for value in values[1:]:
            total = total + value
        return total

    total = elementwise(context, add, *terms, name="skip_sum")
    rank, compute = len(shape_of(total)), wide(dtype_of(total))
    has_beta = beta is not None and context.has_input(beta)
    results = standardize(
        context,
        total,
        [rank - 1],
        float(context.attribute("epsilon", 1e-12)),
        _scale_and_bias(compute, has_beta, _broadcast_to(context.shape(0))),
        [context.input(2), *([context.input(3)] if has_beta else [])],
        statistics=context.has_output(1) or context.has_output(2),
        centered=not simplified,
    )
    statistics = results[1:] or [total, total]  # the places of outputs that the node does not have
    return [results[0], *statistics, total]
