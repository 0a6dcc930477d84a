"""Reductions over a single element become plain computations before a function is scheduled.

dlight drops loops of extent 1, and with them what marks such a block as a reduction; TVM then inlines an elementwise
consumer into it and applies the consumer twice: `b + sum(x)` comes out as `b + ((b + 0) + x)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm import s_tir, tirx


def without_unit_reductions(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """The function with the initial value in the place of the accumulator wherever only one element is reduced."""
    import tvm_ffi
    from tvm import s_tir

    return function.with_body(tvm_ffi.structural_map(function.body, (s_tir.SBlock, _plain)))


def _plain(block: s_tir.SBlock) -> s_tir.SBlock:
    import tvm_ffi
    from tvm import ir, s_tir, tirx

    reduced = [v for v in block.iter_vars if v.iter_type == tirx.IterVar.CommReduce]
    if block.init is None or not reduced or not all(_is_one(v.dom.extent) for v in reduced):
        return block
    initial: dict[Any, Any] = {}

    def collect(store: tirx.BufferStore) -> None:
        initial[store.buffer] = store.value

    tvm_ffi.structural_walk(block.init, (tirx.BufferStore, collect))

    def start(load: Any) -> Any:
        return initial.get(load.source, load)

    body = tvm_ffi.structural_map(block.body, (ir.TensorLoad, start))
    iterators = [
        tirx.IterVar(v.dom, v.var, tirx.IterVar.DataPar, v.thread_tag) if v in reduced else v for v in block.iter_vars
    ]
    return s_tir.SBlock(
        iterators,
        block.reads,
        block.writes,
        block.name_hint,
        body,
        None,
        block.alloc_buffers,
        block.match_buffers,
        block.annotations,
    )


def _is_one(extent: Any) -> bool:
    from tvm import tirx

    return isinstance(extent, tirx.IntImm) and int(extent) == 1
