"""Ranges of dynamic dimensions: what `--minShapes`, `--optShapes`, `--maxShapes` and `-dynamic` say, as plain data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from plugin_autogen.errors import SelectionError, shorten

Shape = tuple[int, ...]

LARGEST = 2**31 - 1
"""The largest size of a dimension that every TensorRT takes."""

BATCH_MIN, BATCH_OPT, BATCH_MAX = 1, 128, 256
"""TPAT's defaults for `-min`, `-opt` and `-max`."""


@dataclass(frozen=True)
class Range:
    """Sizes that a dimension may have; `opt` is the one to be fastest at.

    `max` is None where nothing limits it: such a dimension takes any size, and `opt` is no more than a usual size.
    """

    min: int
    opt: int
    max: int | None = None

    def union(self, other: Range) -> Range:
        """The range that holds both, with this one's `opt`."""
        limit = None if self.max is None or other.max is None else max(self.max, other.max)
        return Range(min(self.min, other.min), self.opt, limit)


@dataclass(frozen=True)
class ShapeRange:
    """The smallest, best and largest shape of a tensor, as an optimization profile has them."""

    min: Shape
    opt: Shape
    max: Shape

    @property
    def axes(self) -> list[Range]:
        """The range of each axis."""
        return [Range(*sizes) for sizes in zip(self.min, self.opt, self.max, strict=True)]


@dataclass(frozen=True)
class ShapeRanges:
    """What the user said about shapes.

    Attributes:
        tensors: by tensor of the model, graph input or not.
        batch: the range of the first dimension of what the selected nodes depend on; None: as the model has it.
    """

    tensors: Mapping[str, ShapeRange] = field(default_factory=dict)
    batch: Range | None = None

    def __bool__(self) -> bool:
        return bool(self.tensors) or self.batch is not None


def batch_range(smallest: int | None, best: int | None, largest: int | None) -> Range:
    """The range that `-min`, `-opt` and `-max` give, with TPAT's defaults, which give way to what is given.

    Raises:
        SelectionError: not 0 <= min <= opt <= max, or beyond `LARGEST`.
    """
    low = min(BATCH_MIN, *(v for v in (best, largest) if v is not None), BATCH_MIN) if smallest is None else smallest
    high = max(BATCH_MAX, low, best or 0) if largest is None else largest
    middle = min(max(BATCH_OPT, low), high) if best is None else best
    if not 0 <= low <= middle <= high <= LARGEST:
        raise SelectionError(
            f"the batch sizes -min {low}, -opt {middle}, -max {high} are out of order: give 0 <= min <= opt <= max"
        )
    return Range(low, middle, high)


# `name:1x8x64`; a name with a colon or a comma may stand in single quotes, as trtexec has it.
_ENTRY = re.compile(r"(?:'(?P<quoted>[^']+)'|(?P<plain>[^,']+)):(?P<shape>scalar|\d+(?:x\d+)*)(?:,|$)")


def parse_shapes(text: str, option: str) -> dict[str, Shape]:
    """Tensor name → shape from trtexec's spelling: `x:1x8x64,y:4` (and `'in:0':1x8`, `s:scalar`).

    Raises:
        SelectionError: not that spelling, a tensor given twice, or a size beyond `LARGEST`.
    """
    shapes: dict[str, Shape] = {}
    position = 0
    while position < len(text) or not text:
        match = _ENTRY.match(text, position)
        if match is None:
            raise SelectionError(f"{option}: '{shorten(text[position:], 80)}' is no shape: write x:1x8x64,y:4")
        name = match["quoted"] or match["plain"]
        if name in shapes:
            raise SelectionError(f'{option} gives tensor "{shorten(name)}" twice: give it one shape')
        shape = () if match["shape"] == "scalar" else tuple(map(int, match["shape"].split("x")))
        if any(size > LARGEST for size in shape):
            raise SelectionError(f'{option}: a dimension of "{shorten(name)}" is beyond {LARGEST}')
        shapes[name] = shape
        position = match.end()
    return shapes


def shape_ranges(
    smallest: Mapping[str, Shape], best: Mapping[str, Shape], largest: Mapping[str, Shape]
) -> dict[str, ShapeRange]:
    """The three options together. What one leaves out comes from the others: min from opt, then max; opt from max, then
    min; max from opt, then min.

    Raises:
        SelectionError: shapes of different ranks, or not min <= opt <= max.
    """
    ranges = {}
    for name in dict.fromkeys([*smallest, *best, *largest]):
        low, middle, high = smallest.get(name), best.get(name), largest.get(name)
        minimum = low if low is not None else middle if middle is not None else high
        optimum = middle if middle is not None else high if high is not None else low
        maximum = high if high is not None else middle if middle is not None else low
        assert minimum is not None and optimum is not None and maximum is not None
        shown = f"{_joined(minimum)}, {_joined(optimum)}, {_joined(maximum)}"
        if not len(minimum) == len(optimum) == len(maximum):
            raise SelectionError(f'the shapes of tensor "{shorten(name)}" ({shown}) differ in rank')
        if not all(a <= b <= c for a, b, c in zip(minimum, optimum, maximum, strict=True)):
            raise SelectionError(f'the shapes of tensor "{shorten(name)}" ({shown}) are not in the order min, opt, max')
        ranges[name] = ShapeRange(minimum, optimum, maximum)
    return ranges


def profile_options(ranges: Mapping[str, ShapeRange]) -> tuple[str, ...]:
    """`--minShapes=…`, `--optShapes=…`, `--maxShapes=…` for trtexec; nothing for no ranges."""
    if not ranges:
        return ()

    def written(which: str) -> str:
        return ",".join(f"{_quoted(name)}:{_joined(getattr(shape, which))}" for name, shape in ranges.items())

    return tuple(f"--{which}Shapes={written(which)}" for which in ("min", "opt", "max"))


def _quoted(name: str) -> str:
    return f"'{name}'" if ":" in name or "," in name else name


def _joined(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"
