"""GridSample: every output reads its neighbours around a position of the grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plugin_autogen.lowering.registry import NodeContext, converter, dtype_of, shape_of
from plugin_autogen.lowering.spatial import inside
from plugin_autogen.lowering.te_helpers import cast_expr, wide
from plugin_autogen.lowering.te_sampling import Tap, clamp, cubic_taps, linear_taps, narrow, weighted_sum

CUBIC_A = -0.75
MODES = {"bilinear": "linear", "bicubic": "cubic"}
"""Names that opset 16 had for what later ones call otherwise."""


@converter("GridSample", since=16)
def grid_sample(context: NodeContext) -> Any:
    """Any number of spatial axes; nearest, linear, cubic; padding by zeros, border or reflection."""
    from tvm import te, tirx

    data, grid = context.input(0), context.input(1)
    shape, places = shape_of(data), shape_of(grid)
    dtype, real = dtype_of(data), wide(dtype_of(grid))
    mode = context.attribute("mode", "linear")
    mode = MODES.get(mode, mode)
    padding = context.attribute("padding_mode", "zeros")
    corners = bool(context.attribute("align_corners", 0))
    if mode not in ("nearest", "linear", "cubic"):
        context.unsupported(f"mode '{mode}' is none of nearest, linear, cubic")
    if padding not in ("zeros", "border", "reflection"):
        context.unsupported(f"padding_mode '{padding}' is none of zeros, border, reflection")
    sizes, rank = shape[2:], len(shape) - 2
    if rank < 1 or len(places) != rank + 2:
        context.unsupported(f"data {list(shape)} and grid {list(places)} do not go together")
    value_type = dtype if mode == "nearest" else "float64" if dtype == "float64" else "float32"

    def position(normalized: Any, size: Any) -> Any:
        """A coordinate of the grid in elements, moved into the image unless zeros surround that."""
        length = _number(size, real)
        if corners:
            at = (normalized + 1.0) * 0.5 * (length - 1.0)
        else:
            at = ((normalized + 1.0) * length - 1.0) * 0.5
        if mode == "nearest":
            at = tirx.nearbyint(at)
        if padding == "border" and mode != "cubic":
            return clamp(at, tirx.const(0, real), length - 1.0)
        if padding == "reflection":
            low, high = _borders(length, corners, real)
            return tirx.Select(tirx.any(at < low, at > high), reflect(at, size), at)
        # outside of the image only taps are moved (cubic, as PyTorch has it) or all is zero: near enough for an integer
        return clamp(at, tirx.const(-4, real), length + 4.0)

    def reflect(at: Any, size: Any) -> Any:
        low, high = _borders(_number(size, real), corners, real)
        if corners and isinstance(size, int) and size == 1:
            return tirx.const(0, real)
        return low + _reflected(at - low, high - low)

    def taps(at: Any) -> list[Tap]:
        if mode == "nearest":
            return [(at.astype("int32"), None)]
        return linear_taps(at) if mode == "linear" else cubic_taps(at, CUBIC_A)

    def inward(index: Any, size: Any) -> Any:
        """What padding makes of the index of a neighbour."""
        if padding == "zeros":
            return index
        if padding == "reflection":
            index = reflect(index.astype(real), size).astype("int32")
        return clamp(index, 0, size - 1)

    def value(data: Any, grid: Any, o: Any, bind: Callable[[Any], Any]) -> Any:
        """The output at (batch, channel, *place); `data` and `grid` take a list of indices, `bind` names a value."""
        found = []
        for axis, size in enumerate(sizes):
            # the grid names the last axis first
            at = bind(position(cast_expr(grid([o[0], *o[2:], rank - 1 - axis]), real), size))
            at = at.astype(value_type) if mode != "nearest" and value_type != real else at
            neighbours = taps(at)
            found.append([(bind(inward(i, size)), None if w is None else bind(w)) for i, w in neighbours])

        def load(*indices: Any) -> Any:
            element = cast_expr(data([*o[:2], *indices]), value_type)
            if padding != "zeros":
                return element
            zero = cast_expr(tirx.const(0, "float32"), value_type)
            return tirx.if_then_else(inside(indices, sizes), element, zero)

        result = weighted_sum(found, load)
        return result if value_type == dtype else narrow(result, dtype)

    outputs = (shape[0], shape[1], *places[1:-1])
    if mode == "nearest" or (mode == "linear" and padding != "reflection" and rank <= 2):
        return context.te(
            lambda data, grid: te.compute(
                outputs,
                lambda *o: value(lambda i: data(*i), lambda i: grid(*i), o, lambda bound: bound),
                name="sampled",
            ),
            data,
            grid,
        )

    from plugin_autogen.lowering import te_loops as loops

    def sample(data: Any, grid: Any, result: Any) -> None:
        with loops.grid(*outputs, dtype=loops.index_type(shape, places, outputs)) as o:
            result[tuple(o)] = value(lambda i: data[tuple(i)], lambda i: grid[tuple(i)], o, loops.bind)

    # many neighbours share long index expressions: written as statements each is computed (and compiled) once
    return loops.kernel(context, sample, [data, grid], [(outputs, dtype)])


def _number(size: Any, dtype: str) -> Any:
    """A size as a floating point expression."""
    from tvm import tirx

    return tirx.const(float(size), dtype) if isinstance(size, int) else size.astype(dtype)


def _borders(length: Any, corners: bool, dtype: str) -> tuple[Any, Any]:
    """Between which coordinates positions are reflected: centres of the outermost elements, or their edges."""
    from tvm import tirx

    return (tirx.const(0, dtype), length - 1.0) if corners else (tirx.const(-0.5, dtype), length - 0.5)


def _reflected(distance: Any, span: Any) -> Any:
    """A distance from the lower border folded into [0, span]."""
    from tvm import tirx

    distance = tirx.abs(distance)
    rest = distance - tirx.floor(distance / (span * 2.0)) * (span * 2.0)
    return tirx.Select(rest > span, span * 2.0 - rest, rest)
