"""Cast, CastLike and BitCast between all types."""

from __future__ import annotations

import numpy as np

from plugin_autogen import dtypes
from tests.fuzz import draw as d
from tests.fuzz.case import Case, fuzz
from tests.fuzz.draw import Array, Draw


def _convertible(draw: Draw, source: str, to: str) -> Array:
    """Values whose conversion ONNX defines: to integers, floats in range that are finite."""
    shape = d.shape(draw)
    if not d.is_float(source) or d.is_float(to) or to == "bool":
        return d.values(draw, shape, source)
    info = np.iinfo(to)
    low, high = max(info.min, -(2**23)), min(info.max, 2**23)
    if source == "float16":
        low, high = max(low, -60000), min(high, 60000)
    if source == "bfloat16":  # rounds what is drawn away from zero
        low, high = low * 0.9, high * 0.9
    near = d.flag(draw)
    return d.values(draw, shape, source, low=max(low, -5) if near else low, high=min(high, 5) if near else high,
                    special=[v for v in d.specials(source) if low <= v <= high])  # fmt: skip


@fuzz("Cast", "CastLike")
def cast(draw: Draw, operator: str) -> Case:
    source, to = d.one_of(draw, d.ANY), d.one_of(draw, d.ANY)
    x = _convertible(draw, source, to)
    kind = d.kind_of(to)

    def expected(value: Array, *_: Array) -> Array:
        # the conversion to bfloat16 goes by way of float32 in ONNX Runtime too
        return (value.astype(np.float32) if to == "bfloat16" else value).astype(kind)

    if operator == "Cast":
        attributes = {"to": dtypes.from_name(to).onnx}
        return Case(operator, [x], attributes, expected=expected, widen=False, exact=True)
    return Case(operator, [x, np.zeros(d.shape(draw), kind)], {}, d.one_of(draw, [[], [1]]), expected=expected,
                widen=False, exact=True)  # fmt: skip
