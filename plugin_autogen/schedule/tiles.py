"""What rules for products of matrices share: a contraction as batches of matrices, and its operands in shared memory.

Whichever way an operand lies in memory, neighbouring threads fetch neighbouring elements of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm import s_tir

ACCESS_BYTES = 16


def as_matrices(schedule: s_tir.Schedule, block: Any) -> list[bool] | None:
    """Gives the contraction the axes (batch, row, column, depth), and its operands (batch, row or column, depth).

    Returns:
        For each operand whether its elements lie side by side along the depth; None where it is no product of matrices.
    """
    from tvm.s_tir.dlight.gpu.matmul import get_index_map

    statement = schedule.get(block)
    if get_index_map(statement) is None:
        return None
    along_depth = [_runs_along_depth(schedule, block, operand) for operand in (0, 1)]
    copies = [schedule.reindex(block, place) for place in (("read", 0), ("read", 1), ("write", 0))]
    whole, *layouts = get_index_map(schedule.get(block))
    for copy, side, layout in zip(copies, ("write", "write", "read"), layouts, strict=True):
        schedule.transform_layout(copy, (side, 0), layout)
    schedule.transform_block_layout(block, whole)
    return along_depth


def _runs_along_depth(schedule: s_tir.Schedule, block: Any, operand: int) -> bool:
    """Whether the innermost axis of the tensor behind the operand is one that is summed over.

    What is computed element by element in front of the operand is looked through: a transposed tensor is read where it
    lies.
    """
    import tvm_ffi
    from tvm import tirx

    statement = schedule.get(block)
    region = statement.reads[operand]
    indices = [r.min for r in region.region]
    producers = {schedule.get(p).writes[0].source: schedule.get(p) for p in _producers(schedule, block)}
    source = region.source
    while source in producers:
        producer = producers.pop(source)
        if len(producer.reads) != 1:
            break
        outer = dict(zip((i.var for i in producer.iter_vars), indices, strict=False))
        (read,) = producer.reads
        source, indices = read.source, [_substituted(r.min, outer) for r in read.region]
    reduced = {i.var for i in statement.iter_vars if i.iter_type == tirx.IterVar.CommReduce}
    for index, size in reversed(list(zip(indices, source.shape, strict=True))):
        if isinstance(size, tirx.IntImm) and int(size) == 1:
            continue
        used: list[Any] = []
        tvm_ffi.structural_walk(index, (tirx.Var, used.append))
        if used:
            return all(variable in reduced for variable in used)
    return True


def _substituted(index: Any, values: dict[Any, Any]) -> Any:
    import tvm_ffi
    from tvm import tirx

    return tvm_ffi.structural_map(index, (tirx.Var, lambda variable: values.get(variable, variable)))


def _producers(schedule: s_tir.Schedule, block: Any) -> list[Any]:
    """All blocks before this one."""
    found, queue = [], [block]
    while queue:
        for producer in schedule.get_producers(queue.pop()):
            if producer not in found:
                found.append(producer)
                queue.append(producer)
    return found


def fetch(
    schedule: s_tir.Schedule, copy: Any, at: Any, along_depth: bool, threads: list[tuple[str, int]], width: int
) -> None:
    """Lets all threads of a block copy one slice of an operand; what comes before the operand is computed there.

    Args:
        copy: from the operand to shared memory, both (batch, row or column, depth).
        at: the loop over slices.
        along_depth: as `as_matrices` says.
        threads: thread axes and their extents, the outermost first.
        width: elements that a thread copies at once.
    """
    from tvm.s_tir.dlight.gpu.matmul import auto_inline_producers

    schedule.compute_at(copy, at, preserve_unit_loops=True)
    side, depth = schedule.get_loops(copy)[-2:]
    if not along_depth:
        schedule.reorder(depth, side)
        side, depth = depth, side
    _, *parts, vector = schedule.split(schedule.fuse(side, depth), [None, *(extent for _, extent in threads), width])
    for part, (axis, _) in zip(parts, threads, strict=True):
        schedule.bind(part, axis)
    schedule.vectorize(vector)
    auto_inline_producers(schedule, copy)
