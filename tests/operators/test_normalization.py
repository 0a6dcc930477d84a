"""Softmax and its kin, and normalizations, against ONNX Runtime and numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(0)


def _normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def _half(*arrays: np.ndarray) -> list[np.ndarray]:
    return [a.astype(np.float16) for a in arrays]


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize(
    ("shape", "axis"), [((3, 5), -1), ((2, 3, 4), 1), ((2, 3, 4), 0), ((7,), 0), ((2, 600), 1), ((70, 5, 8, 8), 1)]
)
def test_softmax(operator: str, shape: tuple[int, ...], axis: int) -> None:
    x = 3 * _normal(*shape)
    check(operator, [x], {"axis": axis}, kernels=1)
    check(operator, [x], {"axis": axis}, opset=11, kernels=2)
    check(operator, [x.astype(np.float64)], {"axis": axis}, kernels=1)


def test_softmax_of_large_values_and_halves() -> None:
    x = np.array([[1000.0, 1001.0, -1000.0], [-np.inf, 0.0, 1.0]], np.float32)
    for operator in ("Softmax", "LogSoftmax"):
        check(operator, [x])
        half = 4 * _normal(4, 1000)
        check(operator, _half(half), expected=[check(operator, [half.astype(np.float16).astype(np.float32)]).outputs[0]
                                               .astype(np.float16)], kernels=1)  # fmt: skip


def test_softmax_spoiled_by_nan() -> None:
    x = np.array([[1.0, np.nan, 2.0], [1.0, 2.0, 3.0], [np.inf, 1.0, 2.0]], np.float32)
    with np.errstate(invalid="ignore"):
        exponential = np.exp(x - x.max(1, keepdims=True))
    check("Softmax", [x], expected=[exponential / exponential.sum(1, keepdims=True)])


def test_hardmax_takes_the_first_of_equals() -> None:
    x = np.array([[1.0, 3.0, 3.0], [-np.inf, -np.inf, -np.inf]], np.float32)
    check("Hardmax", [x], expected=[np.array([[0, 1, 0], [1, 0, 0]], np.float32)])
    check("Hardmax", [np.ones((2, 2, 2), np.float32)], {"axis": 1}, opset=11)


@pytest.mark.parametrize(
    ("shape", "axis"), [((4, 8), -1), ((2, 3, 40), 2), ((2, 3, 4, 5), 1), ((2, 3, 4), -2), ((6,), 0)]
)
@pytest.mark.parametrize("bias", [True, False])
def test_layer_normalization(shape: tuple[int, ...], axis: int, bias: bool) -> None:
    x = _normal(*shape)
    scale, offset = _normal(*shape[axis:]), _normal(*shape[axis:])
    inputs: list[np.ndarray | None] = [x, scale, *([offset] if bias else [])]
    check("LayerNormalization", inputs, {"axis": axis}, kernels=1)
    check("LayerNormalization", inputs, {"axis": axis, "epsilon": 0.1}, outputs=3, kernels=3)


def test_layer_normalization_does_not_cancel() -> None:
    """The variance of values far from zero, whose sums are exact in float32 while those of their squares are not."""
    x = (4096 + RNG.integers(-8, 9, (4, 256)) / 8).astype(np.float32)
    wide = x.astype(np.float64)
    wanted = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    one = np.ones(256, np.float32)
    check("LayerNormalization", [x, one, 0 * one], expected=[wanted.astype(np.float32)])


def test_layer_normalization_of_halves_and_broadcast_scale() -> None:
    x, scale, bias = _normal(6, 64), _normal(64), _normal(64)
    whole = check("LayerNormalization", [v.astype(np.float32) for v in _half(x, scale, bias)]).outputs[0]
    check("LayerNormalization", _half(x, scale, bias), expected=[whole.astype(np.float16)], kernels=1)
    y = _normal(2, 3, 4)
    normal = (y - y.mean((1, 2), keepdims=True)) / np.sqrt(y.var((1, 2), keepdims=True) + 1e-5)
    check("LayerNormalization", [y, _normal(1), _normal(3, 1)], {"axis": 1}, expected=lambda _, s, b: normal * s + b)


def test_rms_normalization() -> None:
    x, scale = _normal(3, 4, 32), _normal(32)

    def expected(v: np.ndarray, s: np.ndarray) -> np.ndarray:
        wide = v.astype(np.float64)
        return (wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5) * s).astype(v.dtype)

    check("RMSNormalization", [x, scale], opset=23, expected=expected, kernels=1)
    check("RMSNormalization", _half(x, scale), opset=23, expected=expected, kernels=1)


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 3, 5, 7), (1, 2, 3, 4, 5)])
def test_instance_normalization(shape: tuple[int, ...]) -> None:
    check("InstanceNormalization", [_normal(*shape), _normal(shape[1]), _normal(shape[1])], kernels=1)


@pytest.mark.parametrize(("opset", "parameters"), [(21, 6), (18, 3)])
def test_group_normalization(opset: int, parameters: int) -> None:
    def expected(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
        grouped = x.reshape(x.shape[0], 3, -1)
        normal = (grouped - grouped.mean(2, keepdims=True)) / np.sqrt(grouped.var(2, keepdims=True) + 1e-5)
        each = np.repeat if parameters == 3 else lambda v, _: v
        channel = [each(v, 2)[None, :, None, None] for v in (scale, bias)]
        return normal.reshape(x.shape) * channel[0] + channel[1]

    inputs = [_normal(2, 6, 4, 5), _normal(parameters), _normal(parameters)]
    check("GroupNormalization", inputs, {"num_groups": 3}, opset=opset, expected=expected, kernels=1)


def test_batch_normalization() -> None:
    for shape in ((2, 3, 4, 5), (4, 3), (2, 3, 4)):
        parameters = [_normal(3), _normal(3), _normal(3), np.abs(_normal(3))]
        check("BatchNormalization", [_normal(*shape), *parameters], kernels=1)
        check("BatchNormalization", [_normal(*shape), *parameters], {"epsilon": 0.01}, opset=9, kernels=1)
        check("BatchNormalization", [_normal(*shape), *parameters], constants=[1, 2, 3, 4], kernels=1)


def test_batch_normalization_in_training() -> None:
    x, scale, bias, mean, variance = _normal(4, 3, 5), _normal(3), _normal(3), _normal(3), np.abs(_normal(3))
    own_mean, own_variance = x.mean((0, 2)), x.var((0, 2))

    def channel(v: np.ndarray) -> np.ndarray:
        return v[None, :, None]

    wanted = [
        (x - channel(own_mean)) / np.sqrt(channel(own_variance) + 1e-5) * channel(scale) + channel(bias),
        mean * np.float32(0.9) + own_mean * np.float32(0.1),
        variance * np.float32(0.9) + own_variance * np.float32(0.1),
    ]
    inputs = [x, scale, bias, mean, variance]
    check("BatchNormalization", inputs, {"training_mode": 1}, outputs=3, opset=15, expected=wanted)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_local_response_normalization(size: int) -> None:
    def expected(x: np.ndarray) -> np.ndarray:
        squares = np.pad(x.astype(np.float64) ** 2, [(0, 0), ((size - 1) // 2, size // 2), (0, 0), (0, 0)])
        total = sum(squares[:, i : i + x.shape[1]] for i in range(size))
        return (x / (1.5 + 0.2 / size * total) ** 0.6).astype(x.dtype)

    attributes = {"size": size, "alpha": 0.2, "beta": 0.6, "bias": 1.5}
    check("LRN", [_normal(2, 6, 3, 4)], attributes, expected=expected, kernels=1)
    check("LRN", [_normal(2, 8, 20, 20)], attributes, expected=expected, kernels=1)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_lp_normalization(p: int, axis: int) -> None:
    x = _normal(3, 4, 5)
    x[:, 0] = 0
    x[0] = 0
    norm = (np.abs(x) ** p).sum(axis, keepdims=True) ** (1 / p)
    wanted = np.divide(x, norm, out=np.zeros_like(x), where=norm != 0)
    check("LpNormalization", [x], {"p": p, "axis": axis}, opset=22, expected=[wanted], kernels=1)


@pytest.mark.parametrize("axes", [None, [0, 2, 3], [1], [-1]])
def test_mean_variance_normalization(axes: list[int] | None) -> None:
    attributes: dict[str, Any] = {} if axes is None else {"axes": axes}
    check("MeanVarianceNormalization", [_normal(2, 3, 4, 5)], attributes, opset=13, kernels=1)


@pytest.mark.parametrize("outputs", [1, (True, False, False, True)])
def test_skip_layer_normalization(outputs: Any) -> None:
    x, skip, gamma, beta, bias = _normal(2, 3, 8), _normal(2, 3, 8), _normal(8), _normal(8), _normal(8)
    for inputs in ([x, skip, gamma, beta, bias], [x, skip, gamma, beta], [x, skip, gamma]):
        check("SkipLayerNormalization", inputs, {"epsilon": 1e-5}, domain="com.microsoft", outputs=outputs, kernels=2)
    check("SkipSimplifiedLayerNormalization", [x, skip, gamma], domain="com.microsoft", outputs=outputs, kernels=2)


@pytest.mark.parametrize(("transposed", "alpha"), [((0, 0), 1.0), ((1, 0), 0.5), ((0, 1), 2.0), ((1, 1), 1.0)])
def test_fused_matmul(transposed: tuple[int, int], alpha: float) -> None:
    a, b = _normal(2, 4, 6), _normal(6, 5)
    a = a.swapaxes(1, 2).copy() if transposed[0] else a
    b = b.T.copy() if transposed[1] else b
    attributes = {"transA": transposed[0], "transB": transposed[1], "alpha": alpha}
    check("FusedMatMul", [a, b], attributes, domain="com.microsoft", kernels=3)
