"""Shapes, element types and arrays as hypothesis draws them; sizes and seeds shrink, values follow from the seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

Array = np.ndarray
Shape = tuple[int, ...]
Draw = Any
"""Hypothesis's `draw` of a composite strategy."""

FLOATS = ("float32", "float16", "bfloat16", "float64")
SIGNED = ("int32", "int64", "int8", "int16")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGERS = (*SIGNED, *UNSIGNED)
NUMBERS = (*FLOATS, *INTEGERS)
ANY = (*NUMBERS, "bool")

SIZES = (2, 1, 3, 4, 5, 7, 8, 0, 33)
MOST_ELEMENTS = 600


def kind_of(dtype: str) -> np.dtype:
    """The numpy type of this name, ml_dtypes' included."""
    return np.dtype(getattr(ml_dtypes, dtype, dtype))


def is_float(dtype: str) -> bool:
    return dtype in FLOATS or dtype.startswith("float8")


def one_of(draw: Draw, values: Sequence[Any]) -> Any:
    return draw(st.sampled_from(list(values)))


def flag(draw: Draw) -> bool:
    return bool(draw(st.booleans()))


def integer(draw: Draw, low: int, high: int) -> int:
    return int(draw(st.integers(low, high)))


def shape(
    draw: Draw,
    least: int = 0,
    most: int = 6,
    empty: bool = True,
    sizes: Sequence[int] = SIZES,
    elements: int = MOST_ELEMENTS,
) -> Shape:
    """A shape of rank `least` to `most`, with sizes of 0 unless `empty` is False."""
    rank = integer(draw, least, most)
    allowed = [s for s in sizes if s or empty]
    result: list[int] = []
    for _ in range(rank):
        size = one_of(draw, allowed)
        result.append(size if math.prod(max(s, 1) for s in (*result, size)) <= elements else 1)
    return tuple(result)


def axis(draw: Draw, rank: int) -> int:
    """An axis from the front or from the back."""
    return integer(draw, -rank, rank - 1)


def axes(draw: Draw, rank: int, least: int = 0) -> list[int]:
    """Different axes in any order, each from the front or from the back."""
    if not rank:
        return []
    order = draw(st.permutations(range(rank)))
    return [a - rank if flag(draw) else a for a in order[: integer(draw, least, rank)]]


def broadcast(draw: Draw, whole: Shape) -> Shape:
    """A shape that broadcasts to `whole`: leading axes are missing, some of the others 1."""
    own = whole[integer(draw, 0, len(whole)) :]
    return tuple(1 if flag(draw) else d for d in own)


def broadcast_pair(draw: Draw, **limits: Any) -> tuple[Shape, Shape]:
    """Two shapes that numpy broadcasts, either of which may be the larger one."""
    whole = shape(draw, **limits)
    other = broadcast(draw, whole)
    if flag(draw):
        whole = tuple(1 if flag(draw) else d for d in whole)
        result = np.broadcast_shapes(whole, other)
        assert math.prod(result) <= MOST_ELEMENTS
    return (whole, other) if flag(draw) else (other, whole)


def specials(dtype: str) -> list[Any]:
    """What goes wrong first: NaN, infinities, both zeros, denormals, halves, the type's bounds."""
    if dtype == "bool":
        return []
    if is_float(dtype):
        limits = ml_dtypes.finfo(kind_of(dtype))
        bounds = [float(v) for v in (limits.max, limits.min, limits.tiny, limits.smallest_subnormal)]
        return [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -0.5, -2.5, *bounds, -bounds[-1]]
    info = np.iinfo(dtype)
    return [0, 1, info.max, info.min, info.max - 1, info.min + 1, *([-1] if info.min else [info.max // 2 + 1])]


def values(
    draw: Draw,
    of: Shape,
    dtype: str,
    low: float | None = None,
    high: float | None = None,
    special: bool | Sequence[Any] = True,
    ties: bool = True,
) -> Array:
    """An array of `dtype`.

    Args:
        draw: hypothesis's.
        of: its shape.
        dtype: its type.
        low: floats lie in [low, high], integers too; -4 to 4 and the whole range, or -9 to 9, by default.
        high: see `low`.
        special: whether some elements are among `specials` (those in the range where one is given), or what they are.
        ties: whether floats may be whole numbers only, so that many are equal.
    """
    rng = np.random.default_rng(integer(draw, 0, 2**31))
    kind = kind_of(dtype)
    if dtype == "bool":
        return rng.integers(0, 2, of).astype(bool)
    if is_float(dtype):
        result = rng.uniform(-4 if low is None else low, 4 if high is None else high, of)
        if ties and flag(draw):
            result = np.round(result)
    else:
        info = np.iinfo(dtype)
        wide = low is None and flag(draw)
        least = int(info.min if wide else max(info.min, -9 if low is None else math.ceil(low)))
        most = int(info.max if wide else min(info.max, 9 if high is None else math.floor(high)))
        result = rng.integers(least, most, of, dtype=kind, endpoint=True)
    result = np.asarray(result).astype(kind)
    chosen = specials(dtype) if special is True else list(special or [])
    if special is True and (low is not None or high is not None):
        chosen = [v for v in chosen if (low is None or v >= low) and (high is None or v <= high)]
    if chosen and result.size:
        picked = draw(st.lists(st.sampled_from(chosen), max_size=4))
        if picked:
            places = rng.random(of) < 0.3
            result[places] = np.array(picked, kind)[rng.integers(0, len(picked), of)][places]
    return result


def indices(draw: Draw, of: Shape, extent: int, dtype: str = "int64", negative: bool = True) -> Array:
    """Positions in an axis of `extent` elements, counted from either end."""
    rng = np.random.default_rng(integer(draw, 0, 2**31))
    return np.asarray(rng.integers(-extent if negative else 0, extent, of)).astype(dtype)
