"""Convolutions, as products of matrices whose one operand is gathered from the input while it is read.

`convolve` writes a convolution as `patches` (the windows of the input, never stored on a GPU: schedules inline them
into the tiles in shared memory), `weights`, and their product. Depthwise and other thin convolutions have too few
output channels for tiles and are summed by one thread an output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from plugin_autogen.lowering.registry import NodeContext, converter, dtype_of, shape_of
from plugin_autogen.lowering.spatial import PER_OUTPUT, Window, inside, sliding_window
from plugin_autogen.lowering.te_operands import element, emit, operand

TILED_CHANNELS = 8
"""Output channels a group from which on a tile of threads shares what it reads."""


def convolve(
    batch: Any,
    outputs: Sequence[Any],
    weight_shape: Sequence[int],
    groups: int,
    sample: Callable[..., Any],
    weight: Callable[..., Any],
    finish: Callable[[Any, Any], Any] | None = None,
    sums: str | None = None,
) -> Any:
    """A convolution as tensor expressions.

    Args:
        batch: size of the batch axis.
        outputs: sizes of the output's spatial axes.
        weight_shape: (output channels, channels / groups, *kernel).
        sample: what the output at a position sees of the input, given (batch, channel, position, offset in the kernel);
            0 in the padding.
        weight: the weight in the same type, given (output channel, channel in its group, *offset).
        finish: the output's element from the sum and the output channel; None for the sum itself.
        sums: type that both are cast to before they are multiplied; None: they have it.

    Returns:
        A TE tensor of shape (batch, output channels, *outputs).
    """
    from tvm import te, tirx

    out_channels, channels, *kernel = (int(d) for d in weight_shape)
    features, rank = out_channels // groups, len(kernel)
    names = ("c", *(f"k{a}" for a in range(rank)))
    axes = [te.reduce_axis((0, n), name) for n, name in zip((channels, *kernel), names, strict=True)]
    shape = (batch, out_channels, *outputs)

    def factor(value: Any) -> Any:
        return value if sums is None else value.astype(sums)

    if features < TILED_CHANNELS:

        def direct(n: Any, m: Any, *o: Any) -> Any:
            first = tirx.floordiv(m, features) * channels if groups > 1 else 0
            return te.sum(factor(sample(n, first + axes[0], o, axes[1:])) * factor(weight(m, *axes)), axis=axes)

        total = te.compute(shape, direct, name="convolution", attrs=PER_OUTPUT)
    else:
        group = (groups,) if groups > 1 else ()
        patches = te.compute(
            (batch, *group, *outputs, channels, *kernel),
            lambda n, *i: sample(
                n,
                (i[0] * channels if groups > 1 else 0) + i[-rank - 1],
                i[len(group) : len(group) + rank],
                i[len(i) - rank :],
            ),
            name="patches",
        )
        weights = te.compute(
            (*group, features, channels, *kernel),
            lambda *i: weight((i[0] * features + i[1]) if groups > 1 else i[0], *i[len(group) + 1 :]),
            name="weights",
        )

        def product(n: Any, *i: Any) -> Any:
            g, m, o = i[: len(group)], i[len(group)], i[len(group) + 1 :]
            return te.sum(factor(patches(n, *g, *o, *axes)) * factor(weights(*g, m, *axes)), axis=axes)

        total = te.compute((batch, *group, features, *outputs), product, name="convolution")
    if finish is None and len(total.shape) == len(shape):
        return total

    def final(n: Any, m: Any, *o: Any) -> Any:
        channel = (m,) if len(total.shape) == len(shape) else (tirx.floordiv(m, features), tirx.floormod(m, features))
        value = total(n, *channel, *o)
        return value if finish is None else finish(value, m)

    return te.compute(shape, final, name="finished")


def padded_sample(
    window: Window, sizes: Sequence[Any], load: Callable[..., Any], dtype: str, padding: float = 0
) -> Callable[..., Any]:
    """`sample` of `convolve`: `load(batch, channel, *position)` inside a tensor of these spatial sizes."""
    from tvm import tirx

    from plugin_autogen.lowering.te_helpers import const_expr

    def sample(n: Any, c: Any, output: Sequence[Any], offset: Sequence[Any]) -> Any:
        position = window.position(output, offset)
        return tirx.if_then_else(inside(position, sizes), load(n, c, *position), const_expr(padding, dtype))

    return sample


def accumulator(dtype: str) -> str:
    """The type of the sums: float32 for the narrow floats."""
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def _groups(context: NodeContext, channels: Any, in_group: int, out_channels: int) -> int:
    groups = int(context.attribute("group", 1))
    if groups < 1 or out_channels % groups or (isinstance(channels, int) and channels != in_group * groups):
        context.unsupported(f"{channels} channels and {out_channels} features do not fit group={groups}")
    return groups


def _plus_bias(bias: Any, wide: str, dtype: str) -> Callable[[Any, Any], Any] | None:
    """`finish` of `convolve`: bias added, then the output's type."""
    if bias is None and wide == dtype:
        return None

    def finish(total: Any, channel: Any) -> Any:
        return (total if bias is None else total + element(bias, channel).astype(wide)).astype(dtype)

    return finish


@converter("Conv", since=1)
def conv(context: NodeContext) -> Any:
    """Any number of spatial axes; strides, dilations, groups, padding given or automatic."""
    data, weight = context.input(0), context.input(1)
    shape, kernel = shape_of(data), shape_of(weight)
    dtype, wide = dtype_of(data), accumulator(dtype_of(data))
    window = sliding_window(context, shape[2:], context.attribute("kernel_shape") or kernel[2:])
    groups = _groups(context, shape[1], kernel[1], kernel[0])

    def compute(data: Any, weight: Any, bias: Any) -> Any:
        return convolve(
            shape[0],
            window.outputs,
            kernel,
            groups,
            padded_sample(window, shape[2:], lambda *i: data(*i).astype(factors), factors),
            lambda *i: weight(*i).astype(factors),
            _plus_bias(bias, wide, dtype),
            wide,
        )

    # tensor cores take float16 as it is
    factors = dtype if dtype == "float16" else wide
    return emit(context, compute, {"data": data, "weight": weight, "bias": operand(context, 2)})


@converter("ConvTranspose", since=1)
def conv_transpose(context: NodeContext) -> Any:
    """The gradient of Conv, written so that each output gathers what reaches it.

    With a stride, the outputs that share a remainder modulo the stride see the same kernel elements: each remainder is
    a feature of a convolution with stride 1, and a second kernel puts the outputs in order.
    """
    from tvm import te, tirx

    data, weight = context.input(0), context.input(1)
    shape, weight_shape = shape_of(data), shape_of(weight)
    dtype, wide = dtype_of(data), accumulator(dtype_of(data))
    sizes, kernel = shape[2:], [int(k) for k in weight_shape[2:]]
    in_group = weight_shape[0] // int(context.attribute("group", 1))
    features = weight_shape[1]
    groups = _groups(context, shape[1], in_group, features * int(context.attribute("group", 1)))
    window, before = _transposed_window(context, sizes, kernel)
    strides, dilations, outputs = window.strides, window.dilations, window.outputs
    phases = math.prod(strides)
    by_phase = phases > 1 and all(d == 1 for d in dilations)
    bias = operand(context, 2)

    def flipped(data: Any, weight: Any, bias: Any) -> Any:
        """Every kernel element is asked; where its stride does not hit an input, it counts 0."""

        def sample(n: Any, c: Any, output: Any, offset: Any) -> Any:
            reach = [o + b - k * d for o, b, k, d in zip(output, before, offset, dilations, strict=True)]
            position = [tirx.floordiv(r, s) for r, s in zip(reach, strides, strict=True)]
            hits = [tirx.floormod(r, s) == 0 for r, s in zip(reach, strides, strict=True) if s > 1]
            condition = tirx.all(inside(position, sizes), *hits)
            return tirx.if_then_else(condition, data(n, c, *position).astype(wide), tirx.const(0, wide))

        return convolve(
            shape[0],
            outputs,
            (groups * features, in_group, *kernel),
            groups,
            sample,
            lambda m, c, *k: _transposed_weight(weight, m, c, k, features, in_group, groups).astype(wide),
            _plus_bias(bias, wide, dtype),
        )

    if not by_phase:
        return emit(context, flipped, {"data": data, "weight": weight, "bias": bias})

    steps = [-(-k // s) for k, s in zip(kernel, strides, strict=True)]
    quotients = [tirx.floordiv(o + b - 1, s) + 1 for o, b, s in zip(outputs, before, strides, strict=True)]
    quotients = [int(q) if isinstance(q, (int, tirx.IntImm)) else q for q in quotients]

    def by_remainder(data: Any, weight: Any) -> Any:
        def sample(n: Any, c: Any, output: Any, offset: Any) -> Any:
            position = [q - k for q, k in zip(output, offset, strict=True)]
            value = data(n, c, *position).astype(wide)
            return tirx.if_then_else(inside(position, sizes), value, tirx.const(0, wide))

        def phase_weight(m: Any, c: Any, *k: Any) -> Any:
            phase = _unravel(tirx.floormod(m, phases), strides)
            offset = [r + i * s for r, i, s in zip(phase, k, strides, strict=True)]
            value = _transposed_weight(weight, tirx.floordiv(m, phases), c, offset, features, in_group, groups).astype(
                wide
            )
            return tirx.if_then_else(inside(offset, kernel), value, tirx.const(0, wide))

        every = (groups * features * phases, in_group, *steps)
        return convolve(shape[0], quotients, every, groups, sample, phase_weight)

    def in_order(total: Any, bias: Any) -> Any:
        finish = _plus_bias(bias, wide, dtype) or (lambda value, channel: value)

        def one(n: Any, m: Any, *o: Any) -> Any:
            reach = [i + b for i, b in zip(o, before, strict=True)]
            phase = _ravel([tirx.floormod(r, s) for r, s in zip(reach, strides, strict=True)], strides)
            position = [tirx.floordiv(r, s) for r, s in zip(reach, strides, strict=True)]
            return finish(total(n, m * phases + phase, *position), m)

        return te.compute((shape[0], groups * features, *outputs), one, name="in_order")

    total = emit(context, by_remainder, {"data": data, "weight": weight})
    return emit(context, in_order, {"total": total, "bias": bias}, name="convtranspose_in_order")


def _transposed_window(context: NodeContext, sizes: Sequence[Any], kernel: Sequence[int]) -> tuple[Window, list[int]]:
    """The window (its `outputs` are the sizes of ConvTranspose's output) and the padding cut off at the beginning."""
    rank = len(sizes)
    strides = [int(s) for s in context.attribute("strides") or [1] * rank]
    dilations = [int(d) for d in context.attribute("dilations") or [1] * rank]
    extra = [int(p) for p in context.attribute("output_padding") or [0] * rank]
    pads = [int(p) for p in context.attribute("pads") or [0] * 2 * rank]
    auto_pad = context.attribute("auto_pad", "NOTSET") or "NOTSET"
    wanted = context.attribute("output_shape")
    full = [
        (n - 1) * s + e + (k - 1) * d + 1
        for n, s, e, k, d in zip(sizes, strides, extra, kernel, dilations, strict=True)
    ]
    if wanted:
        outputs = [int(w) for w in wanted[-rank:]]
    elif auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        outputs = [n * s for n, s in zip(sizes, strides, strict=True)]
    else:
        if auto_pad == "VALID":
            pads = [0] * 2 * rank
        outputs = [f - pads[a] - pads[a + rank] for a, f in enumerate(full)]
        return _window(kernel, strides, dilations, outputs), pads[:rank]
    totals = [f - o for f, o in zip(full, outputs, strict=True)]
    if not all(isinstance(t, int) for t in totals):
        context.unsupported("output_shape or SAME padding needs known spatial sizes")
    # total padding is what the output lacks; SAME_UPPER cuts the odd element at the end, all else at the beginning
    before = [max(t, 0) // 2 if auto_pad == "SAME_UPPER" else max(t, 0) - max(t, 0) // 2 for t in totals]
    return _window(kernel, strides, dilations, outputs), before


def _window(kernel: Sequence[int], strides: list[int], dilations: list[int], outputs: list[Any]) -> Window:
    nothing = (0,) * len(strides)
    return Window(tuple(kernel), tuple(strides), tuple(dilations), nothing, nothing, tuple(outputs))


def _transposed_weight(
    weight: Any, m: Any, c: Any, offset: Sequence[Any], features: int, in_group: int, groups: int
) -> Any:
    """ConvTranspose's weight (channels, features / groups, *kernel) at output channel `m`, channel `c` of its group."""
    from tvm import tirx

    if groups == 1:
        return weight(c, m, *offset)
    return weight(tirx.floordiv(m, features) * in_group + c, tirx.floormod(m, features), *offset)


def _unravel(index: Any, shape: Sequence[int]) -> list[Any]:
    from tvm import tirx

    place: list[Any] = []
    for extent in reversed(shape):
        place.insert(0, tirx.floormod(index, extent))
        index = tirx.floordiv(index, extent)
    return place


def _ravel(place: Sequence[Any], shape: Sequence[int]) -> Any:
    index: Any = 0
    for i, extent in zip(place, shape, strict=True):
        index = index * extent + i
    return index


@converter("CausalConvWithState", since=27)
def causal_conv_with_state(context: NodeContext) -> list[Any]:
    """A depthwise convolution over (batch, channels, length) that sees the last positions of the call before."""
    from tvm import relax, te, tirx

    data, weight = context.input(0), context.input(1)
    (batch, channels, length), (_, _, size) = shape_of(data), shape_of(weight)
    dtype, wide = dtype_of(data), accumulator(dtype_of(data))
    activation = context.attribute("activation", "none")
    if activation not in ("none", "silu", "swish"):
        context.unsupported(f"activation '{activation}' is none of none, silu, swish")
    operands = {"data": data, "weight": weight, "bias": operand(context, 2), "past": None}
    if context.has_input(3):
        operands["past"] = context.input(3)

    def at(data: Any, past: Any, n: Any, c: Any, position: Any) -> Any:
        """The input with the state, or zeros, in front of it."""
        if size == 1:
            return data(n, c, position)
        zero = tirx.const(0, "float32").astype(dtype)
        before = zero if past is None else past(n, c, tirx.max(tirx.min(position, size - 2), 0))
        return tirx.if_then_else(position < size - 1, before, data(n, c, tirx.max(position - (size - 1), 0)))

    def compute(data: Any, weight: Any, bias: Any, past: Any) -> Any:
        def finish(total: Any, channel: Any) -> Any:
            value = (total if bias is None else total + element(bias, channel).astype(wide)).astype(dtype)
            if activation == "none":
                return value
            value = value.astype("float32")
            return (value / (1.0 + tirx.exp(0.0 - value))).astype(dtype)

        return convolve(
            batch,
            [length],
            (channels, 1, size),
            channels,
            lambda n, c, o, k: at(data, past, n, c, o[0] + k[0]).astype(wide),
            lambda m, c, k: weight(m, c, k).astype(wide),
            finish,
        )

    def state(data: Any, past: Any) -> Any:
        return te.compute((batch, channels, size - 1), lambda n, c, i: at(data, past, n, c, length + i), name="state")

    results = [emit(context, compute, operands)]
    if context.has_output(1):
        if size == 1:
            results.append(relax.op.zeros((batch, channels, 0), dtype))
        else:
            results.append(emit(context, state, {"data": data, "past": operands["past"]}, name="state"))
    return results


@converter("DeformConv", since=19)
def deform_conv(context: NodeContext) -> Any:
    """Each kernel element reads at an offset of its own, interpolated linearly, scaled by the mask."""
    from tvm import tirx

    data, weight, offset = context.input(0), context.input(1), context.input(2)
    shape, kernel = shape_of(data), shape_of(weight)
    dtype, wide = dtype_of(data), accumulator(dtype_of(data))
    window = sliding_window(context, shape[2:], context.attribute("kernel_shape") or kernel[2:])
    groups = _groups(context, shape[1], kernel[1], kernel[0])
    offset_groups = int(context.attribute("offset_group", 1))
    if shape[1] % offset_groups:
        context.unsupported(f"{shape[1]} channels do not fit offset_group={offset_groups}")
    sharing, rank = shape[1] // offset_groups, len(window.kernel)

    def compute(data: Any, weight: Any, offset: Any, bias: Any, mask: Any) -> Any:
        def sample(n: Any, c: Any, output: Sequence[Any], k: Sequence[Any]) -> Any:
            place = (tirx.floordiv(c, sharing) if offset_groups > 1 else 0) * window.size + _ravel(k, window.kernel)
            moves = [offset(n, place * rank + a, *output).astype(wide) for a in range(rank)]
            position = [p.astype(wide) + m for p, m in zip(window.position(output, k), moves, strict=True)]
            value = interpolate(lambda *p: data(n, c, *p).astype(wide), position, shape[2:], wide)
            return value if mask is None else value * mask(n, place, *output).astype(wide)

        return convolve(
            shape[0],
            window.outputs,
            kernel,
            groups,
            sample,
            lambda *i: weight(*i).astype(wide),
            _plus_bias(bias, wide, dtype),
        )

    operands = {"data": data, "weight": weight, "offset": offset, "bias": operand(context, 3), "mask": None}
    if context.has_input(4):
        operands["mask"] = context.input(4)
    return emit(context, compute, operands)


def interpolate(load: Callable[..., Any], position: Sequence[Any], sizes: Sequence[Any], dtype: str) -> Any:
    """Linear interpolation at a position of floating point, 0 outside of the tensor.

    Args:
        load: the element at integer coordinates inside the tensor, in `dtype`.
        position: one coordinate an axis, in elements, in `dtype`.
    """
    from tvm import tirx

    lower = [tirx.floor(p) for p in position]
    share = [p - q for p, q in zip(position, lower, strict=True)]
    corners: Any = None
    for corner in range(2 ** len(sizes)):
        picks = [(corner >> a) & 1 for a in range(len(sizes))]
        at = [q.astype("int32") + pick for q, pick in zip(lower, picks, strict=True)]
        part = tirx.if_then_else(inside(at, sizes), load(*at), tirx.const(0, dtype))
        for s, pick in zip(share, picks, strict=True):
            part = part * (s if pick else tirx.const(1, dtype) - s)
        corners = part if corners is None else corners + part
    return corners
