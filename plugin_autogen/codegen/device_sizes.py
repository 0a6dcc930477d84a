"""Kernels whose sizes only the device knows: they read them from memory, and blocks beyond the work end at once.

The host launches such a kernel over the largest sizes that are possible. What it computes from sizes for another kernel
(scalars, the number of blocks, how often a loop runs, whether a branch is taken) these kernels compute themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plugin_autogen.codegen import expr as ex
from plugin_autogen.codegen.expr import Expr

if TYPE_CHECKING:
    from tvm import tirx

_ANY_BLOCK = 2**31 - 1


def on_device(
    kernel: tirx.PrimFunc, scalars: Mapping[int, Expr], conditions: Sequence[Expr], sizes: Sequence[str]
) -> tuple[tirx.PrimFunc, list[str], list[str]]:
    """The kernel with sizes read on the device.

    Args:
        kernel: a device function; its grid's extents are expressions of its parameters.
        scalars: position of a parameter → what the host would pass, where that depends on a size.
        conditions: the kernel does nothing unless all of them hold.
        sizes: the symbols that are known on the device only.

    Returns:
        the kernel without those parameters, and the symbols that it takes after the others: first those that the host
        knows (int64), then the sizes (pointers to an int64 each).
    """
    from tvm import ir, tirx

    used = sorted({name for e in (*scalars.values(), *conditions) for name in ex.symbols_of(e)})
    known = {name: tirx.Var(f"host_{i}", "int64") for i, name in enumerate(n for n in used if n not in sizes)}
    pointers = {
        name: tirx.Var(f"{name}_ptr", ir.PointerType(ir.PrimType("int64"), "global")) for name in used if name in sizes
    }
    head: list[Any] = []
    values: dict[str, Any] = dict(known)
    for name, pointer in pointers.items():
        buffer = tirx.decl_buffer((1,), "int64", name, data=pointer)
        values[name] = tirx.Var(name, "int64")
        # no size is negative, which spares the kernel much in every division by it
        size = tirx.max(buffer[0], tirx.const(0, "int64"))
        head += [tirx.DeclBuffer(buffer, data=pointer), tirx.Bind(values[name], size)]
    for i, expr in scalars.items():
        parameter = kernel.params[i]
        head.append(tirx.Bind(parameter, to_tir(expr, values).astype(str(parameter.ty.dtype))))
    holds = [tirx.NE(to_tir(c, values), tirx.const(0, "int64")) for c in conditions]
    body = tirx.SeqStmt([*head, _guarded(kernel.body, holds)])
    kept = [p for i, p in enumerate(kernel.params) if i not in scalars]
    changed = tirx.PrimFunc([*kept, *known.values(), *pointers.values()], body, kernel.ret_type, kernel.attrs)
    return changed, list(known), list(pointers)


def _guarded(statement: Any, conditions: list[Any]) -> Any:
    """The body with every block beyond the grid, and all of them unless the conditions hold, doing nothing.

    A grid's extent is forgotten: TVM would conclude from it that no block lies beyond.
    """
    from tvm import tirx

    if isinstance(statement, tirx.SeqStmt):
        return tirx.SeqStmt([*statement.seq[:-1], _guarded(statement.seq[-1], conditions)])
    if not isinstance(statement, tirx.AttrStmt) or statement.attr_key != "thread_extent":
        return tirx.IfThenElse(tirx.all(*conditions), statement, None) if conditions else statement
    axis, extent = statement.node, statement.value
    if not str(axis.thread_tag).startswith("blockIdx") or isinstance(extent, tirx.IntImm):
        return tirx.AttrStmt(axis, "thread_extent", extent, _guarded(statement.body, conditions))
    inside = axis.var.astype("int64") < extent.astype("int64")
    body = _guarded(statement.body, [*conditions, inside])
    return tirx.AttrStmt(axis, "thread_extent", tirx.IntImm(str(extent.ty.dtype), _ANY_BLOCK), body)


def to_tir(expr: Expr, values: Mapping[str, Any]) -> Any:
    """The expression over 64-bit TIR values; conditions give 0 or 1."""
    from tvm import tirx

    if isinstance(expr, ex.Const):
        return tirx.const(expr.value, "int64")
    if isinstance(expr, ex.Symbol):
        return values[expr.name]
    if isinstance(expr, ex.Select):
        condition = to_tir(expr.condition, values) != tirx.const(0, "int64")
        return tirx.Select(condition, to_tir(expr.a, values), to_tir(expr.b, values))
    a, b = to_tir(expr.a, values), to_tir(expr.b, values)
    zero = tirx.const(0, "int64")
    operations: dict[str, Any] = {
        "+": lambda: a + b,
        "-": lambda: a - b,
        "*": lambda: a * b,
        "//": lambda: tirx.floordiv(a, b),
        "%": lambda: tirx.floormod(a, b),
        "<<": lambda: a << b,
        ">>": lambda: a >> b,
        "min": lambda: tirx.min(a, b),
        "max": lambda: tirx.max(a, b),
        "<": lambda: a < b,
        "<=": lambda: a <= b,
        "==": lambda: tirx.EQ(a, b),
        "!=": lambda: tirx.NE(a, b),
        "&&": lambda: tirx.And(tirx.NE(a, zero), tirx.NE(b, zero)),
        "||": lambda: tirx.Or(tirx.NE(a, zero), tirx.NE(b, zero)),
    }
    return operations[expr.op]().astype("int64")
