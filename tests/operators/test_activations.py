"""Activations against ONNX Runtime, their defaults included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.uniform(-8, 8, 40), [0, -0.0, 1, -1, 90, -90, 0.5, -0.5]]).astype(np.float32).reshape(6, 8)

CASES: list[tuple[str, dict[str, Any]]] = [
    ("Relu", {}), ("LeakyRelu", {}), ("LeakyRelu", {"alpha": 0.3}), ("ThresholdedRelu", {}),
    ("ThresholdedRelu", {"alpha": 2.0}), ("Elu", {}), ("Elu", {"alpha": 2.0}), ("Celu", {}), ("Celu", {"alpha": 2.0}),
    ("Selu", {}), ("Selu", {"alpha": 2.0, "gamma": 3.0}), ("Sigmoid", {}), ("HardSigmoid", {}),
    ("HardSigmoid", {"alpha": 0.5, "beta": 0.6}), ("HardSwish", {}), ("Softplus", {}), ("Softsign", {}), ("Mish", {}),
    ("Gelu", {}), ("Gelu", {"approximate": "tanh"}), ("Shrink", {}), ("Shrink", {"lambd": 1.5, "bias": 1.0}),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "attributes"), CASES, ids=lambda v: str(v))
def test_activation(operator: str, attributes: dict[str, Any]) -> None:
    single = check(operator, [X], attributes, opset=20, kernels=1).outputs[0]
    half = X.astype(np.float16)
    check(operator, [half], attributes, opset=20, kernels=1, expected=[single.astype(np.float16)])


def test_swish_and_swiglu() -> None:
    def swish(x: np.ndarray, alpha: float) -> np.ndarray:
        x = x.astype(np.float64)
        return x / (1 + np.exp(-alpha * x))

    check("Swish", [X], opset=24, expected=[swish(X, 1).astype(np.float32)], kernels=1)
    check("Swish", [X], {"alpha": 1.5}, opset=24, expected=[swish(X, 1.5).astype(np.float32)], kernels=1)
    value = X[::-1].copy()
    check("SwiGLU", [X, value], opset=28, expected=[(swish(X, 1) * value).astype(np.float32)], kernels=1)


def test_softplus_does_not_overflow() -> None:
    x = np.array([500.0, -500.0, 0.0], np.float32)
    check("Softplus", [x], expected=[np.array([500.0, 0.0, np.log(2)], np.float32)])


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8"])
def test_integers(dtype: str) -> None:
    x = np.arange(-5, 6).astype(dtype)
    check("Shrink", [x], {"lambd": 1.5, "bias": 1.0}, kernels=1)
    if dtype != "uint8":
        check("Relu", [x], expected=[np.maximum(x, 0)], kernels=1)


@pytest.mark.parametrize("operator", ["Gelu", "FastGelu", "BiasGelu", "QuickGelu"])
def test_onnx_runtime(operator: str) -> None:
    bias = [RNG.standard_normal(8).astype(np.float32)] if operator in ("FastGelu", "BiasGelu") else []
    check(operator, [X, *bias], domain="com.microsoft", kernels=1)
    if operator == "FastGelu":
        check(operator, [X], domain="com.microsoft", kernels=1)


@pytest.mark.parametrize("operator", ["Elu", "Celu", "Selu"])
def test_small_negative_values_keep_their_digits(operator: str) -> None:
    x = np.array([-1e-4, -3e-6, -1e-7], np.float32)
    slope = 1.67326319217681884765625 * 1.05070102214813232421875 if operator == "Selu" else 1
    lowered = check(operator, [x], expected=[(slope * np.expm1(x.astype(np.float64))).astype(np.float32)])
    np.testing.assert_allclose(lowered.outputs[0], slope * np.expm1(x.astype(np.float64)), rtol=1e-5)


def test_default_attributes_are_float32() -> None:
    x = np.array([-2.0])
    check("LeakyRelu", [x], expected=[x * float(np.float32(0.01))])
