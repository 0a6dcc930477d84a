"""CUDA's warp matrix functions (`nvcuda::wmma`) on fragments of 16 x 16, as intrinsics for `Schedule.tensorize`.

TVM has them too, among a hundred others that its module parses when it is imported: twenty seconds.
"""

from __future__ import annotations

import functools
from typing import Any

from tvm import tirx
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

SIDE = 16


@functools.cache
def intrinsics(operand: str, total: str) -> dict[str, str]:
    """Registers and names them: "load_a", "load_b", "load_a_across", "load_b_across", "fill", "store", "multiply".

    Fragments are (row or column, depth). So is shared memory, for "across" (depth, row or column). "fill" is with 0.

    Args:
        operand: element type of both operands in shared memory.
        total: element type of the sums, kept in registers and stored to shared memory.
    """
    made = {
        "load_a": _load(operand, "wmma.matrix_a", "row_major"),
        "load_b": _load(operand, "wmma.matrix_b", "col_major"),
        "load_a_across": _load(operand, "wmma.matrix_a", "col_major", across=True),
        "load_b_across": _load(operand, "wmma.matrix_b", "row_major", across=True),
        "fill": _fill(total),
        "store": _store(total),
        "multiply": _multiply(operand, total),
    }
    names = {kind: f"plugin_autogen.wmma.{kind}.{operand}.{total}" for kind in made}
    for kind, (description, implementation) in made.items():
        TensorIntrin.register(names[kind], description, implementation, override=True)
    return names


def _fragment(buffer: Any, stride: Any) -> Any:
    """The number of a fragment within its buffer of whole fragments."""
    rows, columns = buffer.elem_offset // stride // SIDE, buffer.elem_offset % stride // SIDE
    return rows * (stride // SIDE) + columns


def _load(dtype: str, scope: str, layout: str, across: bool = False) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def description(source: T.handle, target: T.handle) -> None:
        A = T.match_buffer(source, (SIDE, SIDE), dtype, align=64, offset_factor=SIDE, scope="shared")
        B = T.match_buffer(target, (SIDE, SIDE), dtype, align=64, offset_factor=SIDE, scope=scope)
        with T.sblock("root"):
            T.reads(A[0:SIDE, 0:SIDE])
            T.writes(B[0:SIDE, 0:SIDE])
            for i, j in T.grid(SIDE, SIDE):
                with T.sblock("load"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    B[vi, vj] = A[vi, vj]

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def description_across(source: T.handle, target: T.handle) -> None:
        A = T.match_buffer(source, (SIDE, SIDE), dtype, align=64, offset_factor=SIDE, scope="shared")
        B = T.match_buffer(target, (SIDE, SIDE), dtype, align=64, offset_factor=SIDE, scope=scope)
        with T.sblock("root"):
            T.reads(A[0:SIDE, 0:SIDE])
            T.writes(B[0:SIDE, 0:SIDE])
            for i, j in T.grid(SIDE, SIDE):
                with T.sblock("load"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    B[vi, vj] = A[vj, vi]

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def implementation(source: T.handle, target: T.handle) -> None:
        a1 = T.int32()
        a0 = T.int32()
        b1 = T.int32()
        b0 = T.int32()
        A = T.match_buffer(source, (SIDE, SIDE), dtype, align=64, offset_factor=SIDE, scope="shared", strides=[a1, a0])
        B = T.match_buffer(target, (SIDE, SIDE), dtype, align=64, offset_factor=SIDE, scope=scope, strides=[b1, b0])
        with T.sblock("root"):
            T.reads(A[0:SIDE, 0:SIDE])
            T.writes(B[0:SIDE, 0:SIDE])
            T.evaluate(
                T.tvm_load_matrix_sync(
                    B.data,
                    SIDE,
                    SIDE,
                    SIDE,
                    _fragment(B, b1),
                    A.access_ptr("r", ptr_type=dtype),
                    a1,
                    layout,
                    dtype="void",
                )
            )

    return description_across if across else description, implementation


def _fill(dtype: str) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    zero = tirx.const(0, dtype)

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def description(target: T.handle) -> None:
        C = T.match_buffer(target, (SIDE, SIDE), dtype, align=64, offset_factor=SIDE, scope="wmma.accumulator")
        with T.sblock("root"):
            T.reads()
            T.writes(C[0:SIDE, 0:SIDE])
            for i, j in T.grid(SIDE, SIDE):
                with T.sblock("fill"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    C[vi, vj] = zero

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def implementation(target: T.handle) -> None:
        c1 = T.int32()
        c0 = T.int32()
        C = T.match_buffer(
            target, (SIDE, SIDE), dtype, align=64, offset_factor=SIDE, scope="wmma.accumulator", strides=[c1, c0]
        )
        with T.sblock("root"):
            T.reads()
            T.writes(C[0:SIDE, 0:SIDE])
            T.evaluate(T.tvm_fill_fragment(C.data, SIDE, SIDE, SIDE, _fragment(C, c1), T.float32(0), dtype="void"))

    return description, implementation


def _store(dtype: str) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def description(source: T.handle, target: T.handle) -> None:
        C = T.match_buffer(source, (SIDE, SIDE), dtype, align=64, offset_factor=SIDE, scope="wmma.accumulator")
        D = T.match_buffer(target, (SIDE, SIDE), dtype, align=64, offset_factor=SIDE, scope="shared")
        with T.sblock("root"):
            T.reads(C[0:SIDE, 0:SIDE])
            T.writes(D[0:SIDE, 0:SIDE])
            for i, j in T.grid(SIDE, SIDE):
                with T.sblock("store"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    D[vi, vj] = C[vi, vj]

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def implementation(source: T.handle, target: T.handle) -> None:
        c1 = T.int32()
        c0 = T.int32()
        d1 = T.int32()
        d0 = T.int32()
        C = T.match_buffer(
            source, (SIDE, SIDE), dtype, align=64, offset_factor=SIDE, scope="wmma.accumulator", strides=[c1, c0]
        )
        D = T.match_buffer(target, (SIDE, SIDE), dtype, align=64, offset_factor=SIDE, scope="shared", strides=[d1, d0])
        with T.sblock("root"):
            T.reads(C[0:SIDE, 0:SIDE])
            T.writes(D[0:SIDE, 0:SIDE])
            T.evaluate(
                T.tvm_store_matrix_sync(
                    C.data,
                    SIDE,
                    SIDE,
                    SIDE,
                    _fragment(C, c1),
                    D.access_ptr("w", ptr_type=dtype),
                    d1,
                    "row_major",
                    dtype="void",
                )
            )

    return description, implementation


def _multiply(operand: str, total: str) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """c += a @ b.T, the operands cast to the type of the sums."""

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (SIDE, SIDE), operand, align=64, offset_factor=SIDE, scope="wmma.matrix_a")
        B = T.match_buffer(b, (SIDE, SIDE), operand, align=64, offset_factor=SIDE, scope="wmma.matrix_b")
        C = T.match_buffer(c, (SIDE, SIDE), total, align=64, offset_factor=SIDE, scope="wmma.accumulator")
        with T.sblock("root"):
            T.reads(C[0:SIDE, 0:SIDE], A[0:SIDE, 0:SIDE], B[0:SIDE, 0:SIDE])
            T.writes(C[0:SIDE, 0:SIDE])
            for i, j, k in T.grid(SIDE, SIDE, SIDE):
                with T.sblock(""):
                    vi, vj, vk = T.axis.remap("SSR", [i, j, k])
                    C[vi, vj] = C[vi, vj] + T.Cast(total, A[vi, vk]) * T.Cast(total, B[vj, vk])

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        a1 = T.int32()
        a0 = T.int32()
        b1 = T.int32()
        b0 = T.int32()
        c1 = T.int32()
        c0 = T.int32()
        A = T.match_buffer(
            a, (SIDE, SIDE), operand, align=64, offset_factor=SIDE, scope="wmma.matrix_a", strides=[a1, a0]
        )
        B = T.match_buffer(
            b, (SIDE, SIDE), operand, align=64, offset_factor=SIDE, scope="wmma.matrix_b", strides=[b1, b0]
        )
        C = T.match_buffer(
            c, (SIDE, SIDE), total, align=64, offset_factor=SIDE, scope="wmma.accumulator", strides=[c1, c0]
        )
        with T.sblock("root"):
            T.reads(C[0:SIDE, 0:SIDE], A[0:SIDE, 0:SIDE], B[0:SIDE, 0:SIDE])
            T.writes(C[0:SIDE, 0:SIDE])
            T.evaluate(
                T.tvm_mma_sync(
                    C.data,
                    _fragment(C, c1),
                    A.data,
                    _fragment(A, a1),
                    B.data,
                    _fragment(B, b1),
                    C.data,
                    _fragment(C, c1),
                    dtype="void",
                )
            )

    return description, implementation
