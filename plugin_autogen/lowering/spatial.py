"""Sliding windows of convolutions and poolings: attributes to kernel, strides, dilations and padding; output sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plugin_autogen.lowering.registry import Dimension, NodeContext

PER_OUTPUT = {"plugin_autogen.schedule": "thread_per_output"}
"""Block annotation that asks for one GPU thread an output (`schedule/rules/thread_per_output.py`)."""


@dataclass(frozen=True)
class Window:
    """A window that slides over the spatial axes; all tuples have one entry a spatial axis.

    Attributes:
        kernel, strides, dilations: in elements.
        before, after: padding at the beginning and the end, in elements; may hold TIR expressions for SAME padding of a
            symbolic size. `after` is at least what the last window reads past the end only where `ceil_mode` is 0.
        outputs: number of windows.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[Dimension, ...]
    after: tuple[Dimension, ...]
    outputs: tuple[Dimension, ...]

    @property
    def size(self) -> int:
        """Elements in one window."""
        return math.prod(self.kernel)

    def position(self, output: Sequence[Any], offset: Sequence[Any]) -> list[Any]:
        """Coordinates in the unpadded input that window `output` reads at `offset` within the kernel."""
        return [
            o * s + k * d - b
            for o, s, k, d, b in zip(output, self.strides, offset, self.dilations, self.before, strict=True)
        ]


def sliding_window(context: NodeContext, sizes: Sequence[Dimension], kernel: Sequence[int]) -> Window:
    """Reads `strides`, `dilations`, `pads`, `auto_pad` and `ceil_mode` of the node.

    Args:
        sizes: of the input's spatial axes.
        kernel: window sizes, the same number of axes.
    """
    rank = len(sizes)
    kernel = tuple(int(k) for k in kernel)
    strides = _per_axis(context, "strides", rank)
    dilations = _per_axis(context, "dilations", rank)
    ceil_mode = bool(context.attribute("ceil_mode", 0))
    auto_pad = context.attribute("auto_pad", "NOTSET") or "NOTSET"
    pads = [int(p) for p in context.attribute("pads", [0] * 2 * rank)]
    if len(kernel) != rank or len(pads) != 2 * rank:
        context.unsupported(f"kernel_shape {list(kernel)} or pads {pads} do not fit {rank} spatial axes")
    if min([*kernel, *strides, *dilations], default=1) < 1:
        context.unsupported("kernel_shape, strides and dilations must be at least 1")
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    before: list[Dimension] = list(pads[:rank])
    after: list[Dimension] = list(pads[rank:])
    outputs: list[Dimension] = []
    for a in range(rank):
        size, extent, stride = sizes[a], extents[a], strides[a]
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            count = _floor_divide(size + stride - 1, stride)
            total = _at_least_zero((count - 1) * stride + extent - size)
            less = _floor_divide(total, 2)
            more = total - less
            before[a], after[a] = (less, more) if auto_pad == "SAME_UPPER" else (more, less)
            outputs.append(count)
            continue
        if auto_pad == "VALID":
            before[a] = after[a] = 0
        span = size + before[a] + after[a] - extent
        if not ceil_mode:
            outputs.append(_floor_divide(span, stride) + 1)
            continue
        count = _floor_divide(span + stride - 1, stride) + 1
        if isinstance(count, int) and isinstance(size, int) and (count - 1) * stride >= size + before[a]:
            count -= 1  # a window that starts in the padding at the end does not count
        outputs.append(count)
    return Window(kernel, strides, dilations, tuple(before), tuple(after), tuple(outputs))


def inside(position: Sequence[Any], sizes: Sequence[Dimension]) -> Any:
    """The condition that a position lies in the tensor: TIR expression, or True for no axis."""
    from tvm import tirx

    conditions = [c for p, n in zip(position, sizes, strict=True) for c in (p >= 0, p < n)]
    return tirx.all(*conditions) if conditions else tirx.const(True, "bool")


def _per_axis(context: NodeContext, name: str, rank: int) -> tuple[int, ...]:
    values = tuple(int(v) for v in context.attribute(name, None) or [1] * rank)
    if len(values) != rank:
        context.unsupported(f"{name} {list(values)} does not fit {rank} spatial axes")
    return values


def _floor_divide(value: Dimension, divisor: int) -> Dimension:
    from tvm import tirx

    return value // divisor if isinstance(value, int) else tirx.floordiv(value, divisor)


def _at_least_zero(value: Dimension) -> Dimension:
    from tvm import tirx

    return max(value, 0) if isinstance(value, int) else tirx.max(value, 0)
