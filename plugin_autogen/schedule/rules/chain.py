"""Long elementwise chains: values that are read more than once stay in a register.

Inlining puts a producer's expression in the place of each of its reads, so thirty operators that read their operand
twice would come to a billion terms. Functions that inlining does not blow up are left to the other rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm import s_tir, tirx
    from tvm.target import Target

THREADS = 256
MAX_TERMS = 200
"""Blocks that may come together in one inlined expression, each counted as often as it is read."""
CHEAP = 4
"""A value of so few terms is inlined into every place that reads it."""


class Chain:
    """Applies to functions of spatial blocks with one output whose inlined expression would be too long."""

    name = "chain"
    keeps_host_loops = False

    def apply(self, function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc | None:
        from tvm import s_tir

        schedule = s_tir.Schedule(function)
        blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
        if len(blocks) < 2 or not all(_is_spatial(schedule, block) for block in blocks):
            return None
        kept = _worth_keeping([schedule.get(block) for block in blocks])
        output = blocks[-1]
        if not kept or any(not schedule.get_consumers(block) for block in blocks[:-1]):
            return None
        for i, block in enumerate(blocks[:-1]):
            if i not in kept:
                schedule.compute_inline(block)
        loops = schedule.get_loops(output) or [schedule.add_unit_loop(output)]
        outer, thread = schedule.split(schedule.fuse(*loops), [None, THREADS])
        schedule.bind(outer, "blockIdx.x")
        schedule.bind(thread, "threadIdx.x")
        bound = len(schedule.get_loops(output))
        for i in sorted(kept, reverse=True):
            schedule.compute_at(blocks[i], thread, preserve_unit_loops=False)
            schedule.set_scope(blocks[i], 0, "local")
            if len(schedule.get_loops(blocks[i])) > bound:
                return None  # each thread would compute more than one element, for a gather say all of them
        scheduled: tirx.PrimFunc = schedule.mod["main"]
        return scheduled


def _is_spatial(schedule: s_tir.Schedule, block: Any) -> bool:
    from tvm import tirx

    found = schedule.get(block)
    return (
        all(v.iter_type == tirx.IterVar.DataPar for v in found.iter_vars)
        and isinstance(found.body, tirx.BufferStore)
        and found.init is None
    )


def _worth_keeping(blocks: list[s_tir.SBlock]) -> set[int]:
    """Places of the blocks whose values stay in registers; none where the inlined expression stays short."""
    whole, _ = _terms(blocks, CHEAP * MAX_TERMS, keep=False)
    return _terms(blocks, CHEAP, keep=True)[1] if whole > MAX_TERMS else set()


def _terms(blocks: list[s_tir.SBlock], cheap: int, keep: bool) -> tuple[int, set[int]]:
    """Terms of the last block's expression, and the blocks that are read twice and have more than `cheap` of them."""
    import tvm_ffi
    from tvm import ir

    place = {block.writes[0].source: i for i, block in enumerate(blocks)}
    loads: list[list[int]] = []
    for block in blocks:
        found: list[int] = []
        tvm_ffi.structural_walk(block.body, (ir.TensorLoad, lambda load, f=found: f.append(place.get(load.source, -1))))
        loads.append([i for i in found if i >= 0])
    reads = [sum(made.count(i) for made in loads) for i in range(len(blocks))]
    terms: list[int] = []
    kept: set[int] = set()
    for i, made in enumerate(loads):
        terms.append(1 + sum(1 if m in kept else terms[m] for m in made))
        if keep and reads[i] > 1 and terms[i] > cheap:
            kept.add(i)
    return terms[-1], kept
