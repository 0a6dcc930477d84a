"""Resize and Upsample: every output gathers its taps along each axis, in one kernel; antialiasing takes one an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from plugin_autogen.lowering.registry import Dimension, NodeContext, converter, dtype_of, shape_of
from plugin_autogen.lowering.spatial import PER_OUTPUT
from plugin_autogen.lowering.te_sampling import Tap, clamp, cubic_taps, linear_taps, narrow, weighted_sum

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class _Axis:
    """How one axis is resampled: output `o` looks at position `o * step + start` of the input.

    Attributes:
        axis: in the tensor.
        size, output: of input and output.
        step, start: in elements of the input.
        scale: as ONNX has it, output over input (for antialiasing).
        valid: first and last output that lie in the input, where others get the extrapolation value; else None.
    """

    axis: int
    size: int
    output: int
    step: float
    start: float
    scale: float
    valid: tuple[int, int] | None = None

    def positions(self) -> np.ndarray:
        """Of all outputs, as float64."""
        import numpy as np

        return np.arange(self.output) * self.step + self.start


@dataclass(frozen=True)
class _RatioAxis:
    """How an axis of symbolic size is resampled: output `o` looks at `(o * multiplier + offset) / divisor`, exactly.

    Attributes:
        axis: in the tensor.
        size, output: of input and output.
        multiplier, offset, divisor: ints, or expressions of the size; the divisor is positive.
        shrinks: whether the output is known to be shorter.
    """

    axis: int
    size: Dimension
    output: Dimension
    multiplier: Dimension
    offset: Dimension
    divisor: Dimension
    shrinks: bool

    def floor(self, o: Any, half: int = 0) -> Any:
        """The position plus `half` halves, rounded down."""
        from tvm import tirx

        whole = o.astype("int64") * self.multiplier + self.offset
        if half:
            return tirx.floordiv(2 * whole + half * self.divisor, 2 * self.divisor)
        return tirx.floordiv(whole, self.divisor)

    def nearest(self, o: Any, mode: str) -> Any:
        """The index that output `o` takes."""
        from tvm import tirx

        if mode == "simple":
            mode = "ceil" if self.shrinks else "floor"
        if mode in ("round_prefer_floor", "ceil"):
            mirrored = replace(self, multiplier=-1 * self.multiplier, offset=-1 * self.offset)
            index = 0 - mirrored.floor(o, 1 if mode == "round_prefer_floor" else 0)
        else:
            index = self.floor(o, 1 if mode == "round_prefer_ceil" else 0)
        return clamp(index, tirx.const(0, "int64"), self.size - 1)

    def position(self, o: Any, real: str) -> Any:
        """The position as a floating point number."""
        from tvm import tirx

        from plugin_autogen.lowering import te_loops

        whole = self.floor(o)
        rest = o.astype("int64") * self.multiplier + self.offset - whole * self.divisor
        divisor = te_loops.real(self.divisor, real)
        if not isinstance(self.divisor, int):  # TVM's simplifier dies of a quotient of two integers cast to floats
            divisor = tirx.max(divisor, tirx.const(1, real))
        return whole.astype(real) + rest.astype(real) / divisor


@dataclass(frozen=True)
class _Settings:
    mode: str
    transformation: str
    nearest: str
    cubic_a: float
    exclude_outside: bool
    extrapolation: float
    antialias: bool


@converter("Resize", since=10)
def resize_10(context: NodeContext) -> Any:
    """Resize-10: scales only; nearest rounds down, or up where the axis shrinks."""
    scales = [float(s) for s in context.constant(1).reshape(-1)]
    settings = _Settings(context.attribute("mode", "nearest"), "asymmetric", "simple", -0.75, False, 0.0, False)
    axes = list(range(len(scales)))
    return _resize(context, settings, axes, scales, None, None)


@converter("Upsample", since=1)
def upsample(context: NodeContext) -> Any:
    """Upsample-1 (two scales as attributes), 7 (a list) and 9 (an input)."""
    rank = len(context.shape(0))
    if context.has_input(1):
        scales = [float(s) for s in context.constant(1).reshape(-1)]
    elif context.attribute("scales"):
        scales = [float(s) for s in context.attribute("scales")]
    else:
        scales = [1.0, 1.0, float(context.attribute("height_scale")), float(context.attribute("width_scale"))]
    mode = context.attribute("mode", "nearest")
    settings = _Settings(mode, "asymmetric", "floor", -0.75, False, 0.0, False)
    return _resize(context, settings, list(range(rank)), scales, None, None)


@converter("Resize", since=11)
def resize(context: NodeContext) -> Any:
    """Resize-11, 13, 18 (axes, antialias, keep_aspect_ratio_policy) and 19 (half_pixel_symmetric)."""
    rank = len(context.shape(0))
    axes = [int(a) % rank for a in context.attribute("axes") or range(rank)]
    settings = _Settings(
        context.attribute("mode", "nearest"),
        context.attribute("coordinate_transformation_mode", "half_pixel"),
        context.attribute("nearest_mode", "round_prefer_floor"),
        float(context.attribute("cubic_coeff_a", -0.75)),
        bool(context.attribute("exclude_outside", 0)),
        float(context.attribute("extrapolation_value", 0.0)),
        bool(context.attribute("antialias", 0)),
    )
    values = [[float(v) for v in context.constant(i).reshape(-1)] if context.has_input(i) else [] for i in range(1, 4)]
    roi, scales, sizes = values
    if context.is_shape_input(3):
        return _resize_to(context, settings, axes)
    return _resize(context, settings, axes, scales, [int(s) for s in sizes] or None, roi or None)


def _resize_to(context: NodeContext, settings: _Settings, axes: Sequence[int]) -> Any:
    """Resize to sizes that are known at run time only; an axis that is known to stay as it is costs nothing."""
    from plugin_autogen.lowering.te_helpers import same_size

    if settings.mode not in ("nearest", "linear", "cubic"):
        context.unsupported(f"mode '{settings.mode}' is none of nearest, linear, cubic")
    shape, stated = context.shape(0), context.stated_shape(0)
    targets = context.resolve_shape(3, list)
    if len(targets) != len(axes):
        context.unsupported(f"{len(targets)} sizes for {len(axes)} axes")
    resampled: list[_Axis | _RatioAxis] = []
    for axis, target in zip(axes, targets, strict=True):
        known = stated[axis] if stated is not None else None
        if known is not None and same_size(known, shape[axis]):
            continue
        size = target if known is None else known
        resampled.append(_symbolic(context, settings.transformation, axis, shape[axis], size, None))
    return _gathered(context, settings, resampled)


def _resize(
    context: NodeContext,
    settings: _Settings,
    axes: Sequence[int],
    scales: Sequence[float],
    sizes: Sequence[int] | None,
    roi: Sequence[float] | None,
) -> Any:
    shape = context.shape(0)
    if settings.mode not in ("nearest", "linear", "cubic"):
        context.unsupported(f"mode '{settings.mode}' is none of nearest, linear, cubic")
    if len(sizes or scales) != len(axes):
        context.unsupported(f"{len(sizes or scales)} scales or sizes for {len(axes)} axes")
    resampled: list[_Axis | _RatioAxis] = []
    policy = context.attribute("keep_aspect_ratio_policy", "stretch")
    if sizes is not None and policy != "stretch":
        ratios = [s / _static(context, shape[a]) for s, a in zip(sizes, axes, strict=True)]
        scale = min(ratios) if policy == "not_larger" else max(ratios)
        scales = [scale] * len(axes)
        sizes = [math.floor(scale * _static(context, shape[a]) + 0.5) for a in axes]
    for i, axis in enumerate(axes):
        if sizes is None and scales[i] == 1 and roi is None:
            continue  # the axis stays as it is; its size may be symbolic
        size = shape[axis]
        if not isinstance(size, int):
            ratio = None if sizes is not None else _ratio(context, scales[i])
            target = sizes[i] if sizes is not None else None
            resampled.append(_symbolic(context, settings.transformation, axis, size, target, ratio))
            continue
        output = sizes[i] if sizes is not None else math.floor(scales[i] * size)
        scale = scales[i] if len(scales) else output / size
        window = (roi[i], roi[i + len(axes)]) if roi is not None else (0.0, 1.0)
        one = _transformed(context, settings.transformation, axis, size, output, scale, window)
        if one.step != 1 or one.start != 0 or output != size:
            resampled.append(one)
    if not resampled:
        return context.input(0)
    if settings.antialias and settings.mode != "nearest":
        known = [axis for axis in resampled if isinstance(axis, _Axis)]
        if len(known) < len(resampled):
            context.unsupported("antialias along an axis of dynamic size", "give the axis a fixed size")
        return _antialiased(context, settings, known)
    return _gathered(context, settings, resampled)


def _static(context: NodeContext, size: Any) -> int:
    if not isinstance(size, int):
        context.unsupported("the size of a resized axis must be known")
    return size


LARGEST_TERM = 4096
"""Of the ratios of whole numbers that a scale along a dynamic axis may be."""


def _ratio(context: NodeContext, scale: float) -> Fraction:
    """The scale, which is a float32, as the ratio of whole numbers that it stands for."""
    import numpy as np

    found = Fraction(scale).limit_denominator(LARGEST_TERM)
    if np.float32(found.numerator / found.denominator) != np.float32(scale):
        context.unsupported(
            f"scale {scale} along an axis of dynamic size is no ratio of whole numbers up to {LARGEST_TERM}",
            "give the axis a fixed size",
        )
    return found


def _symbolic(
    context: NodeContext, mode: str, axis: int, size: Any, target: Dimension | None, ratio: Fraction | None
) -> _RatioAxis:
    """The transformations of `_transformed` in whole numbers, for an axis whose size is known at run time.

    Args:
        context: of the node.
        mode: coordinate transformation.
        axis: in the tensor.
        size: of the input.
        target: of the output, or None where `ratio` decides it.
        ratio: output over input; None: `target` over `size`.
    """
    from tvm import tirx

    # output / input = up / down
    up: Any
    down: Any
    if ratio is not None:
        up, down = ratio.numerator, ratio.denominator
        output = tirx.floordiv(size * up, down)
    else:
        up, down, output = target, size, target
    length = size * up  # of the output before it is rounded, times `down`
    if mode == "asymmetric":
        terms = (down, 0, up)
    elif mode == "tf_half_pixel_for_nn":
        terms = (2 * down, down, 2 * up)
    elif mode in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        terms = (2 * down, down - up, 2 * up)
        if mode == "half_pixel_symmetric":
            terms = (terms[0], terms[1] + length - output * down, terms[2])
        if mode == "pytorch_half_pixel":
            zero = tirx.const(0, "int64")
            terms = (*(tirx.Select(length > down, term, zero) for term in _wide(terms[:2])), terms[2])
    elif mode == "align_corners":
        one = tirx.const(1, "int64")
        terms = ((size - 1) * down, 0, tirx.max(length - down, one))
    else:
        context.unsupported(
            f"coordinate_transformation_mode '{mode}' along an axis of dynamic size", "give the axis a fixed size"
        )
    return _RatioAxis(axis, size, output, *terms, shrinks=ratio is not None and ratio < 1)


def _wide(values: Sequence[Any]) -> list[Any]:
    from tvm import tirx

    return [tirx.const(v, "int64") if isinstance(v, int) else v for v in values]


def _transformed(
    context: NodeContext, mode: str, axis: int, size: int, output: int, scale: float, roi: tuple[float, float]
) -> _Axis:
    """ONNX's coordinate transformations, all of them affine. `length` is the resized length before rounding."""
    length = scale * size
    step, start = 1.0 / scale if scale else 0.0, 0.0
    valid = None
    if mode == "align_corners":
        step = 0.0 if length == 1 else (size - 1) / (length - 1)
    elif mode == "tf_half_pixel_for_nn":
        start = 0.5 * step
    elif mode in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        start = 0.5 * step - 0.5
        if mode == "pytorch_half_pixel" and length == 1:
            step, start = 0.0, 0.0
        if mode == "half_pixel_symmetric":
            start += size / 2 * (1 - output / length)
    elif mode == "tf_crop_and_resize":
        begin, end = roi
        if length == 1:
            step, start = 0.0, (end - begin) * (size - 1) / 2 + begin * (size - 1)
        else:
            step, start = (end - begin) * (size - 1) / (length - 1), begin * (size - 1)
        inside = [o for o in range(output) if -1e-9 <= o * step + start <= size - 1 + 1e-9]
        valid = (inside[0], inside[-1]) if inside else (output, output)
    elif mode != "asymmetric":
        context.unsupported(f"coordinate_transformation_mode '{mode}' is not one that ONNX defines")
    return _Axis(axis, size, output, step, start, scale, valid)


def _gathered(context: NodeContext, settings: _Settings, axes: Sequence[_Axis | _RatioAxis]) -> Any:
    """One kernel: every output reads 1, 2 or 4 taps along each resampled axis."""
    from tvm import relax, te, tirx

    data = context.input(0)
    shape, dtype = shape_of(data), dtype_of(data)
    wide = dtype if settings.mode == "nearest" or dtype == "float64" else "float32"
    outputs = list(shape)
    for axis in axes:
        outputs[axis.axis] = axis.output
    tables = {}
    if settings.mode == "nearest":
        for axis in axes:
            if isinstance(axis, _RatioAxis):
                continue
            found = _nearest(axis, settings.nearest)
            if _closed_form(axis, found) is None:
                tables[axis.axis] = relax.const(found.astype("int32"), "int32")

    def compute(data: Any, *indices: Any) -> Any:
        table = dict(zip(tables, indices, strict=True))

        def taps(axis: _Axis | _RatioAxis, o: Any) -> list[Tap]:
            if isinstance(axis, _RatioAxis) and settings.mode == "nearest":
                return [(axis.nearest(o, settings.nearest), None)]
            if settings.mode == "nearest":
                assert isinstance(axis, _Axis)
                if axis.axis in table:
                    return [(table[axis.axis](o), None)]
                form = _closed_form(axis, _nearest(axis, settings.nearest))
                assert form is not None
                multiplier, offset, divisor = form
                index = tirx.floordiv(o * multiplier + offset, divisor) if divisor > 1 else o * multiplier + offset
                return [(index, None)]
            real = "float64" if dtype == "float64" else "float32"
            if isinstance(axis, _RatioAxis):
                position = axis.position(o, real)
            else:
                position = o.astype(real) * tirx.const(axis.step, real) + tirx.const(axis.start, real)
            if settings.mode == "linear":
                found = linear_taps(position)
            else:
                found = cubic_taps(position, settings.cubic_a)
                if settings.exclude_outside:
                    found = [
                        (i, tirx.Select(tirx.all(i >= 0, i < axis.size), w, tirx.const(0, real))) for i, w in found
                    ]
                    total = sum((w for _, w in found[1:]), found[0][1])
                    found = [(i, w / total) for i, w in found]
            return [(clamp(i, 0, axis.size - 1), w) for i, w in found]

        def one(*o: Any) -> Any:
            def load(*indices: Any) -> Any:
                place = list(o)
                for axis, index in zip(axes, indices, strict=True):
                    place[axis.axis] = index
                return data(*place).astype(wide)

            value = weighted_sum([taps(axis, o[axis.axis]) for axis in axes], load)
            valid = [
                condition
                for axis in axes
                if isinstance(axis, _Axis) and axis.valid is not None and axis.valid != (0, axis.output - 1)
                for condition in (o[axis.axis] >= axis.valid[0], o[axis.axis] <= axis.valid[1])
            ]
            if valid:
                outside = tirx.const(settings.extrapolation, "float32").astype(str(value.ty.dtype))
                value = tirx.if_then_else(tirx.all(*valid), value, outside)
            return narrow(value, dtype) if str(value.ty.dtype) != dtype else value

        return te.compute(outputs, one, name="resized")

    return context.te(compute, data, *tables.values())


def _nearest(axis: _Axis, mode: str) -> np.ndarray:
    """The index that each output takes. Positions that rounding moved off a whole or half number count as that."""
    import numpy as np

    positions = np.round(axis.positions() * 2**20) / 2**20
    if mode == "simple":
        mode = "ceil" if axis.scale < 1 else "floor"
    if mode == "round_prefer_floor":
        found = np.ceil(positions - 0.5)
    elif mode == "round_prefer_ceil":
        found = np.floor(positions + 0.5)
    else:
        found = np.ceil(positions) if mode == "ceil" else np.floor(positions)
    return np.clip(found, 0, axis.size - 1).astype(np.int64)


def _closed_form(axis: _Axis, found: np.ndarray) -> tuple[int, int, int] | None:
    """(multiplier, offset, divisor) with `found[o] == (o * multiplier + offset) // divisor`, where there is one."""
    import numpy as np

    outputs = np.arange(axis.output)
    common = math.gcd(axis.size, axis.output)
    size, output = axis.size // common, axis.output // common
    for multiplier, divisor in ((size, output), (2 * size, 2 * output)):
        for offset in {0, divisor // 2, size // 2, size, max(size - 1, 0), divisor - 1}:
            if np.array_equal((outputs * multiplier + offset) // divisor, found):
                return multiplier, offset, divisor
    return None


def _antialiased(context: NodeContext, settings: _Settings, axes: Sequence[_Axis]) -> Any:
    """One kernel an axis: as many taps as an output covers, their weights and first index in tables."""
    from tvm import relax, te

    value = context.input(0)
    dtype = dtype_of(value)
    wide = "float64" if dtype == "float64" else "float32"
    for number, axis in enumerate(axes):
        first, weights = _antialias_table(axis, settings)
        outputs = list(shape_of(value))
        outputs[axis.axis] = axis.output
        last = number == len(axes) - 1

        def along(
            data: Any, first: Any, weights: Any, axis: _Axis = axis, outputs: Any = outputs, last: bool = last
        ) -> Any:
            k = te.reduce_axis((0, int(weights.shape[1])), "k")

            def one(*o: Any) -> Any:
                place = list(o)
                place[axis.axis] = clamp(first(o[axis.axis]) + k, 0, axis.size - 1)
                return te.sum(data(*place).astype(wide) * weights(o[axis.axis], k), axis=k)

            total = te.compute(outputs, one, name="resized", attrs=PER_OUTPUT)
            if not last or dtype == wide:
                return total
            return te.compute(outputs, lambda *o: narrow(total(*o), dtype), name="narrowed")

        tables = relax.const(first.astype("int32"), "int32"), relax.const(weights.astype(wide), wide)
        value = context.te(along, value, *tables)
    return value


def _antialias_table(axis: _Axis, settings: _Settings) -> tuple[np.ndarray, np.ndarray]:
    """The first tap of each output, and the weights of its taps: a filter as wide as the distance between outputs."""
    import numpy as np

    scale = min(axis.scale, 1.0)
    positions = axis.positions()
    whole = np.floor(positions)
    # ONNX prefers the pixel on the left: a position on a pixel counts as one whole pixel right of the one before
    ratio = np.where(positions == whole, 1.0, positions - whole)
    left = whole - (positions == whole)
    reach = 1 if settings.mode == "linear" else 2
    start = math.floor(-reach / scale) + 1
    count = 2 - 2 * start
    distance = np.abs((start + np.arange(count)[None, :] - ratio[:, None]) * scale)
    if settings.mode == "linear":
        weights = np.clip(1 - distance, 0, 1)
    else:
        a = settings.cubic_a
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        weights = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
    first = left + start
    if settings.exclude_outside:
        index = first[:, None] + np.arange(count)[None, :]
        weights = np.where((index < 0) | (index >= axis.size), 0.0, weights)
    total = weights.sum(axis=1, keepdims=True)
    return first.astype(np.int64), weights / np.where(total == 0, 1.0, total)
