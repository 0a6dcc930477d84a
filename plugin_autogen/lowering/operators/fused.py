"""Products fused with transposes and a factor, as ONNX Runtime's optimizer writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugin_autogen.lowering.registry import NodeContext, converter, dtype_of, shape_of
from plugin_autogen.lowering.te_helpers import const_expr, dtype_of_expr, elementwise, wide

if TYPE_CHECKING:
    from tvm import relax


@converter("FusedMatMul", "TransposeMatMul", domain="com.microsoft")
def fused_matmul(context: NodeContext) -> relax.Expr:
    """alpha * A' @ B'; `trans…` swaps the last two axes, `transBatch…` moves the first axis behind the batch ones."""
    from tvm import relax

    a = _transposed(context, context.input(0), "transA", "transBatchA")
    b = _transposed(context, context.input(1), "transB", "transBatchB")
    dtype = dtype_of(a)
    product = context.emit(relax.op.matmul(a, b, out_dtype=wide(dtype)))
    alpha = float(context.attribute("alpha", 1.0))
    if alpha == 1.0 and wide(dtype) == dtype:
        return product
    return elementwise(context, lambda x: x * const_expr(alpha, dtype_of_expr(x)), product, dtype=dtype, name="scale")


def _transposed(context: NodeContext, value: relax.Expr, transpose: str, batch: str) -> relax.Expr:
    from tvm import relax

    rank = len(shape_of(value))
    order = list(range(rank))
    if context.attribute(batch, 0) and rank > 2:
        order = [*order[1:-1], order[0], order[-1]]
    if context.attribute(transpose, 0) and rank > 1:
        order[-2:] = order[-1], order[-2]
    return value if order == list(range(rank)) else context.emit(relax.op.permute_dims(value, order))
