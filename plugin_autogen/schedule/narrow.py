"""32-bit indices where the ranges of dynamic dimensions allow them: 64-bit divisions take a GPU many times as long.

Static functions need none of this: there TVM proves what fits, expression by expression.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tvm
    from tvm import tirx

LARGEST = 2**31 - 2**16
"""Of an index: threads of the last block count beyond the end, by a tile at most."""

_WIDE = ("int64", "uint64")
_NARROW = ("int8", "uint8", "int16", "uint16", "int32")

Bounds = Mapping[Any, int]
"""Variable → its largest value; the smallest is 0."""


def bounds_of_calls(module: tvm.IRModule, largest: Mapping[str, int]) -> Mapping[str, Bounds]:
    """For each function that `main` calls: the largest values of the variables in its parameters.

    Args:
        module: `main` as a list of calls.
        largest: of symbolic dimensions by name; functions that depend on another one are left out.
    """
    import tvm_ffi
    from tvm import ir, relax, sym, tirx

    analyzer = sym.Analyzer()
    known: set[str] = set()

    def learn(variable: tirx.Var) -> None:
        if variable.name in largest and variable.name not in known:
            known.add(variable.name)
            analyzer.bind(variable, ir.Range(tirx.const(0, "int64"), tirx.const(largest[variable.name] + 1, "int64")))

    found: dict[str, dict[Any, int]] = {}
    for block in module["main"].body.blocks:
        for binding in block.bindings:
            call = binding.value
            if not isinstance(call, relax.Call) or not isinstance(call.op, ir.GlobalVar):
                continue
            bounds = found.setdefault(call.op.name_hint, {})
            for formal, actual in _variables(module[call.op].params, call.args):
                tvm_ffi.structural_walk(actual, (tirx.Var, learn))
                bounds[formal] = max(bounds.get(formal, 0), int(analyzer.const_int_bound(actual).max_value))
    return found


def _variables(parameters: Any, arguments: Any) -> list[tuple[Any, Any]]:
    """The variables of a function's parameters with the expressions that a call gives them."""
    from tvm import tirx

    pairs = []
    for parameter, argument in zip(parameters, arguments, strict=True):
        if not hasattr(argument.ty, "shape"):
            pairs.append((parameter, argument))
            continue
        shapes = zip(parameter.ty.shape, argument.ty.shape, strict=True)
        pairs += [(formal, actual) for formal, actual in shapes if isinstance(formal, tirx.Var)]
    return pairs


def narrowed(function: tirx.PrimFunc, bounds: Bounds) -> tirx.PrimFunc | None:
    """The function with 32-bit indices; None where it has no symbols, or an integer may exceed them."""
    import tvm
    from tvm import tirx

    if not bounds or not _fits(function, bounds):
        return None
    try:
        module = tirx.transform.ForceNarrowIndexToInt32()(tvm.IRModule({"main": function}))
    except Exception:  # it refuses what it cannot narrow
        return None
    return module["main"]


def _fits(function: tirx.PrimFunc, bounds: Bounds) -> bool:
    """Whether every 64-bit integer of the function, and every number of elements, is at most `LARGEST`."""
    import tvm_ffi
    from tvm import ir, s_tir, sym, tirx

    analyzer = sym.Analyzer()
    zero = tirx.const(0, "int64")
    for variable, largest in bounds.items():
        if largest > LARGEST:
            return False
        analyzer.bind(variable, ir.Range(zero, tirx.const(largest + 1, "int64")))
    ranges: list[tuple[Any, Any]] = []
    buffers: list[Any] = [p.ty for p in function.params if hasattr(p.ty, "shape")]

    def visit_block(block: s_tir.SBlock) -> None:
        ranges.extend((v.var, v.dom) for v in block.iter_vars)
        buffers.extend(block.alloc_buffers)

    tvm_ffi.structural_walk(
        function.body,
        [
            (tirx.For, lambda loop: ranges.append((loop.loop_var, ir.Range.from_min_extent(loop.min, loop.extent)))),
            (s_tir.SBlock, visit_block),
            (tirx.AllocBuffer, lambda statement: buffers.append(statement.buffer)),
        ],
    )
    for _ in range(2):  # extents may depend on variables that come later in the list
        for variable, domain in ranges:
            analyzer.bind(variable, domain, True)

    def large(value: Any) -> bool:
        if isinstance(value, tirx.Cast) and str(value.value.ty.dtype) in _NARROW:
            return False
        bound = analyzer.const_int_bound(value)
        return int(bound.max_value) > LARGEST or int(bound.min_value) < -(2**31)

    if any(str(buffer.dtype) in _WIDE for buffer in buffers):
        return False
    for buffer in buffers:
        count: Any = tirx.const(1, "int64")
        for extent in buffer.shape:
            count = count * extent.astype("int64")
        if large(count):
            return False
    beyond: list[bool] = []

    def visit(value: Any) -> None:
        dtype = str(getattr(getattr(value, "ty", None), "dtype", ""))
        if dtype in _WIDE:
            beyond.append(dtype == "uint64" or large(value))

    tvm_ffi.structural_walk(function.body, (ir.Expr, visit))
    return not any(beyond)
