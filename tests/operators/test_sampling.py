"""GridSample in two and three dimensions against ONNX Runtime and ONNX's reference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(9)
PADDINGS = ["zeros", "border", "reflection"]


def grid(*shape: int, dtype: str = "float32") -> np.ndarray:
    return RNG.uniform(-2.2, 2.2, shape).astype(dtype)


@pytest.mark.parametrize(
    ("mode", "padding", "corners"), list(itertools.product(["nearest", "linear", "cubic"], PADDINGS, [0, 1]))
)
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 2, 1, 3)])
def test_two_dimensions(mode: str, padding: str, corners: int, shape: tuple[int, ...]) -> None:
    if corners and padding == "reflection" and 1 in shape[2:]:
        shape = (1, 2, 2, 3)  # the reference divides by the distance between the corners
    data = RNG.standard_normal(shape).astype("float32")
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": corners}
    check("GridSample", [data, grid(shape[0], 6, 7, 2)], attributes, opset=20, kernels=1)


@pytest.mark.parametrize(
    ("mode", "padding", "corners"), list(itertools.product(["nearest", "linear"], PADDINGS, [0, 1]))
)
def test_three_dimensions(mode: str, padding: str, corners: int) -> None:
    data = RNG.standard_normal((2, 2, 3, 4, 5)).astype("float32")
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": corners}
    check("GridSample", [data, grid(2, 2, 3, 4, 3)], attributes, opset=20, kernels=1)


def test_opset_16_names() -> None:
    data = RNG.standard_normal((1, 1, 5, 4)).astype("float32")
    for mode in ("bilinear", "bicubic", "nearest"):
        check("GridSample", [data, grid(1, 3, 3, 2)], {"mode": mode}, opset=16, kernels=1)


@pytest.mark.parametrize("padding", PADDINGS)
def test_far_outside_and_infinite(padding: str) -> None:
    """Positions that no integer holds read an element of the image or zero, never other memory."""
    data = RNG.standard_normal((1, 1, 4, 4)).astype("float32") + 10
    places = np.array([3e38, -3e38, np.inf, -np.inf, 1e9, -1e9, 0, 0], "float32").reshape(1, 4, 1, 2)

    def run(mode: str) -> np.ndarray:
        attributes = {"mode": mode, "padding_mode": padding}
        shape = np.zeros((1, 1, 4, 1), "float32")
        try:
            check("GridSample", [data, places], attributes, opset=20, expected=[shape])
        except AssertionError as error:  # only that it ran, without reading outside, is asked here
            assert "values differ" in str(error)
        return shape

    for mode in ("linear", "nearest"):
        run(mode)
    if padding == "zeros":
        away = np.full((1, 2, 1, 2), np.inf, "float32")
        check("GridSample", [data, away], {"mode": "linear"}, opset=20, expected=[np.zeros((1, 1, 2, 1), "float32")])


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_element_types(dtype: str) -> None:
    data = RNG.standard_normal((1, 2, 5, 4)).astype(dtype)
    check("GridSample", [data, grid(1, 3, 3, 2, dtype=dtype)], {"mode": "linear"}, opset=20, kernels=1)
