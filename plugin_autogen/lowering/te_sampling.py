"""Interpolation between elements: taps and weights along each axis, combined by nested weighted sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Tap = tuple[Any, Any]
"""An index (or None for the index variable of an axis that is not resampled) and its weight, None for 1."""


def weighted_sum(taps: Sequence[Sequence[Tap]], load: Callable[..., Any]) -> Any:
    """The sum over all combinations of one tap an axis of `load(*indices)` times the weights, axis by axis."""

    def combine(axis: int, indices: tuple[Any, ...]) -> Any:
        if axis == len(taps):
            return load(*indices)
        total: Any = None
        for index, weight in taps[axis]:
            value = combine(axis + 1, (*indices, index))
            value = value if weight is None else value * weight
            total = value if total is None else total + value
        return total

    return combine(0, ())


def linear_taps(position: Any) -> list[Tap]:
    """The two neighbours of a position (floating point) and their weights; indices are int32 and may lie outside."""
    from tvm import tirx

    lower = tirx.floor(position)
    share = position - lower
    index = lower.astype("int32")
    return [(index, 1.0 - share), (index + 1, share)]


def cubic_taps(position: Any, a: float) -> list[Tap]:
    """The four neighbours of a position and the weights of Keys' cubic convolution with coefficient `a`."""
    from tvm import tirx

    lower = tirx.floor(position)
    share = position - lower
    index = lower.astype("int32")

    def near(t: Any) -> Any:
        return ((a + 2) * t - (a + 3)) * t * t + 1.0

    def far(t: Any) -> Any:
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a

    return [
        (index - 1, far(share + 1.0)),
        (index, near(share)),
        (index + 1, near(1.0 - share)),
        (index + 2, far(2.0 - share)),
    ]


def clamp(value: Any, low: Any, high: Any) -> Any:
    """The value limited to [low, high]."""
    from tvm import tirx

    return tirx.max(tirx.min(value, high), low)


def narrow(value: Any, dtype: str) -> Any:
    """A floating point result in the element type of the data: integers are rounded half to even and saturate."""
    from tvm import tirx

    from plugin_autogen.lowering.te_helpers import cast_expr, is_float

    if is_float(dtype):
        return cast_expr(value, dtype)
    kind = str(value.ty.dtype)
    low, high = tirx.min_value(dtype), tirx.max_value(dtype)
    if dtype in ("int32", "uint32", "int64", "uint64"):
        return tirx.nearbyint(value).astype(dtype)
    return clamp(tirx.nearbyint(value), low.astype(kind), high.astype(kind)).astype("int32").astype(dtype)
