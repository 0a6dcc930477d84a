"""The candidates for a TIR function: MetaSchedule's own for the GPU, and ours where it has only one.

MetaSchedule tiles contractions and spreads reductions over threads. For elementwise and gather-like functions it binds
one element to a thread and is done; here the number of threads and of elements a thread, and how these are accessed,
are decisions too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugin_autogen.schedule.inlining import single_spatial_block
from plugin_autogen.schedule.rules.elementwise import can_compute_vectors, can_stage, stage, vectorize, widest
from plugin_autogen.schedule.rules.matmul import contraction_of
from plugin_autogen.schedule.rules.tensor_cores import operand_type

if TYPE_CHECKING:
    from tvm import s_tir, tirx
    from tvm.target import Target

THREADS = (64, 128, 256, 512)
WIDTHS = (1, 2, 4, 8)
"""Elements a thread."""
TENSOR_CORE_ARCH = 80


def space_of(function: tirx.PrimFunc, target: Target, arch: int) -> Any:
    """MetaSchedule's generator of the function's candidates.

    Args:
        function: it computes in blocks.
        target: its kind decides MetaSchedule's rules.
        arch: compute capability of the device (87 for 8.7); 0 for a CPU.
    """
    import tvm
    from tvm import s_tir
    from tvm.s_tir import meta_schedule

    generators = meta_schedule.space_generator
    if not arch:
        return generators.PostOrderApply()
    if elementwise(s_tir.Schedule(tvm.IRModule({"main": function}))):
        return generators.ScheduleFn(elementwise, [], "cuda", "cuda")
    kind = "cuda-tensorcore" if arch >= TENSOR_CORE_ARCH and _fits_tensor_cores(function) else "cuda"
    return generators.PostOrderApply(sch_rules=kind, postprocs=kind, mutator_probs=kind)


def elementwise(schedule: s_tir.Schedule) -> list[s_tir.Schedule]:
    """Candidates for a function that inlines into one block without reductions; none for others."""
    if (single := single_spatial_block(schedule)) is None:
        return []
    block, extents = single
    statement = schedule.get(block)
    most = widest(statement, extents[-1])
    found = [_strided(schedule.copy(), block)]
    if most > 1 and can_compute_vectors(statement):
        found.append(_in_vectors(schedule.copy(), block, most, vectorize))
    if most > 1 and can_stage(statement):
        found.append(_in_vectors(schedule.copy(), block, most, stage))
    return found


def _strided(schedule: s_tir.Schedule, block: Any) -> s_tir.Schedule:
    """A thread's elements lie a block apart: neighbouring threads touch neighbouring elements, whatever is gathered."""
    threads, width = _sample(schedule, THREADS), _sample(schedule, WIDTHS)
    outer, lane, thread = schedule.split(schedule.fuse(*schedule.get_loops(block)), [None, width, threads])
    schedule.reorder(outer, thread, lane)
    schedule.bind(outer, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    schedule.unroll(lane)
    return schedule


def _in_vectors(schedule: s_tir.Schedule, block: Any, most: int, how: Any) -> s_tir.Schedule:
    threads, width = _sample(schedule, THREADS), _sample(schedule, [w for w in WIDTHS if 1 < w <= most])
    how(schedule, block, width, threads)
    return schedule


def _sample(schedule: s_tir.Schedule, values: Any) -> Any:
    return schedule.sample_categorical(list(values), [1 / len(values)] * len(values))


def _fits_tensor_cores(function: tirx.PrimFunc) -> bool:
    from tvm import s_tir

    schedule = s_tir.Schedule(function)
    block = contraction_of(schedule)
    return block is not None and operand_type(schedule.get(block)) is not None
