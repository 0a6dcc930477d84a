"""Packing of intermediate buffers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from plugin_autogen.codegen import expr as ex
from plugin_autogen.codegen.expr import Const
from plugin_autogen.codegen.workspace import ALIGNMENT, Interval, assign_offsets


def interval(first: int, last: int, size: int) -> Interval:
    return Interval(first, last, Const(size))


def test_nothing_needs_nothing() -> None:
    assert assign_offsets([]) == ([], ex.ZERO)


def test_buffers_of_a_chain_take_turns_in_two_places() -> None:
    offsets, size = assign_offsets([interval(i, i + 1, 1024) for i in range(10)])
    assert size == Const(2048)
    assert offsets == [Const(0), Const(1024)] * 5


def test_a_buffer_read_by_the_step_that_writes_another_keeps_its_place() -> None:
    offsets, size = assign_offsets([interval(0, 3, 256), interval(3, 4, 256)])
    assert offsets[0] != offsets[1]
    assert size == Const(512)


def test_symbolic_sizes_share_only_with_equal_ones() -> None:
    n = ex.mul(ex.Symbol("n"), Const(4))
    offsets, size = assign_offsets([Interval(0, 1, n), Interval(2, 3, n), interval(2, 3, 512)])
    assert offsets[0] == offsets[1]
    assert ex.evaluate(size, {"n": 100}) == 512 + 512
    places = [ex.evaluate(o, {"n": 100}) for o in offsets]
    assert places[2] not in places[:2]


@pytest.mark.parametrize("seed", range(20))
def test_buffers_alive_at_the_same_time_never_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    intervals = []
    for _ in range(30):
        first = int(rng.integers(0, 20))
        intervals.append(interval(first, first + int(rng.integers(0, 6)), int(rng.integers(0, 5000))))
    offsets, size = assign_offsets(intervals)
    total = ex.evaluate(size, {})
    places = [ex.evaluate(o, {}) for o in offsets]
    for a, b in itertools.combinations(range(30), 2):
        if intervals[a].first <= intervals[b].last and intervals[b].first <= intervals[a].last:
            ends = [places[i] + ex.evaluate(intervals[i].size, {}) for i in (a, b)]
            assert ends[0] <= places[b] or ends[1] <= places[a]
    for place, buffer in zip(places, intervals, strict=True):
        assert place % ALIGNMENT == 0
        assert place + ex.evaluate(buffer.size, {}) <= total
