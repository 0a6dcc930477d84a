"""What a TIR function takes for granted about sizes: that a tensor is as long as the loop that reads or writes it.

Where two dimensions have names of their own, nothing says before run time that ONNX's rules hold for them. Whatever a
converter assumed about them shows in the function that it wrote: an element is read at a loop's variable, and the
loop's extent is another dimension than the tensor's. Accesses under a condition on that variable assume nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plugin_autogen.codegen.plan import Relation

if TYPE_CHECKING:
    from tvm import tirx


@dataclass(frozen=True, eq=False)
class Assumption:
    """`size`, a dimension that a tensor has, stands in this relation to `other`; both are TIR expressions."""

    size: Any
    other: Any
    relation: Relation


def assumptions(function: tirx.PrimFunc, strict: bool = True) -> list[Assumption]:
    """What the function assumes about the dimensions of its tensors, in terms of the variables in their shapes.

    Args:
        strict: a tensor that is longer than the loop that reads it is taken for a mistake. Not so for a user's
            converter, which may want the first rows of a table alone.
    """
    from tvm import tirx

    found = []
    extents, reduced = _extents(function.body)
    conditions = _conditions(function.body)
    for access in _accesses(function.body):
        buffer = access.buffer if isinstance(access, tirx.BufferStore) else access.source
        # elements that data choose may lie in a larger tensor: ONNX's Gathers allow that along the other axes
        gathers = any(_loads(index) for index in access.indices)
        for index, size in zip(access.indices, buffer.shape, strict=True):
            variable, start, clamped = _variable(index, size)
            if variable not in extents or variable in conditions.get(access, ()):
                continue
            other = extents[variable]
            if not _is_assumption(size, other):
                continue
            part = start > 0 or (_is_constant(other) and variable not in reduced)
            if clamped:
                found.append(Assumption(size, other, Relation.EQUAL_OR_ONE))
            elif gathers or part or not strict:
                found.append(Assumption(other + start, size, Relation.AT_MOST))
            else:
                found.append(Assumption(size, other, Relation.EQUAL))
    return found


def _extents(body: Any) -> tuple[dict[Any, Any], set[Any]]:
    """The number of values of each loop variable that starts at 0; and those over which something is reduced."""
    import tvm_ffi
    from tvm import s_tir, tirx

    extents: dict[Any, Any] = {}
    reduced: set[Any] = set()

    def visit_loop(loop: tirx.For) -> None:
        if isinstance(loop.min, tirx.IntImm) and int(loop.min) == 0:
            extents[loop.loop_var] = loop.extent

    def visit_block(block: s_tir.SBlock) -> None:
        extents.update({i.var: i.dom.extent for i in block.iter_vars})
        reduced.update(i.var for i in block.iter_vars if i.iter_type == tirx.IterVar.CommReduce)

    tvm_ffi.structural_walk(body, [(tirx.For, visit_loop), (s_tir.SBlock, visit_block)])
    return extents, reduced


def _loads(below: Any) -> list[Any]:
    import tvm_ffi
    from tvm import ir

    found: list[Any] = []
    tvm_ffi.structural_walk(below, (ir.TensorLoad, found.append))
    return found


def _accesses(below: Any) -> list[Any]:
    """Loads and stores."""
    import tvm_ffi
    from tvm import ir, tirx

    found: list[Any] = []
    tvm_ffi.structural_walk(below, ((ir.TensorLoad, tirx.BufferStore), found.append))
    return found


def _conditions(body: Any) -> dict[Any, set[Any]]:
    """For each load and store under a condition: the variables in the conditions."""
    import tvm_ffi
    from tvm import ir, tirx

    found: dict[Any, set[Any]] = {}

    def add(condition: Any, branches: list[Any]) -> None:
        variables: set[Any] = set()
        # a condition on an element keeps no variable within bounds
        callbacks = [(ir.TensorLoad, lambda _: tvm_ffi.WalkResult.SKIP), (tirx.Var, variables.add)]
        tvm_ffi.structural_walk(condition, callbacks, order="pre")
        for branch in branches:
            for access in _accesses(branch):
                found.setdefault(access, set()).update(variables)

    def visit_call(call: ir.Call) -> None:
        if isinstance(call.op, ir.Op) and call.op.name.endswith(".if_then_else"):
            add(call.args[0], [call.args[1], call.args[2]])

    def visit_branch(branch: tirx.IfThenElse) -> None:
        add(branch.condition, [s for s in (branch.then_case, branch.else_case) if s is not None])

    tvm_ffi.structural_walk(
        body,
        [
            (tirx.Select, lambda s: add(s.condition, [s.true_value, s.false_value])),
            (ir.Call, visit_call),
            (tirx.IfThenElse, visit_branch),
        ],
    )
    return found


def _variable(index: Any, size: Any) -> tuple[Any, int, bool]:
    """The variable of an index, what is added to it, and whether it is clamped, as broadcasting does for sizes of 1."""
    from tvm import tirx
    from tvm_ffi import structural_equal

    if isinstance(index, tirx.Min) and structural_equal(index.b, size - 1):
        return index.a, 0, True
    if isinstance(index, tirx.Add) and _is_constant(index.b):
        return index.a, int(index.b), False
    return index, 0, False


def _is_assumption(size: Any, other: Any) -> bool:
    """Whether two sizes have nothing in common that could make them what they shall be: neither follows from the other.

    The size of a broadcast result is a choice of sizes; each of them may be this one itself.
    """
    from tvm import tirx
    from tvm_ffi import structural_equal

    if isinstance(other, tirx.Select) and _decides(other, size):
        return False
    parts = _parts(other)
    return not (_is_constant(size) and all(map(_is_constant, parts))) and all(
        (len(parts) > 1 and structural_equal(size, part)) or not _symbols(size) & _symbols(part) for part in parts
    )


def _parts(size: Any) -> list[Any]:
    """What a size is one of."""
    from tvm import tirx

    return _parts(size.true_value) + _parts(size.false_value) if isinstance(size, tirx.Select) else [size]


def _decides(choice: Any, size: Any) -> bool:
    """Whether the choice is this size unless it is 1: `size == 1 ? other : size`."""
    from tvm import tirx
    from tvm_ffi import structural_equal

    condition = choice.condition
    return (
        isinstance(condition, tirx.EQ)
        and structural_equal(condition.a, size)
        and structural_equal(choice.false_value, size)
    )


def _is_constant(size: Any) -> bool:
    from tvm import tirx

    return isinstance(size, tirx.IntImm)


def _symbols(size: Any) -> set[Any]:
    import tvm_ffi
    from tvm import tirx

    found: set[Any] = set()
    tvm_ffi.structural_walk(size, (tirx.Var, found.add))
    return found
