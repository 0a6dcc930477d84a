"""Compares arrays: element type and shape exactly, values to a tolerance that follows from the element type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

TOLERANCE = {
    "float64": (1e-9, 1e-10),
    "float32": (1e-4, 1e-5),
    "float16": (1e-2, 2e-3),
    "bfloat16": (4e-2, 1.6e-2),
    "float8_e4m3fn": (0.13, 0.07),
    "float8_e5m2": (0.26, 0.13),
}
"""Element type → (relative, absolute as a share of the largest reference value); every other type must be equal."""


@dataclass(frozen=True)
class Tolerance:
    """What a value may differ by: the sum of the three.

    Attributes:
        relative: as a share of the reference value.
        share: as a share of the largest finite reference value of the array.
        absolute: in the output's own unit.
    """

    relative: float = 0.0
    share: float = 0.0
    absolute: float = 0.0

    @staticmethod
    def of(dtype: str) -> Tolerance:
        """What the element type allows: nothing for integers."""
        return Tolerance(*TOLERANCE.get(dtype, (0.0, 0.0)))


@dataclass(frozen=True)
class Difference:
    """How far an output is from its reference.

    Attributes:
        absolute: largest absolute difference over finite values.
        relative: the same over the largest finite reference value.
        place: index of the worst element.
        message: None where the output is right, else what is wrong.
    """

    absolute: float
    relative: float
    place: tuple[int, ...]
    message: str | None


def difference(actual: np.ndarray, expected: np.ndarray, tolerance: Tolerance | None = None) -> Difference:
    """The difference between an output and its reference. NaN equals NaN, infinities equal those of the same sign.

    `tolerance` is what the element type allows by default.
    """
    import numpy as np

    if actual.dtype != expected.dtype:
        return Difference(np.inf, np.inf, (), f"element type {actual.dtype}, reference {expected.dtype}")
    if actual.shape != expected.shape:
        return Difference(np.inf, np.inf, (), f"shape {list(actual.shape)}, reference {list(expected.shape)}")
    if not actual.size:
        return Difference(0.0, 0.0, (), None)
    a, e = (x.astype(np.float64) if x.dtype.kind not in "iub" else x for x in (actual, expected))
    allowed = tolerance if tolerance is not None else Tolerance.of(expected.dtype.name)
    if a.dtype.kind in "iub":
        wrong = a != e
        size = np.abs(e.astype(np.float64))
        gap = np.where(wrong, np.abs(a.astype(np.float64) - e.astype(np.float64)), 0)
        if allowed != Tolerance():
            wrong = gap > allowed.relative * size + allowed.share * size.max() + allowed.absolute
    else:
        with np.errstate(invalid="ignore", over="ignore"):
            same = (a == e) | (np.isnan(a) & np.isnan(e))
            gap = np.where(same, 0, np.abs(a - e))
            scale = np.max(np.abs(e), where=np.isfinite(e), initial=0.0)
            wrong = ~same & ~(
                np.isfinite(e) & (gap <= allowed.relative * np.abs(e) + allowed.share * scale + allowed.absolute)
            )
        gap = np.where(np.isnan(gap), np.inf, gap)
    place = tuple(int(i) for i in np.unravel_index(int(np.argmax(np.where(wrong, gap + 1, gap))), gap.shape))
    largest = float(gap[place])
    reference_scale = float(np.max(np.abs(e.astype(np.float64)), where=np.isfinite(e.astype(np.float64)), initial=0.0))
    message = None
    if wrong.any():
        message = (
            f"{int(wrong.sum())} of {wrong.size} values differ, the worst at {list(place)}: "
            f"{actual[place]} instead of {expected[place]}"
        )
    return Difference(largest, largest / reference_scale if reference_scale else largest, place, message)
