"""Functions whose loops say themselves how they map to a GPU: annotations that LLVM ignores.

An algorithm that no schedule primitive parallelizes (a scan, a sort, a greedy selection, a factorization) is written
once, as plain loops, with these annotations (`lowering.te_loops` has a frame for each):

- `map: grid` on a nest of loops: one thread for each iteration.
- `map: block` on a nest of loops: one block of threads for each iteration. In its body
  - `map: thread` loops are shared out to the block's threads, with a barrier after each;
  - a statement outside of them is executed by one thread, with a barrier after it;
  - other loops, and conditions, that hold `thread` loops are executed by all threads alike: their extents and
    conditions must be the same for every thread.

A statement under an `ATOMIC` attribute (`schedule.atomics`) becomes an atomic update. Loops without annotation around
`grid` and `block` loops stay on the host, around launches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugin_autogen.schedule.atomics import ATOMIC, atomic_call
from plugin_autogen.schedule.lower import OWN_BARRIERS

if TYPE_CHECKING:
    from tvm import tirx
    from tvm.target import Target

MAP, THREADS = "map", "threads"
GRID, BLOCK, THREAD = "grid", "block", "thread"
DEFAULT_THREADS = 256


class Mapped:
    """Applies where a loop is annotated."""

    name = "mapped"
    keeps_host_loops = True

    def apply(self, function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc | None:
        import tvm_ffi
        from tvm import tirx

        if not _holds(function.body, GRID, BLOCK):
            return None

        def visit(loop: tirx.For, mutator: Any) -> Any:
            kind = _kind(loop)
            if kind == GRID:
                return _grid(loop)
            if kind == BLOCK:
                return _block(loop)
            return mutator.default_mutate(loop)

        body = tvm_ffi.structural_mutate(function.body, (tirx.For, visit))
        body = tvm_ffi.structural_map(body, (tirx.AttrStmt, _atomic))
        return function.with_body(body).with_attr(OWN_BARRIERS, True)


def _atomic(statement: tirx.AttrStmt) -> tirx.Stmt:
    if statement.attr_key != ATOMIC:
        return statement
    return atomic_call(statement.body, str(statement.node), statement.value)


def _kind(statement: Any) -> str:
    from tvm import tirx

    return str(statement.annotations[MAP]) if isinstance(statement, tirx.For) and MAP in statement.annotations else ""


def _holds(statement: Any, *kinds: str) -> bool:
    """Whether a loop of one of these kinds is in the statement."""
    import tvm_ffi
    from tvm import tirx

    found: list[bool] = []
    tvm_ffi.structural_walk(statement, (tirx.For, lambda loop: found.append(_kind(loop) in kinds)))
    return any(found)


def _nest(loop: tirx.For) -> tuple[list[tirx.For], tirx.Stmt]:
    """The loops of one kind that lie directly inside each other, and the innermost body."""
    loops, kind = [loop], _kind(loop)
    while _kind(loops[-1].body) == kind:
        loops.append(loops[-1].body)
    return loops, loops[-1].body


def _threads(loops: list[tirx.For]) -> int:
    return int(next((loop.annotations[THREADS] for loop in loops if THREADS in loop.annotations), DEFAULT_THREADS))


def _bound(tag: str, extent: Any, dtype: str, body_of: Any) -> tirx.For:
    """A loop bound to a thread or block index; `body_of` makes the body from the loop's variable."""
    from tvm import tirx

    variable = tirx.Var(tag.replace(".", "_"), dtype)
    axis = tirx.IterVar(None, tirx.Var(tag, dtype), tirx.IterVar.ThreadIndex, tag)
    extent = extent if not isinstance(extent, int) else tirx.IntImm(dtype, extent)
    return tirx.For(variable, tirx.IntImm(dtype, 0), extent, tirx.ForKind.THREAD_BINDING, body_of(variable), axis)


def _unfuse(loops: list[tirx.For], index: Any) -> list[tirx.Stmt]:
    """Statements that give the loops' variables their values from one running index."""
    from tvm import tirx

    values = []
    for loop in reversed(loops[1:]):
        values.append((loop, tirx.floormod(index, loop.extent)))
        index = tirx.floordiv(index, loop.extent)
    values.append((loops[0], index))
    return [tirx.Bind(loop.loop_var, loop.min + value.astype(_dtype(loop))) for loop, value in reversed(values)]


def _dtype(loop: tirx.For) -> str:
    return str(loop.loop_var.ty.dtype)


def _total(loops: list[tirx.For]) -> tuple[Any, str]:
    """The number of iterations, and an index type that holds it."""
    from tvm import tirx

    constant = 1
    for loop in loops:
        if not isinstance(loop.extent, tirx.IntImm):
            constant = 2**31
            break
        constant *= int(loop.extent)
    dtype = "int32" if constant < 2**31 - 1024 else "int64"
    total: Any = tirx.IntImm(dtype, 1)
    for loop in loops:
        total = total * loop.extent.astype(dtype)
    return total, dtype


def _grid(loop: tirx.For) -> tirx.Stmt:
    """One thread for each iteration of the nest."""
    from tvm import tirx

    loops, body = _nest(loop)
    total, dtype = _total(loops)
    threads = _threads(loops)

    def in_block(block: tirx.Var) -> tirx.Stmt:
        def in_thread(thread: tirx.Var) -> tirx.Stmt:
            index = block * threads + thread
            return tirx.IfThenElse(index < total, _sequence([*_unfuse(loops, index), body]), None)

        return _bound("threadIdx.x", threads, dtype, in_thread)

    return _bound("blockIdx.x", tirx.floordiv(total + (threads - 1), threads), dtype, in_block)


def _block(loop: tirx.For) -> tirx.Stmt:
    """One block for each iteration of the nest."""
    loops, body = _nest(loop)
    total, dtype = _total(loops)
    threads = _threads(loops)

    def in_block(block: tirx.Var) -> tirx.Stmt:
        def in_thread(thread: tirx.Var) -> tirx.Stmt:
            return _sequence([*_unfuse(loops, block), *_shared_out(body, thread, threads)])

        return _bound("threadIdx.x", threads, dtype, in_thread)

    return _bound("blockIdx.x", total, dtype, in_block)


def _shared_out(statement: tirx.Stmt, thread: tirx.Var, threads: int) -> list[tirx.Stmt]:
    """The statement as all threads of a block execute it."""
    from tvm import tirx

    if isinstance(statement, tirx.SeqStmt):
        return [part for s in statement.seq for part in _shared_out(s, thread, threads)]
    if isinstance(statement, (tirx.AllocBuffer, tirx.DeclBuffer)):
        return [statement]
    if isinstance(statement, tirx.Bind):
        return [statement]
    if _kind(statement) == THREAD:
        return [_thread_loop(statement, thread, threads), _barrier()]
    if _holds(statement, THREAD):
        if isinstance(statement, tirx.For):
            body = _sequence(_shared_out(statement.body, thread, threads))
            return [
                tirx.For(
                    statement.loop_var,
                    statement.min,
                    statement.extent,
                    statement.kind,
                    body,
                    None,
                    statement.annotations,
                )
            ]
        if isinstance(statement, tirx.IfThenElse):
            condition = tirx.Var("holds", "bool")
            otherwise = statement.else_case
            return [
                tirx.Bind(condition, statement.condition),
                _barrier(),
                tirx.IfThenElse(
                    condition,
                    _sequence(_shared_out(statement.then_case, thread, threads)),
                    _sequence(_shared_out(otherwise, thread, threads)) if otherwise is not None else None,
                ),
            ]
        raise TypeError(f"{type(statement).__name__} around loops of a block's threads")
    return [tirx.IfThenElse(thread == 0, statement, None), _barrier()]


def _thread_loop(loop: tirx.For, thread: tirx.Var, threads: int) -> tirx.Stmt:
    """The iterations of the nest dealt out to the threads in turn, so that neighbours touch neighbouring elements."""
    from tvm import tirx

    loops, body = _nest(loop)
    total, dtype = _total(loops)
    turn = tirx.Var("turn", dtype)
    index = turn * threads + thread.astype(dtype)
    dealt = tirx.IfThenElse(index < total, _sequence([*_unfuse(loops, index), body]), None)
    turns = tirx.floordiv(total + (threads - 1), threads)
    return tirx.For(turn, tirx.IntImm(dtype, 0), turns, tirx.ForKind.SERIAL, dealt)


def _barrier() -> tirx.Stmt:
    from tvm import tirx

    return tirx.Evaluate(tirx.call_intrin("void", "tirx.tvm_storage_sync", "shared"))


def _sequence(statements: list[tirx.Stmt]) -> tirx.Stmt:
    from tvm import tirx

    return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)
