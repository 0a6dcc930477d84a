"""32-bit indices where the sizes of tensors allow them: 64-bit divisions take a GPU many times as long.

TVM narrows what it can prove to fit, expression by expression: nothing that depends on dynamic dimensions, whose ranges
it does not know, and nothing that depends on data, such as a coordinate. Where a tensor has less than 2^31 elements its
indices have 32 bits whatever they depend on, because no access leaves its tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tvm
    from tvm import tirx

LARGEST = 2**31 - 2**16
"""Of an index: threads of the last block count beyond the end, by a tile at most."""

_ROUNDINGS = (".floor", ".ceil", ".nearbyint", ".round", ".trunc")
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
    """The function with 32-bit indices; None where an integer may exceed them."""
    import tvm
    from tvm import tirx

    if not _fits(function, bounds):
        return None
    try:
        module = tirx.transform.ForceNarrowIndexToInt32()(tvm.IRModule({"main": function}))
    except Exception:  # it refuses what it cannot narrow
        return None
    return module["main"]


def _fits(function: tirx.PrimFunc, bounds: Bounds) -> bool:
    """Whether every 64-bit integer of the function, and every number of elements, is at most `LARGEST`.

    Indices of accesses need no look: the number of elements bounds them.
    """
    import tvm_ffi
    from tvm import ir, s_tir, sym, tirx

    analyzer = sym.Analyzer()
    zero = tirx.const(0, "int64")
    for variable, largest in bounds.items():
        if largest > LARGEST:
            return False
        analyzer.bind(variable, ir.Range(zero, tirx.const(largest + 1, "int64")))
    body = _with_known_casts(function.body, analyzer)
    ranges: list[tuple[Any, Any]] = []
    buffers: list[Any] = [p.ty for p in function.params if hasattr(p.ty, "shape")]

    def visit_block(block: s_tir.SBlock) -> None:
        ranges.extend((v.var, v.dom) for v in block.iter_vars)
        buffers.extend(block.alloc_buffers)

    tvm_ffi.structural_walk(
        body,
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
    places: list[Any] = []
    tvm_ffi.structural_walk(body, ((ir.TensorLoad, tirx.BufferStore), lambda a: places.extend(a.indices)))
    indices: set[Any] = set()
    for place in places:
        tvm_ffi.structural_walk(place, (ir.Expr, indices.add))

    def visit(value: Any) -> None:
        dtype = str(getattr(getattr(value, "ty", None), "dtype", ""))
        if dtype in _WIDE and value not in indices:
            beyond.append(dtype == "uint64" or large(value))

    tvm_ffi.structural_walk(body, (ir.Expr, visit))
    return not any(beyond)


def _with_known_casts(body: tirx.Stmt, analyzer: Any) -> tirx.Stmt:
    """The statement with a bound variable in the place of each floating point number that was clamped and cast.

    Coordinates come so: TVM derives no range for them.
    """
    import tvm_ffi
    from tvm import ir, tirx

    def visit(cast: tirx.Cast) -> Any:
        dtype = str(cast.ty.dtype)
        if dtype not in _WIDE or (limits := _clamped(cast.value)) is None:
            return cast
        variable = tirx.Var("coordinate", dtype)
        low, high = (tirx.const(limit, dtype) for limit in limits)
        analyzer.bind(variable, ir.Range(low, high + 1))
        return variable

    return tvm_ffi.structural_map(body, (tirx.Cast, visit))


def _clamped(value: Any) -> tuple[int, int] | None:
    """Bounds of a floating point expression that ends in `min` and `max` with constants, perhaps rounded."""
    from tvm import ir, tirx

    while isinstance(value, ir.Call) and isinstance(value.op, ir.Op) and value.op.name.endswith(_ROUNDINGS):
        value = value.args[0]
    found: dict[type, float] = {}
    while isinstance(value, (tirx.Max, tirx.Min)) and type(value) not in found:
        limit = next((side.value for side in (value.a, value.b) if isinstance(side, tirx.FloatImm)), None)
        if limit is None:
            break
        found[type(value)] = float(limit)
        value = value.a if isinstance(value.b, tirx.FloatImm) else value.b
    if len(found) != 2 or not all(abs(limit) < LARGEST for limit in found.values()):
        return None
    low, high = found[tirx.Max], found[tirx.Min]
    return math.floor(min(low, high)), math.ceil(max(low, high))
