"""Operators that make tensors, windows, and losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(0)


def _normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("start", "end"), [(None, None), (1, None), (-2, None), (0, -1), (2, 1), (-9, 9)])
def test_shape(start: int | None, end: int | None) -> None:
    attributes = {k: v for k, v in (("start", start), ("end", end)) if v is not None}
    check("Shape", [_normal(2, 3, 4)], attributes)


def test_size_and_identity() -> None:
    for shape in ((2, 3, 4), (), (0, 3)):
        check("Size", [_normal(*shape)])
        check("Identity", [_normal(*shape)])


@pytest.mark.parametrize("shape", [(2, 3), (100, 100)], ids=["folded", "kernel"])
@pytest.mark.parametrize(
    "value",
    [None, np.array([2.5], np.float32), np.array([-7], np.int64), np.array([True]), np.array([1.5], np.float16)],
)
def test_constant_of_shape(shape: tuple[int, ...], value: np.ndarray | None) -> None:
    attributes = {} if value is None else {"value": onnx.numpy_helper.from_array(value)}
    wanted = np.full(shape, 0 if value is None else value[0], np.float32 if value is None else value.dtype)
    check("ConstantOfShape", [np.array(shape)], attributes, constants=[0], expected=[wanted])


@pytest.mark.parametrize(
    ("start", "limit", "delta", "dtype"),
    [(0, 5, 1, "int32"), (10, -3, -3, "int64"), (0, 9000, 2, "int64"), (9000, 0, -1, "int32"), (0.5, 3, 0.3, "float32"),
     (0, 600, 0.1, "float32"), (5, 5, 1, "int64"), (0, 6000, 1, "float64")],
)  # fmt: skip
def test_range(start: float, limit: float, delta: float, dtype: str) -> None:
    check("Range", [np.array(v, dtype) for v in (start, limit, delta)], constants=[0, 1, 2])


@pytest.mark.parametrize("k", [-5, -1, 0, 2, 9])
def test_eye_like(k: int) -> None:
    for to in (None, onnx.TensorProto.INT64, onnx.TensorProto.FLOAT16):
        attributes = {"k": k} | ({} if to is None else {"dtype": to})
        dtype = {None: np.float32, onnx.TensorProto.INT64: np.int64, onnx.TensorProto.FLOAT16: np.float16}[to]
        check("EyeLike", [_normal(4, 5)], attributes, expected=[np.eye(4, 5, k, dtype)], kernels=1)


@pytest.mark.parametrize("k", [None, -2, 0, 1, 9])
@pytest.mark.parametrize("upper", [0, 1])
def test_trilu(k: int | None, upper: int) -> None:
    x = RNG.integers(1, 100, (2, 4, 5))
    function = np.triu if upper else np.tril
    diagonal = [] if k is None else [np.array(k, np.int64)]
    for constants in ([], [1] if diagonal else []):
        check("Trilu", [x, *diagonal], {"upper": upper}, constants=constants, expected=[function(x, k or 0)], kernels=1)
    for dtype in (np.float16, np.float64, np.int8, bool):
        y = x.astype(dtype)
        check(
            "Trilu", [y, *diagonal], {"upper": upper}, constants=[1] if diagonal else [], expected=[function(y, k or 0)]
        )


def test_dropout_in_inference() -> None:
    x = _normal(3, 4)
    check("Dropout", [x], outputs=2, expected=[x, np.ones(x.shape, bool)])
    check("Dropout", [x, np.float32(0.3), np.array(False)], constants=[2], expected=[x])
    check("Dropout", [x], {"ratio": 0.3}, opset=10, expected=[x])


def test_dropout_in_training_follows_the_seed() -> None:
    x, ratio = _normal(30, 40), np.float32(0.3)
    kept = np.random.RandomState(7).uniform(0, 1, x.shape) >= ratio
    wanted = np.where(kept, x / (1 - ratio), 0).astype(np.float32)
    for constants in ([1, 2], [2]):
        check(
            "Dropout", [x, ratio, np.array(True)], {"seed": 7}, constants=constants, outputs=2, expected=[wanted, kept]
        )


@pytest.mark.parametrize("operator", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
def test_windows(operator: str, periodic: int) -> None:
    for size in (10, 5001):
        n = np.arange(size) / (size if periodic else size - 1)
        first, second, third = {"HannWindow": (0.5, 0.5, 0), "HammingWindow": (25 / 46, 21 / 46, 0)}.get(
            operator, (0.42, 0.5, 0.08)
        )
        wanted = first - second * np.cos(2 * np.pi * n) + third * np.cos(4 * np.pi * n)
        for number, dtype in ((onnx.TensorProto.FLOAT, np.float32), (onnx.TensorProto.DOUBLE, np.float64)):
            attributes = {"periodic": periodic, "output_datatype": number}
            check(operator, [np.array(size, np.int64)], attributes, constants=[0], expected=[wanted.astype(dtype)])


@pytest.mark.parametrize("bands", [4, 8, 40])
def test_mel_weight_matrix(bands: int) -> None:
    inputs = [np.array(bands), np.array(256), np.array(8192), np.float32(100), np.float32(3900)]
    wanted = check("MelWeightMatrix", inputs, constants=[0, 1, 2, 3, 4], opset=17).outputs
    check("MelWeightMatrix", inputs, constants=[0, 1], opset=17, expected=wanted)


LOSSES = ["none", "sum", "mean"]


def _loss(
    scores: np.ndarray, target: np.ndarray, weight: np.ndarray | None, ignored: int | None, reduction: str
) -> np.ndarray:
    counts = np.ones(target.shape, bool) if ignored is None else target != ignored
    safe = np.where(counts, target, 0)
    factor = np.where(counts, 1.0 if weight is None else weight[safe], 0.0)
    loss = -np.take_along_axis(scores, safe[:, None], 1)[:, 0] * factor
    result: Any = {"none": lambda: loss, "sum": loss.sum, "mean": lambda: loss.sum() / factor.sum()}[reduction]()
    return np.asarray(result, np.float32)


@pytest.mark.parametrize("reduction", LOSSES)
@pytest.mark.parametrize("shape", [(4, 5), (2, 5, 3), (2, 5, 3, 4)])
@pytest.mark.parametrize("weighted", [False, True])
def test_losses(reduction: str, shape: tuple[int, ...], weighted: bool) -> None:
    x, target = _normal(*shape), RNG.integers(0, shape[1], (shape[0], *shape[2:]))
    weight = np.abs(_normal(shape[1])) if weighted else None
    inputs = [x, target, *([] if weight is None else [weight])]
    exponential = np.exp(x.astype(np.float64))
    logarithm = np.log(exponential / exponential.sum(1, keepdims=True))
    for ignored in (None, 2, -1):
        attributes: dict[str, Any] = {"reduction": reduction} | ({} if ignored is None else {"ignore_index": ignored})
        wanted = _loss(x, target, weight, ignored, reduction)
        check("NegativeLogLikelihoodLoss", inputs, attributes, expected=[wanted], opset=13, kernels=3)
        wanted = _loss(logarithm, target, weight, ignored, reduction)
        check("SoftmaxCrossEntropyLoss", inputs, attributes, outputs=2, opset=13,
              expected=[wanted, logarithm.astype(np.float32)])  # fmt: skip


@pytest.mark.parametrize("sizes", [(2, 0), (0, 3), (5, 2, 0, 1)])
def test_a_constant_without_elements(sizes: tuple[int, ...]) -> None:
    """No inputs, and nothing to compute: TVM's executables cannot hold such a constant in every shape."""
    check("ConstantOfShape", [np.array(sizes)], constants=[0], expected=[np.zeros(sizes, np.float32)])
