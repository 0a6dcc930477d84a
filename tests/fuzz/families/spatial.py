"""Convolutions, pools, Resize, GridSample."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz import draw as d
from tests.fuzz.case import Case, default_reference, evaluator, fuzz
from tests.fuzz.draw import Array, Draw, Shape

TYPES = ("float32", "float32", "float16", "bfloat16")
"""Double precision is left out where neither reference computes it."""


def window(draw: Draw, rank: int, dilated: bool = True, ceil: bool = False) -> tuple[dict[str, Any], Shape, Shape]:
    """Attributes of a sliding window, the kernel, and the least sizes of the image that give a result."""
    kernel = tuple(d.integer(draw, 1, 3) for _ in range(rank))
    attributes: dict[str, Any] = {}
    if d.flag(draw):
        attributes["strides"] = [d.integer(draw, 1, 3) for _ in range(rank)]
    dilations = [1] * rank
    if dilated and d.flag(draw):
        dilations = attributes["dilations"] = [d.integer(draw, 1, 2) for _ in range(rank)]
    how = d.one_of(draw, ["pads", "", "SAME_UPPER", "SAME_LOWER", "VALID"])
    if how == "pads":
        attributes["pads"] = [d.integer(draw, 0, k - 1) for k in (*kernel, *kernel)]
    elif how:
        attributes["auto_pad"] = how
    if ceil and how in ("pads", "") and d.flag(draw):
        attributes["ceil_mode"] = 1
    return attributes, kernel, tuple((k - 1) * e + 1 for k, e in zip(kernel, dilations, strict=True))


def explicit(attributes: dict[str, Any], sizes: Shape, kernel: Shape) -> dict[str, Any]:
    """The same attributes with SAME padding as numbers: ONNX Runtime's pools forget the dilations there."""
    how = attributes.get("auto_pad", "")
    if not how.startswith("SAME"):
        return attributes
    one = [1] * len(sizes)
    windows = zip(sizes, kernel, attributes.get("strides", one), attributes.get("dilations", one), strict=True)
    totals = [max((-(-n // s) - 1) * s + (k - 1) * e + 1 - n, 0) for n, k, s, e in windows]
    less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
    result = {name: value for name, value in attributes.items() if name != "auto_pad"}
    return result | {"pads": less + more if how == "SAME_UPPER" else more + less}


def image(draw: Draw, least: Shape) -> Shape:
    return tuple(low + d.integer(draw, 0, 5) for low in least)


def _numbers(draw: Draw, shape: Shape, dtype: str) -> Array:
    return d.values(draw, shape, dtype, low=-3, high=3, special=False, ties=False)


@fuzz("Conv")
def conv(draw: Draw, operator: str) -> Case:
    rank = d.integer(draw, 1, 3)
    attributes, kernel, least = window(draw, rank)
    group, inside, outside = d.one_of(draw, [1, 1, 2, 3]), d.integer(draw, 1, 4), d.integer(draw, 1, 4)
    n, dtype = d.one_of(draw, [1, 2, 3]), d.one_of(draw, TYPES)
    x = _numbers(draw, (n, group * inside, *image(draw, least)), dtype)
    w = _numbers(draw, (group * outside, inside, *kernel), dtype)
    inputs = [x, w] + ([_numbers(draw, (group * outside,), dtype)] if d.flag(draw) else [])
    if group > 1:
        attributes["group"] = group
    return Case(operator, inputs, attributes, d.one_of(draw, [[], [1]]), opset=22)


@fuzz("ConvTranspose")
def conv_transpose(draw: Draw, operator: str) -> Case:
    rank = d.integer(draw, 1, 3)
    attributes, kernel, _ = window(draw, rank)
    if "auto_pad" in attributes and attributes["auto_pad"].startswith("SAME"):
        # SAME makes each size that of the input times the stride; a kernel shorter than the stride does not reach that
        # far, and ONNX Runtime gives less then
        attributes["strides"] = [min(s, k) for s, k in zip(attributes.get("strides", kernel), kernel, strict=True)]
    group, inside, outside = d.one_of(draw, [1, 1, 2]), d.integer(draw, 1, 3), d.integer(draw, 1, 3)
    dtype = d.one_of(draw, TYPES)
    strides = attributes.get("strides", [1] * rank)
    if d.flag(draw) and "auto_pad" not in attributes:
        attributes["output_padding"] = [d.integer(draw, 0, s - 1) for s in strides]
    x = _numbers(draw, (d.integer(draw, 1, 2), group * inside, *image(draw, (3,) * rank)), dtype)
    w = _numbers(draw, (group * inside, outside, *kernel), dtype)
    inputs = [x, w] + ([_numbers(draw, (group * outside,), dtype)] if d.flag(draw) else [])
    if group > 1:
        attributes["group"] = group
    return Case(operator, inputs, attributes, d.one_of(draw, [[], [1]]), opset=22)


@fuzz("MaxPool", "AveragePool", "LpPool")
def pool(draw: Draw, operator: str) -> Case:
    rank = d.integer(draw, 1, 3)
    attributes, kernel, least = window(draw, rank, ceil=True)
    attributes["kernel_shape"] = list(kernel)
    dtype = d.one_of(draw, (*TYPES, "int8", "uint8") if operator == "MaxPool" else TYPES)
    outputs = 1
    if operator == "MaxPool":
        if d.flag(draw):
            outputs = 2
            if d.flag(draw):
                attributes["storage_order"] = 1
    elif operator == "AveragePool":
        attributes["count_include_pad"] = int(d.flag(draw))
    else:
        attributes["p"] = d.one_of(draw, [1, 2, 3])
    x = _numbers(draw, (d.integer(draw, 1, 2), d.integer(draw, 1, 3), *image(draw, least)), dtype)
    same = explicit(attributes, x.shape[2:], kernel)
    return Case(operator, [x], attributes, outputs=outputs, opset=22,
                expected=lambda v: default_reference(Case(operator, [v], same, outputs=outputs, opset=22)))  # fmt: skip


@fuzz("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(draw: Draw, operator: str) -> Case:
    space = d.shape(draw, least=1, most=4, empty=False, sizes=(2, 1, 3, 33))
    x = _numbers(draw, (d.integer(draw, 1, 3), d.integer(draw, 1, 3), *space), d.one_of(draw, TYPES))
    attributes = {"p": d.one_of(draw, [1, 2, 3])} if operator == "GlobalLpPool" else {}

    def expected(value: Array) -> Array:
        wide, over = value.astype(np.float64), tuple(range(2, value.ndim))
        if operator == "GlobalLpPool":
            p = attributes["p"]
            result = (np.abs(wide) ** p).sum(axis=over, keepdims=True) ** (1 / p)
        else:
            result = (np.mean if operator == "GlobalAveragePool" else np.max)(wide, axis=over, keepdims=True)
        return np.asarray(result).astype(value.dtype)

    return Case(operator, [x], attributes, opset=22, expected=expected)


@fuzz("Resize")
def resize(draw: Draw, operator: str) -> Case:
    rank = d.integer(draw, 1, 3)
    mode = d.one_of(draw, ["nearest", "linear", "cubic"])
    attributes: dict[str, Any] = {"mode": mode}
    how = d.one_of(draw, ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"])
    attributes["coordinate_transformation_mode"] = how
    if mode == "nearest":
        attributes["nearest_mode"] = d.one_of(draw, ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    elif d.flag(draw):
        attributes["antialias"] = 1
    if mode == "cubic":
        attributes["cubic_coeff_a"] = d.one_of(draw, [-0.75, -0.5])
        rank = 2
    if mode == "cubic" and d.flag(draw) or attributes.get("antialias") and d.flag(draw):
        attributes["exclude_outside"] = 1
    space = tuple(d.integer(draw, 1, 8) for _ in range(rank))
    dtype = d.one_of(draw, (*TYPES, "uint8", "int8") if mode == "nearest" else TYPES)
    x = _numbers(draw, (d.integer(draw, 1, 2), d.integer(draw, 1, 2), *space), dtype)
    axes = list(range(2, 2 + rank))
    attributes["axes"] = [a - x.ndim for a in axes] if d.flag(draw) else axes
    if d.flag(draw):
        sizes = [d.integer(draw, 1, 12) for _ in space]
        outputs = sizes
        least = min(s / n for s, n in zip(sizes, space, strict=True))
        if all(least * n >= 0.6 for n in space) and d.flag(draw):  # else a size would be 0
            attributes["keep_aspect_ratio_policy"] = d.one_of(draw, ["stretch", "not_larger", "not_smaller"])
            outputs = [round(least * n) for n in space]
        inputs: list[Array | None] = [x, None, None, np.array(sizes, np.int64)]
    else:
        scales = [d.one_of(draw, [2.0, 0.5, 1.0, 3.0, 1.5, 0.75, 1.25]) for _ in space]
        scales = [max(s, 1.0 / n) for s, n in zip(scales, space, strict=True)]
        outputs = [int(s * n) for s, n in zip(scales, space, strict=True)]
        inputs = [x, None, np.array(scales, np.float32)]
    if how == "half_pixel_symmetric" and mode == "nearest":  # the evaluator's rounding errors move whole positions
        attributes["coordinate_transformation_mode"] = "half_pixel"
    if how == "pytorch_half_pixel" and min(outputs) <= 1:  # the evaluator takes the pixel at -0.5, ONNX says 0
        attributes["coordinate_transformation_mode"] = "half_pixel"

    def expected(*v: Array) -> list[Array]:
        # ONNX Runtime differs from ONNX in corners (aspect ratios, antialiasing without exclusion) and knows less; the
        # evaluator takes no negative axes, and half_pixel_symmetric's rounding errors for another pixel
        if attributes["coordinate_transformation_mode"] == "half_pixel_symmetric":
            return default_reference(Case(operator, v, attributes, [len(inputs) - 1], opset=19))
        return evaluator(Case(operator, v, attributes | {"axes": axes}, opset=19))

    return Case(operator, inputs, attributes, [len(inputs) - 1], opset=19, expected=expected)


@fuzz("GridSample")
def grid_sample(draw: Draw, operator: str) -> Case:
    rank = d.integer(draw, 2, 3)
    mode = d.one_of(draw, ["linear", "nearest", *(["cubic"] if rank == 2 else [])])
    attributes = {
        "mode": mode,
        "padding_mode": d.one_of(draw, ["zeros", "border", "reflection"]),
        "align_corners": int(d.flag(draw)),
    }
    n, c = d.integer(draw, 1, 2), d.integer(draw, 1, 3)
    x = _numbers(draw, (n, c, *(d.integer(draw, 1, 6) for _ in range(rank))), d.one_of(draw, ("float32", "float64")))
    size = (n, *(d.integer(draw, 1, 5) for _ in range(rank)), rank)
    grid = d.values(draw, size, x.dtype.name, low=-1.7, high=1.7, special=False, ties=False)
    return Case(operator, [x, grid], attributes, opset=20)
