"""Cast, CastLike and BitCast among all element types that a plugin can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugin_autogen import dtypes
from plugin_autogen.dtypes import ElementType
from plugin_autogen.lowering.registry import NodeContext, converter, dtype_of
from plugin_autogen.lowering.te_helpers import bits_of, cast_expr, dtype_of_expr, elementwise, is_unsigned, wrap_expr

if TYPE_CHECKING:
    from tvm import relax, tirx


@converter("Cast", since=1)
def cast(context: NodeContext) -> relax.Expr:
    """Cast-1 (`to` is a name), 6, 9, 13, 19 (`saturate`), 21 to 25."""
    to = context.attribute("to")
    element = dtypes.from_name(to.lower()) if isinstance(to, str) else dtypes.from_onnx(int(to))
    return _convert(context, element)


@converter("CastLike", since=15)
def cast_like(context: NodeContext) -> relax.Expr:
    """CastLike-15, 19, 21 to 25: only the type of the second input counts."""
    stated = context.outputs[0]
    return _convert(context, stated.dtype if stated is not None else dtypes.from_name(context.dtype(1)))


def _convert(context: NodeContext, element: ElementType) -> relax.Expr:
    value = context.input(0)
    saturate = bool(context.attribute("saturate", 1))
    if context.dtype(0) == element.held_as and element.held_as == element.name:
        return value
    if context.dtype(0).startswith("float8") and element.name.startswith("float8"):
        # in two steps: TVM's index normalization widens the integers of the one expression and breaks it
        value = elementwise(context, lambda x: x, value, dtype="float32", name="decode")
    return elementwise(
        context,
        lambda x: _cast_to(x, element, saturate),
        value,
        dtype=element.held_as,
        compute=dtype_of(value),
        name="cast",
    )


def _cast_to(value: tirx.Expr, element: ElementType, saturate: bool) -> tirx.Expr:
    if element.bits == 4:
        return wrap_expr(cast_expr(value, "int32"), 4, not is_unsigned(element.name))
    return cast_expr(value, element.name, saturate)


@converter("BitCast", since=26)
def bit_cast(context: NodeContext) -> Any:
    """BitCast-26: the same bits under a type of the same size."""
    from tvm import tirx

    element = dtypes.from_onnx(int(context.attribute("to")))
    source = context.dtype(0)
    if bits_of(source) != bits_of(element.held_as):
        context.unsupported(f"{source} and {element} differ in size")
    if source == element.name:
        return context.input(0)

    def reinterpret(x: tirx.Expr) -> tirx.Expr:
        if dtype_of_expr(x) == "bool":
            return cast_expr(cast_expr(x, "uint8"), element.name) if element.name in ("uint8", "int8") else x
        if element.name == "bool":
            return tirx.NE(tirx.reinterpret("uint8", x), tirx.const(0, "uint8"))
        return tirx.reinterpret(element.name, x)

    return elementwise(context, reinterpret, context.input(0), dtype=element.name, compute=source)
