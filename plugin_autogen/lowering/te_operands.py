"""Operands of tensor expressions that may be missing, constant or tensors: one way to write a converter for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from plugin_autogen.lowering.registry import NodeContext, constant_value, dtype_of
from plugin_autogen.lowering.te_helpers import at


def operand(context: NodeContext, index: int) -> Any:
    """Input `index` for `emit`: None where it is missing, an immediate where it is a constant of one element."""
    if not context.has_input(index):
        return None
    return immediate(context.input(index))


def immediate(expr: Any) -> Any:
    """A TIR constant for a Relax constant of one element (it keeps its rank no longer); anything else as it is."""
    from tvm import tirx

    value = constant_value(expr)
    if value is None or value.size != 1 or dtype_of(expr).startswith(("float8", "int4", "uint4")):
        return expr
    item = value.reshape(()).astype("float32") if dtype_of(expr) == "bfloat16" else value.reshape(())
    return tirx.const(item.item(), dtype_of(expr))


def emit(
    context: NodeContext, function: Callable[..., Any], operands: Mapping[str, Any], name: str | None = None
) -> Any:
    """`NodeContext.te` with operands by name: Relax expressions become TE tensors, None and TIR constants stay."""
    from tvm import relax

    tensors = {
        key: value for key, value in operands.items() if isinstance(getattr(value, "ty", None), relax.TensorType)
    }
    others = {key: value for key, value in operands.items() if key not in tensors}
    return context.te(
        lambda *values: function(**dict(zip(tensors, values, strict=True)), **others), *tensors.values(), name=name
    )


def element(value: Any, *indices: Any) -> Any:
    """The element of a TE tensor at these indices; of a tensor of one element, or an immediate, the one there is."""
    from tvm import te

    if not isinstance(value, te.Tensor):
        return value
    if all(is_one(d) for d in value.shape):
        return value(*[0] * len(value.shape))
    return value(*indices)


def broadcast_element(value: Any, *indices: Any, shape: Sequence[Any] | None = None) -> Any:
    """The element that numpy's broadcasting rules give at these indices of the (same or higher rank) result.

    `shape` is the result's; without it, only dimensions known to be 1 are broadcast.
    """
    from tvm import te

    return at(value, indices, shape) if isinstance(value, te.Tensor) else value


def is_one(dimension: Any) -> bool:
    """Whether a dimension is known to be 1."""
    from tvm import tirx

    return (
        bool(dimension == 1)
        if isinstance(dimension, int)
        else isinstance(dimension, tirx.IntImm) and int(dimension) == 1
    )


def rounded_to(value: Any, dtype: str) -> Any:
    """A float32 rounded to what `dtype` can hold, still as float32; only float16 and bfloat16 change anything.

    For bfloat16 the bits are rounded by hand: TVM drops a pair of casts there and back.
    """
    from tvm import tirx

    if dtype == "float16":
        return value.astype("float16").astype("float32")
    if dtype != "bfloat16":
        return value
    bits = tirx.reinterpret("uint32", value)
    odd = tirx.bitwise_and(tirx.shift_right(bits, tirx.const(16, "uint32")), tirx.const(1, "uint32"))
    kept = tirx.bitwise_and(bits + odd + tirx.const(0x7FFF, "uint32"), tirx.const(0xFFFF0000, "uint32"))
    return tirx.Select(tirx.isnan(value), value, tirx.reinterpret("float32", kept))
