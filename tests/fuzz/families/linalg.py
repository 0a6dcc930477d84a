"""Matrix products, determinants, Fourier transforms."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz import draw as d
from tests.fuzz.case import Case, fuzz
from tests.fuzz.draw import Array, Draw

FACTORS = (*d.FLOATS, "int32", "int64", "uint32", "uint64")


def _factor(draw: Draw, shape: tuple[int, ...], dtype: str) -> Array:
    return d.values(draw, shape, dtype, low=-3, high=3, special=False, ties=False)


def _in_double(function: Any) -> Any:
    def expected(*values: Array) -> Array:
        wide = [v.astype(np.float64) if v.dtype.kind == "f" else v for v in values]
        return np.asarray(function(*wide)).astype(values[0].dtype)

    return expected


@fuzz("MatMul")
def matmul(draw: Draw, operator: str) -> Case:
    dtype = d.one_of(draw, FACTORS)
    m, k, n = (d.one_of(draw, [2, 1, 3, 5, 8, 16, 33, 0]) for _ in range(3))
    batch = d.shape(draw, most=3, sizes=(2, 1, 3, 0), elements=12)
    left, right = (*d.broadcast(draw, batch), m, k), (*d.broadcast(draw, batch), k, n)
    if d.integer(draw, 0, 4) == 0:
        left = (k,)
    if d.integer(draw, 0, 4) == 0:
        right = (k,)
    a, b = _factor(draw, left, dtype), _factor(draw, right, dtype)
    return Case(operator, [a, b], {}, d.one_of(draw, [[], [1], [0]]), expected=_in_double(np.matmul))


@fuzz("Gemm")
def gemm(draw: Draw, operator: str) -> Case:
    dtype = d.one_of(draw, FACTORS)
    m, k, n = (d.one_of(draw, [2, 1, 3, 5, 8, 16, 33, 0]) for _ in range(3))
    ta, tb = d.flag(draw), d.flag(draw)
    a, b = _factor(draw, (k, m) if ta else (m, k), dtype), _factor(draw, (n, k) if tb else (k, n), dtype)
    alpha, beta = (d.one_of(draw, [1.0, 0.5, -2.0] if d.is_float(dtype) else [1.0, 2.0]) for _ in range(2))
    c = _factor(draw, d.broadcast(draw, (m, n)), dtype) if d.flag(draw) else None

    def product(x: Array, y: Array, z: Array | None = None) -> Array:
        whole = alpha * np.matmul(x.T if ta else x, y.T if tb else y)
        return whole if z is None else whole + beta * z

    attributes = {"transA": int(ta), "transB": int(tb), "alpha": alpha, "beta": beta}
    inputs = [a, b] if c is None else [a, b, c]
    return Case(operator, inputs, attributes, d.one_of(draw, [[], [1]]), expected=_in_double(product))


EQUATIONS = (
    "ij,jk->ik", "bij,bjk->bik", "bhqd,bhkd->bhqk", "ij->ji", "ij->", "ii->i", "ii->", "i,j->ij", "ij,ij->ij",
    "...ij,...jk->...ik", "ijk->k", "i,i", "ij,j", "bij,bik,bkl->bjl", "ba", "b...i,i->b...", "aab->ab", "i,->i",
)  # fmt: skip


@fuzz("Einsum")
def einsum(draw: Draw, operator: str) -> Case:
    equation = d.one_of(draw, EQUATIONS)
    size = {letter: d.one_of(draw, [2, 1, 3, 5, 0]) for letter in sorted(set(equation)) if letter.isalpha()}
    dots = d.shape(draw, most=2, empty=False, sizes=(2, 1, 3))
    dtype = d.one_of(draw, ("float32", "float64", "float16", "bfloat16", "int32", "int64"))
    inputs = []
    for term in equation.split("->")[0].split(","):
        shape: list[int] = []
        for part in term.replace("...", "."):
            shape += dots if part == "." else [size[part]]
        inputs.append(_factor(draw, tuple(shape), dtype))
    return Case(operator, inputs, {"equation": equation}, expected=_in_double(lambda *v: np.einsum(equation, *v)))


@fuzz("Det")
def determinant(draw: Draw, operator: str) -> Case:
    n = d.integer(draw, 1, 7)
    x = _factor(draw, (*d.shape(draw, most=3, sizes=(2, 1, 3, 0), elements=12), n, n), d.one_of(draw, d.FLOATS))
    return Case(operator, [x], opset=22, expected=_in_double(np.linalg.det))


@fuzz("DFT")
def fourier(draw: Draw, operator: str) -> Case:
    rank = d.integer(draw, 2, 4)
    axis = d.integer(draw, 0, rank - 2)
    inverse, onesided = d.flag(draw), d.flag(draw)
    parts = 1 if onesided and not inverse else d.one_of(draw, [1, 2])
    if inverse:
        onesided = False
        parts = 2
    shape = tuple(d.one_of(draw, [2, 1, 3, 4, 5, 8, 16, 17]) if i == axis else d.integer(draw, 1, 3)
                  for i in range(rank - 1))  # fmt: skip
    x = _factor(draw, (*shape, parts), d.one_of(draw, ("float32", "float64", "float16")))
    length = d.integer(draw, 1, shape[axis] + 3) if d.flag(draw) else None
    old = d.flag(draw)
    given = axis - rank if d.flag(draw) else axis

    def expected(value: Array, *_: Array) -> Array:
        wide = value.astype(np.float64)
        signal = wide[..., 0] + (1j * wide[..., 1] if parts == 2 else 0)
        result = (np.fft.ifft if inverse else np.fft.fft)(signal, n=length, axis=axis)
        if onesided:
            result = np.take(result, np.arange((length or shape[axis]) // 2 + 1), axis=axis)
        return np.stack([result.real, result.imag], axis=-1).astype(value.dtype)

    attributes: dict[str, Any] = {"inverse": int(inverse), "onesided": int(onesided)}
    inputs: list[Array | None] = [x, None if length is None else np.array(length, np.int64)]
    if old:
        attributes["axis"] = given
        inputs = inputs if length is not None else [x]
    else:
        inputs.append(np.array(given, np.int64))
    constants = [i for i, v in enumerate(inputs) if i and v is not None]
    return Case(operator, inputs, attributes, constants, opset=17 if old else 20, expected=expected)
