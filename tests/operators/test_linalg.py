"""MatMul, Gemm, Einsum, Det."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(0)


def _values(*shape: int, dtype: str = "float32") -> np.ndarray:
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    return RNG.integers(0, 9, shape).astype(kind) if kind.kind in "iu" else RNG.standard_normal(shape).astype(kind)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((5,), (5,)), ((5,), (5, 7)), ((4, 5), (5,)), ((33, 20), (20, 65)), ((2, 3, 4, 5), (5, 6)),
        ((2, 1, 4, 5), (3, 5, 6)), ((5,), (2, 5, 3)), ((3, 4, 5), (5,)), ((1, 1), (1, 1)), ((3, 0), (0, 4)),
    ],
)  # fmt: skip
def test_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check("MatMul", [_values(*a), _values(*b)], kernels=1 if 0 not in a else None)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64", "float64", "float16", "bfloat16"])
def test_matmul_types(dtype: str) -> None:
    a, b = _values(6, 40, dtype=dtype), _values(40, 7, dtype=dtype)
    exact = a.astype(np.float64) @ b.astype(np.float64) if a.dtype.kind not in "iu" else a @ b
    check("MatMul", [a, b], expected=[exact.astype(a.dtype)], kernels=1)


def test_float16_sums_in_float32() -> None:
    a, b = np.full((1, 4096), 1, np.float16), np.full((4096, 1), 1, np.float16)
    check("MatMul", [a, b], expected=[np.array([[4096]], np.float16)])


@pytest.mark.parametrize("transposed", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("bias", [None, (), (7,), (6, 1), (1, 7), (6, 7)])
def test_gemm(transposed: tuple[int, int], bias: tuple[int, ...] | None) -> None:
    a = _values(*((20, 6) if transposed[0] else (6, 20)))
    b = _values(*((7, 20) if transposed[1] else (20, 7)))
    attributes = {"transA": transposed[0], "transB": transposed[1], "alpha": 0.5, "beta": 1.5}
    check("Gemm", [a, b, *([] if bias is None else [_values(*bias)])], attributes, kernels=1)


@pytest.mark.parametrize("dtype", ["int32", "uint64", "float16", "float64"])
def test_gemm_types(dtype: str) -> None:
    a, b, c = _values(6, 20, dtype=dtype), _values(20, 7, dtype=dtype), _values(7, dtype=dtype)
    wide = np.dtype("float64") if a.dtype.kind == "f" else a.dtype
    expected = (2 * (a.astype(wide) @ b.astype(wide)) + c.astype(wide)).astype(a.dtype)
    check("Gemm", [a, b, c], {"alpha": 2.0}, expected=[expected], kernels=1)


@pytest.mark.parametrize(
    ("equation", "shapes", "kernels"),
    [
        ("ij->ji", [(3, 4)], 1),
        ("ij->", [(30, 40)], 1),
        ("ii->i", [(4, 4)], 1),
        ("ii", [(4, 4)], 1),
        ("...ii->...i", [(3, 4, 4)], 1),
        ("bij,bjk->bik", [(3, 5, 6), (3, 6, 7)], 1),
        ("...ij,...jk", [(2, 1, 5, 6), (3, 6, 7)], 1),
        ("i,j", [(3,), (4,)], 1),
        ("ij, jk ,kl->il", [(5, 6), (6, 7), (7, 3)], 2),
        ("a,b,c,abc->b", [(3,), (4,), (5,), (3, 4, 5)], 3),
        ("bhqd,bhkd->bhqk", [(2, 3, 5, 8), (2, 3, 6, 8)], 1),
        ("ij,ij->ij", [(3, 4), (3, 4)], 1),
        ("B...i,i->B...", [(2, 3, 4), (4,)], 1),
        ("iij,jk->ik", [(3, 3, 4), (4, 2)], 1),
    ],
)
def test_einsum(equation: str, shapes: list[tuple[int, ...]], kernels: int) -> None:
    values = [_values(*s) for s in shapes]
    expected = [np.asarray(np.einsum(equation, *values))]
    check("Einsum", values, {"equation": equation}, expected=expected, kernels=kernels)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 5, 5), (2, 2, 9, 9), (70, 70)])
def test_det(shape: tuple[int, ...]) -> None:
    x = _values(*shape, dtype="float64")
    check("Det", [x], expected=[np.linalg.det(x)], kernels=1)


def test_det_needs_pivots() -> None:
    x = np.array([[[0, 2], [3, 0]], [[0, 0], [0, 5]], [[1, 2], [2, 4]]], np.float32)
    check("Det", [x], expected=[np.array([-6, 0, 0], np.float32)], kernels=1)


@pytest.mark.parametrize(("left", "right"), [((2, 10), (10, 3)), ((24,), (24,))])
def test_fewer_outputs_than_threads(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    """The last block's other threads write nothing."""
    rng = np.random.default_rng(0)
    check("MatMul", [rng.standard_normal(left).astype(np.float32), rng.standard_normal(right).astype(np.float32)])
