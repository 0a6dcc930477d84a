"""Packs the intermediate buffers of a plan into one workspace: buffers whose lifetimes do not meet share a place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plugin_autogen.codegen import expr as ex
from plugin_autogen.codegen.expr import Expr

ALIGNMENT = 256
"""Bytes; what cudaMalloc gives, so kernels may use the widest accesses."""


@dataclass(frozen=True)
class Interval:
    """A buffer: the first and last step that touches it, and its size in bytes."""

    first: int
    last: int
    size: Expr


@dataclass
class _Slot:
    size: Expr
    free_from: int


def assign_offsets(intervals: Sequence[Interval]) -> tuple[list[Expr], Expr]:
    """Offsets in bytes, in the order of `intervals`, and the size of the whole workspace.

    Slots are handed out in the order of first use (linear scan). A free slot is taken when it has the same size, or
    where both sizes are known: the largest that is free is the one that grows least. A buffer of unknown size takes
    no slot of another size, since which of both is larger is not known.
    """
    slots: list[_Slot] = []
    chosen: list[int] = [0] * len(intervals)
    for index in sorted(range(len(intervals)), key=lambda i: intervals[i].first):
        interval = intervals[index]
        size = ex.align(interval.size, ALIGNMENT)
        free = [i for i, slot in enumerate(slots) if slot.free_from <= interval.first]
        same = [i for i in free if slots[i].size == size]
        if same:
            slot = same[0]
        elif isinstance(size, ex.Const) and (known := [i for i in free if isinstance(slots[i].size, ex.Const)]):
            slot = min(known, key=lambda i: _misfit(slots[i].size, size))
        else:
            slots.append(_Slot(size, 0))
            slot = len(slots) - 1
        slots[slot].size = ex.maximum(slots[slot].size, size)
        slots[slot].free_from = interval.last + 1
        chosen[index] = slot
    starts: list[Expr] = []
    total: Expr = ex.ZERO
    for slot_ in slots:
        starts.append(total)
        total = ex.add(total, slot_.size)
    return [starts[i] for i in chosen], total


def _misfit(slot: Expr, size: Expr) -> tuple[bool, int]:
    """Slots that are large enough come first, the tightest before others; then the one that must grow least."""
    assert isinstance(slot, ex.Const) and isinstance(size, ex.Const)
    return slot.value < size.value, abs(slot.value - size.value)
