"""LSTM, GRU, RNN and DynamicQuantizeLSTM against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(13)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEPS, BATCH, SIZE, HIDDEN = 5, 3, 4, 6


def uniform(*shape: int, dtype: str = "float32") -> np.ndarray:
    return RNG.uniform(-0.9, 0.9, shape).astype(dtype)


def inputs_of(
    operator: str,
    directions: int,
    *,
    bias: bool = True,
    lengths: bool = False,
    initial: bool = False,
    peepholes: bool = False,
    hidden: int = HIDDEN,
    dtype: str = "float32",
) -> list[np.ndarray | None]:
    rows = GATES[operator] * hidden
    found: list[np.ndarray | None] = [
        uniform(STEPS, BATCH, SIZE, dtype=dtype),
        uniform(directions, rows, SIZE, dtype=dtype),
        (uniform(directions, rows, hidden) / max(1, hidden / 50)).astype(dtype),
        uniform(directions, 2 * rows, dtype=dtype) if bias else None,
        np.array([STEPS, 2, 3], "int32") if lengths else None,
        uniform(directions, BATCH, hidden, dtype=dtype) if initial else None,
    ]
    if operator == "LSTM":
        found.append(uniform(directions, BATCH, hidden, dtype=dtype) if initial else None)
        found.append(uniform(directions, 3 * hidden, dtype=dtype) if peepholes else None)
    return found


def run(operator: str, inputs: list[np.ndarray | None], attributes: dict[str, Any], kernels: int = 5) -> None:
    outputs = 3 if operator == "LSTM" else 2
    hidden = inputs[2].shape[-1]  # type: ignore[union-attr]
    check(operator, inputs, {"hidden_size": hidden, **attributes}, outputs=outputs, opset=14, kernels=kernels)


@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("everything", [False, True])
def test_directions(operator: str, direction: str, everything: bool) -> None:
    directions = 2 if direction == "bidirectional" else 1
    given = {"lengths": True, "initial": True, "peepholes": True} if everything else {"bias": False}
    run(operator, inputs_of(operator, directions, **given), {"direction": direction})


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_linear_before_reset(direction: str) -> None:
    directions = 2 if direction == "bidirectional" else 1
    inputs = inputs_of("GRU", directions, initial=True)
    run("GRU", inputs, {"direction": direction, "linear_before_reset": 1}, kernels=4)


@pytest.mark.parametrize("operator", GATES)
def test_clip(operator: str) -> None:
    run(operator, inputs_of(operator, 1), {"clip": 0.3})


def test_input_forget() -> None:
    run("LSTM", inputs_of("LSTM", 1), {"input_forget": 1})


ACTIVATIONS = [
    ("Relu", [], []),
    ("LeakyRelu", [0.2], []),
    ("ThresholdedRelu", [0.1], []),
    ("ScaledTanh", [0.8], [0.5]),
    ("HardSigmoid", [0.3], [0.4]),
    ("Elu", [0.7], []),
    ("Softsign", [], []),
    ("Softplus", [], []),
    ("Affine", [0.5], [0.1]),
    ("Sigmoid", [], []),
]


@pytest.mark.parametrize(("name", "alpha", "beta"), ACTIVATIONS, ids=str)
def test_activations(name: str, alpha: list[float], beta: list[float]) -> None:
    attributes: dict[str, Any] = {"activations": [name, "Tanh"], "direction": "bidirectional"}
    attributes |= {"activation_alpha": alpha} if alpha else {}
    attributes |= {"activation_beta": beta} if beta else {}
    run("RNN", inputs_of("RNN", 2), attributes)


@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize("hidden", [1, 70, 300])
def test_hidden_sizes(operator: str, hidden: int) -> None:
    """Fewer units than a warp, and more than a block has threads."""
    run(operator, inputs_of(operator, 1, hidden=hidden, initial=True), {})


@pytest.mark.parametrize("operator", GATES)
def test_batch_first(operator: str) -> None:
    """layout=1 is the transpose of layout=0, which ONNX Runtime computes."""
    inputs = inputs_of(operator, 1, initial=True)
    plain = check(operator, inputs, {"hidden_size": HIDDEN}, outputs=3 if operator == "LSTM" else 2, opset=14).outputs
    swapped = [*inputs]
    swapped[0] = np.ascontiguousarray(inputs[0].transpose(1, 0, 2))  # type: ignore[union-attr]
    for i in range(5, min(len(inputs), 7)):
        swapped[i] = np.ascontiguousarray(inputs[i].transpose(1, 0, 2))  # type: ignore[union-attr]
    expected = [plain[0].transpose(2, 0, 1, 3), *(x.transpose(1, 0, 2) for x in plain[1:])]
    attributes = {"hidden_size": HIDDEN, "layout": 1}
    check(operator, swapped, attributes, outputs=len(expected), opset=14, expected=expected)


def test_some_outputs() -> None:
    check("LSTM", inputs_of("LSTM", 1), {"hidden_size": HIDDEN}, outputs=[False, True], opset=14)


def test_float16_states_are_float32() -> None:
    inputs = inputs_of("GRU", 1, dtype="float16")
    wide = [None if x is None else x.astype("float32") for x in inputs]
    expected = check("GRU", wide, {"hidden_size": HIDDEN}, outputs=2, opset=14).outputs
    narrow = [x.astype("float16") for x in expected]
    check("GRU", inputs, {"hidden_size": HIDDEN}, outputs=2, opset=14, expected=narrow)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("per_column", [False, True])
def test_dynamic_quantize_lstm(direction: str, per_column: bool) -> None:
    directions = 2 if direction == "bidirectional" else 1
    columns = (directions, 4 * HIDDEN) if per_column else (directions,)
    x, bias = uniform(STEPS, 1, SIZE), uniform(directions, 8 * HIDDEN)
    w = RNG.integers(-128, 128, (directions, SIZE, 4 * HIDDEN)).astype("int8")
    r = RNG.integers(-128, 128, (directions, HIDDEN, 4 * HIDDEN)).astype("int8")
    scales = [RNG.uniform(0.002, 0.01, columns).astype("float32") for _ in range(2)]
    zeros = [np.zeros(columns, "int8") for _ in range(2)]
    inputs = [x, w, r, bias, None, None, None, None, scales[0], zeros[0], scales[1], zeros[1]]
    attributes = {"hidden_size": HIDDEN, "direction": direction}
    constants = (1, 2, 3, 8, 9, 10, 11)
    check("DynamicQuantizeLSTM", inputs, attributes, constants=constants, outputs=3, domain="com.microsoft", kernels=8)
