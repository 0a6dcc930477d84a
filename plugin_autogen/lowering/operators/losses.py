"""NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from plugin_autogen.lowering.operators.normalization import Rows, largest_of
from plugin_autogen.lowering.registry import NodeContext, converter
from plugin_autogen.lowering.te_helpers import as_scalar, cast_expr, const_expr, dims, wide

if TYPE_CHECKING:
    from tvm import relax, te, tirx

LogProbability = Callable[..., Any]


@converter("NegativeLogLikelihoodLoss", since=12)
def negative_log_likelihood(context: NodeContext) -> relax.Expr:
    """NegativeLogLikelihoodLoss-12, 13, 22."""
    compute = wide(context.dtype(0))
    return _loss(context, lambda x: lambda *i: cast_expr(x(*i), compute))


@converter("SoftmaxCrossEntropyLoss", since=12)
def softmax_cross_entropy(context: NodeContext) -> list[relax.Expr]:
    """SoftmaxCrossEntropyLoss-12, 13, with the logarithms of the probabilities where they are asked for."""
    from tvm import te

    dtype = context.dtype(0)

    def log_probability(x: te.Tensor) -> LogProbability:
        return _log_softmax(x, wide(dtype))

    loss = _loss(context, log_probability)
    if not context.has_output(1):
        return [loss]

    def all_of_them(x: te.Tensor) -> te.Tensor:
        element = log_probability(x)
        return te.compute(dims(x), lambda *i: cast_expr(element(*i), dtype), name="log_prob")

    return [loss, context.te(all_of_them, context.input(0), name="log_prob")]


def _log_softmax(x: te.Tensor, compute: str) -> LogProbability:
    """The stages of a log-softmax over axis 1, and how to read an element of it."""
    from tvm import tirx

    rows = Rows(dims(x), [1])

    def value(*i: Any) -> tirx.Expr:
        return cast_expr(x(*i), compute)

    top = largest_of(rows, value)
    total = rows.reduce("sum", lambda *i: tirx.exp(value(*i) - top(*i)), "total")
    return lambda *i: value(*i) - top(*i) - tirx.log(total(*rows.row(i)))


def _loss(context: NodeContext, log_probability: Callable[[te.Tensor], LogProbability]) -> relax.Expr:
    """-weight[target] * log_probability[target], each, summed, or averaged over the weights that count.

    Targets equal to `ignore_index` count nothing. Others must lie in the range of the classes (ONNX leaves them open);
    here they count nothing either, so that no foreign memory is read.
    """
    from tvm import te, tirx

    dtype = context.dtype(0)
    compute = wide(dtype)
    reduction = context.attribute("reduction", "mean")
    ignored = context.attribute("ignore_index")
    weights = [context.input(2)] if context.has_input(2) else []

    def compute_all(x: te.Tensor, target: te.Tensor, *weight: te.Tensor) -> te.Tensor:
        classes = dims(x)[1]
        zero, one = const_expr(0, compute), const_expr(1, compute)
        element = log_probability(x)

        def label(*i: Any) -> tuple[Any, Any]:
            """The target's class, and whether it counts."""
            own = tirx.Cast("int64", target(*i))
            counts = tirx.all(own >= 0, own < classes)
            if ignored is not None:
                counts = tirx.all(counts, tirx.NE(own, tirx.const(int(ignored), "int64")))
            return own, counts

        def weight_of(*i: Any) -> tirx.Expr:
            own, counts = label(*i)
            factor = cast_expr(weight[0](own), compute) if weight else one
            return tirx.if_then_else(counts, factor, zero)

        def loss(*i: Any) -> tirx.Expr:
            own, counts = label(*i)
            factor = cast_expr(weight[0](own), compute) if weight else one
            return tirx.if_then_else(counts, zero - element(i[0], own, *i[1:]) * factor, zero)

        if reduction == "none":
            return te.compute(dims(target), lambda *i: cast_expr(loss(*i), dtype), name="loss")
        # one row of everything, with an axis of its own: schedules want a loop around a reduction
        everything = Rows([1, *dims(target)], range(1, len(target.shape) + 1))
        total = everything.reduce("sum", lambda _, *i: loss(*i), "loss")
        if reduction == "sum":
            return te.compute((1,), lambda _: cast_expr(total(0), dtype), name="sum")
        counted = everything.reduce("sum", lambda _, *i: weight_of(*i), "counted")
        return te.compute((1,), lambda _: cast_expr(total(0) / counted(0), dtype), name="mean")

    if reduction not in ("none", "sum", "mean"):
        context.unsupported(f"reduction {reduction!r} is none of none, sum and mean")
    result = context.te(compute_all, context.input(0), context.input(1), *weights)
    return result if reduction == "none" else as_scalar(context, result)
