"""Window functions and MelWeightMatrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from plugin_autogen import dtypes
from plugin_autogen.lowering.registry import NodeContext, converter
from plugin_autogen.lowering.te_helpers import cast_expr, const_expr

if TYPE_CHECKING:
    from tvm import relax, te, tirx

# a_0, a_1, … of a_0 - a_1 cos(2 pi n / N) + a_2 cos(4 pi n / N), as ONNX states them
_COSINES: dict[str, Sequence[float]] = {
    "HannWindow": (0.5, 0.5),
    "HammingWindow": (25 / 46, 21 / 46),
    "BlackmanWindow": (0.42, 0.5, 0.08),
}


def _output_type(context: NodeContext) -> str:
    return dtypes.from_onnx(int(context.attribute("output_datatype", 1))).held_as


@converter(*_COSINES, since=17)
def window(context: NodeContext) -> relax.Expr:
    """HannWindow, HammingWindow and BlackmanWindow-17: `size` is known; periodic, or symmetric."""
    from tvm import te, tirx

    size, dtype = int(context.constant(0).reshape(-1)[0]), _output_type(context)
    period = size if context.attribute("periodic", 1) else size - 1
    coefficients = _COSINES[context.node.op_type]
    compute = "float64" if dtype == "float64" else "float32"

    def element(i: Any) -> tirx.Expr:
        value = const_expr(coefficients[0], compute)
        for order, coefficient in enumerate(coefficients[1:], 1):
            # a symmetric window of one sample has no period; its sample is that of the phase 0
            angle = tirx.Cast(compute, i) * const_expr(2 * math.pi * order / max(period, 1), compute)
            value = value + const_expr(coefficient * (-1) ** order, compute) * tirx.cos(angle)
        return cast_expr(value, dtype)

    return context.te(lambda: te.compute((size,), element, name="window"))


@converter("MelWeightMatrix", since=17)
def mel_weight_matrix(context: NodeContext) -> relax.Expr:
    """MelWeightMatrix-17: triangles of equal width on the mel scale, the frequencies known or not.

    The bin of each edge is found in float64 as ONNX's reference does: rounding could move it by one.
    """
    from tvm import te, tirx

    bands, length = (int(context.constant(i).reshape(-1)[0]) for i in range(2))
    dtype = _output_type(context)
    bins = length // 2 + 1
    given = [context.input(i) for i in (2, 3, 4)]

    def real(value: float) -> tirx.Expr:
        return tirx.const(value, "float64")

    def compute_all(rate: te.Tensor, low: te.Tensor, high: te.Tensor) -> te.Tensor:
        def scalar(tensor: te.Tensor) -> tirx.Expr:
            return cast_expr(tensor(*[0] * len(tensor.shape)), "float64")

        def mel(frequency: tirx.Expr) -> tirx.Expr:
            return real(2595) * tirx.log1p(frequency / real(700)) / real(math.log(10))

        def edge(i: Any) -> tirx.Expr:
            first, last = mel(scalar(low)), mel(scalar(high))
            position = first + tirx.Cast("float64", i) * ((last - first) / real(bands + 2))
            frequency = real(700) * (tirx.exp(position / real(2595) * real(math.log(10))) - real(1))
            return tirx.Cast("int32", tirx.floor(real(length + 1) * frequency / scalar(rate)))

        edges = te.compute((bands + 2,), edge, name="edges")

        def element(row: Any, band: Any) -> tirx.Expr:
            lower, center, upper = edges(band), edges(band + 1), edges(band + 2)
            row = tirx.Cast("int32", row)
            up = tirx.Cast("float64", row - lower) / tirx.Cast("float64", tirx.max(center - lower, 1))
            down = tirx.Cast("float64", upper - row) / tirx.Cast("float64", tirx.max(upper - center, 1))
            rising = tirx.Select(tirx.all(row >= lower, row <= center), up, real(0))
            rising = tirx.Select(tirx.EQ(lower, center), tirx.Select(tirx.EQ(row, center), real(1), real(0)), rising)
            # at the center itself the falling side is written last
            return cast_expr(tirx.Select(tirx.all(row >= center, row < upper), down, rising), dtype)

        return te.compute((bins, bands), element, name="mel")

    return context.te(compute_all, *given)
