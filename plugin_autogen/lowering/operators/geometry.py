"""Col2Im and AffineGrid."""

from __future__ import annotations

from typing import Any

from plugin_autogen.lowering.registry import NodeContext, converter


@converter("Col2Im", since=18)
def _col2im(context: NodeContext) -> Any:
    """One thread for each pixel adds up the elements of the blocks that cover it."""
    from tvm import te, tirx

    from plugin_autogen.lowering import te_loops as tl

    (batch, rows, _), dtype = context.shape(0), context.dtype(0)
    image, block = ([int(d) for d in context.constant(i)] for i in (1, 2))
    rank = len(image)
    strides = context.attribute("strides") or [1] * rank
    dilations = context.attribute("dilations") or [1] * rank
    pads = context.attribute("pads") or [0] * 2 * rank
    taps = tl.product(block)
    channels = rows // taps if isinstance(rows, int) else tirx.floordiv(rows, taps)
    steps = [
        (image[d] + pads[d] + pads[d + rank] - dilations[d] * (block[d] - 1) - 1) // strides[d] + 1 for d in range(rank)
    ]
    work = tl.accumulator(dtype)

    def compute(x: Any) -> Any:
        axes = [
            te.reduce_axis((tirx.const(0, "int64"), tirx.const(b, "int64")), name=f"k{d}") for d, b in enumerate(block)
        ]
        tap = tl.ravel([a.var for a in axes], block)

        def pixel(n: Any, c: Any, *place: Any) -> Any:
            """The blocks' elements that fall on the pixel: one for each tap that is a whole number of strides away."""
            position, fits = [], []
            for d in range(rank):
                offset = place[d] + pads[d] - axes[d].var * dilations[d]
                position.append(tirx.floordiv(offset, strides[d]))
                fits += [offset >= 0, tirx.floormod(offset, strides[d]) == 0, position[d] < steps[d]]
            value = x(n, c * taps + tap, tl.ravel(position, steps)).astype(work)
            return te.sum(tirx.if_then_else(tirx.all(*fits), value, tirx.const(0, work)), axis=axes)

        total = te.compute(tl.wide([batch, channels, *image]), pixel, name="col2im")
        if work == dtype:
            return total
        return te.compute(total.shape, lambda *i: total(*i).astype(dtype), name="narrowed")

    return context.te(compute, context.input(0))


@converter("AffineGrid", since=20)
def _affine_grid(context: NodeContext) -> Any:
    """Each coordinate is a row of the matrix times the place in the grid."""
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    dtype = context.dtype(0)
    batch, _, *sizes = (int(d) for d in context.constant(1))
    work = tl.accumulator(dtype)
    corners = bool(context.attribute("align_corners", 0))

    def place(index: Any, size: int) -> Any:
        """The coordinate in [-1, 1] of an index."""
        doubled = (index * 2).astype(work)
        if corners:
            return doubled / tirx.const(max(size - 1, 1), work) - tirx.const(1, work)
        return (doubled + tirx.const(1, work)) / tirx.const(size, work) - tirx.const(1, work)

    def element(position: list[Any], theta: Any) -> Any:
        n, *indices, row = position
        places = [place(i, size) for i, size in zip(indices, sizes, strict=True)][::-1]  # x comes first
        value = theta(n, row, len(sizes)).astype(work)
        for column, coordinate in enumerate(places):
            value = theta(n, row, column).astype(work) * coordinate + value
        return value.astype(dtype)

    return tl.gather(context, [batch, *sizes, len(sizes)], element, context.input(0))
