"""Integer expressions over symbols: sizes, grids, offsets and loop bounds of a kernel plan.

A tiny language, printed once as C++ (`to_cpp`) and once as calls of TensorRT's `IExprBuilder` (the templates do that
from `walk`). Constants fold when an expression is built, so a static plan holds nothing but `Const`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Union

_FOLD: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "<<": lambda a, b: a << b,
    ">>": lambda a, b: a >> b,
    "min": min,
    "max": max,
    "<": lambda a, b: int(a < b),
    "<=": lambda a, b: int(a <= b),
    "==": lambda a, b: int(a == b),
    "!=": lambda a, b: int(a != b),
    "&&": lambda a, b: int(bool(a) and bool(b)),
    "||": lambda a, b: int(bool(a) or bool(b)),
}


@dataclass(frozen=True)
class Const:
    """An integer known when the plugin is generated."""

    value: int


@dataclass(frozen=True)
class Symbol:
    """An integer known at run time: a dimension of an input, or the variable of a host loop."""

    name: str


@dataclass(frozen=True)
class Binary:
    """`a op b`; `//` and `%` round towards minus infinity, comparisons give 0 or 1."""

    op: str
    a: Expr
    b: Expr


@dataclass(frozen=True)
class Select:
    """`a` where the condition is not 0, else `b`."""

    condition: Expr
    a: Expr
    b: Expr


Expr = Union[Const, Symbol, Binary, Select]
ZERO, ONE = Const(0), Const(1)


def binary(op: str, a: Expr, b: Expr) -> Expr:
    """`a op b` with constants folded and neutral elements dropped."""
    if isinstance(a, Const) and isinstance(b, Const) and not (op in ("//", "%") and b.value == 0):
        return Const(_FOLD[op](a.value, b.value))
    if op == "+" and a == ZERO or op == "*" and a == ONE:
        return b
    if op in ("+", "-") and b == ZERO or op in ("*", "//") and b == ONE:
        return a
    if op == "*" and ZERO in (a, b):
        return ZERO
    if op in ("min", "max") and a == b:
        return a
    return Binary(op, a, b)


def add(a: Expr, b: Expr) -> Expr:
    return binary("+", a, b)


def mul(a: Expr, b: Expr) -> Expr:
    return binary("*", a, b)


def maximum(a: Expr, b: Expr) -> Expr:
    return binary("max", a, b)


def select(condition: Expr, a: Expr, b: Expr) -> Expr:
    """`Select`, folded where the condition is constant."""
    if isinstance(condition, Const):
        return a if condition.value else b
    return Select(condition, a, b)


def product(factors: tuple[Expr, ...]) -> Expr:
    """The product of all factors; 1 for none."""
    result: Expr = ONE
    for factor in factors:
        result = mul(result, factor)
    return result


def align(size: Expr, to: int) -> Expr:
    """`size` rounded up to a multiple of `to`."""
    return mul(binary("//", add(size, Const(to - 1)), Const(to)), Const(to))


def evaluate(expr: Expr, symbols: Mapping[str, int]) -> int:
    """The value for these symbol values. Raises KeyError for a symbol that has none."""
    if isinstance(expr, Const):
        return expr.value
    if isinstance(expr, Symbol):
        return symbols[expr.name]
    if isinstance(expr, Select):
        return evaluate(expr.a if evaluate(expr.condition, symbols) else expr.b, symbols)
    return _FOLD[expr.op](evaluate(expr.a, symbols), evaluate(expr.b, symbols))


def walk(expr: Expr) -> Iterator[Expr]:
    """The expression and all its parts, children first."""
    if isinstance(expr, Binary):
        yield from walk(expr.a)
        yield from walk(expr.b)
    elif isinstance(expr, Select):
        yield from walk(expr.condition)
        yield from walk(expr.a)
        yield from walk(expr.b)
    yield expr


def symbols_of(expr: Expr) -> set[str]:
    """Names of the symbols that occur."""
    return {e.name for e in walk(expr) if isinstance(e, Symbol)}


def to_cpp(expr: Expr) -> str:
    """C++ over `int64_t`; `floorDiv`, `floorMod`, `minOf` and `maxOf` are helpers of the templates' runtime header."""
    if isinstance(expr, Const):
        return f"INT64_C({expr.value})" if abs(expr.value) >= 2**31 else str(expr.value)
    if isinstance(expr, Symbol):
        return expr.name
    if isinstance(expr, Select):
        return f"({to_cpp(expr.condition)} ? {to_cpp(expr.a)} : {to_cpp(expr.b)})"
    a, b = to_cpp(expr.a), to_cpp(expr.b)
    function = {"//": "floorDiv", "%": "floorMod", "min": "minOf", "max": "maxOf"}.get(expr.op)
    return f"{function}({a}, {b})" if function else f"({a} {expr.op} {b})"


def to_json(expr: Expr) -> Any:
    """A number, a symbol's name, or `[op, operands…]`."""
    if isinstance(expr, Const):
        return expr.value
    if isinstance(expr, Symbol):
        return expr.name
    if isinstance(expr, Select):
        return ["select", to_json(expr.condition), to_json(expr.a), to_json(expr.b)]
    return [expr.op, to_json(expr.a), to_json(expr.b)]


def from_json(data: Any) -> Expr:
    """The inverse of `to_json`."""
    if isinstance(data, int):
        return Const(data)
    if isinstance(data, str):
        return Symbol(data)
    if data[0] == "select":
        return Select(from_json(data[1]), from_json(data[2]), from_json(data[3]))
    return Binary(data[0], from_json(data[1]), from_json(data[2]))


def limits(expr: Expr, largest: Mapping[str, Expr]) -> tuple[Expr, Expr] | None:
    """The smallest and the largest value where each symbol of `largest` lies between 0 and its value there.

    Other symbols stay what they are, and factors count as not negative: sizes are. None where no limit is known.
    """
    if isinstance(expr, Const):
        return expr, expr
    if isinstance(expr, Symbol):
        return (ZERO, largest[expr.name]) if expr.name in largest else (expr, expr)
    if not symbols_of(expr) & largest.keys():
        return expr, expr
    if isinstance(expr, Select):
        a, b = limits(expr.a, largest), limits(expr.b, largest)
        return None if a is None or b is None else (binary("min", a[0], b[0]), maximum(a[1], b[1]))
    if expr.op in ("<", "<=", "==", "!=", "&&", "||"):
        return ZERO, ONE
    a, b = limits(expr.a, largest), limits(expr.b, largest)
    if a is None or b is None:
        return None
    if expr.op in ("+", "*", "min", "max"):
        return binary(expr.op, a[0], b[0]), binary(expr.op, a[1], b[1])
    if expr.op == "-":
        return binary("-", a[0], b[1]), binary("-", a[1], b[0])
    if symbols_of(expr.b) & largest.keys():
        return None
    if expr.op == "%":
        return ZERO, binary("-", expr.b, ONE)
    return binary(expr.op, a[0], expr.b), binary(expr.op, a[1], expr.b)
