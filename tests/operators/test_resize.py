"""Resize and Upsample against ONNX Runtime and ONNX's reference."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx.reference
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(5)
MODES = ["nearest", "linear", "cubic"]
TRANSFORMATIONS = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]
NEAREST = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def normal(*shape: int, dtype: str = "float32") -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def resize(
    data: np.ndarray,
    attributes: dict[str, Any],
    scales: list[float] | None = None,
    sizes: list[int] | None = None,
    roi: list[float] | None = None,
    kernels: int = 1,
    **kwargs: Any,
) -> None:
    inputs = [
        data,
        None if roi is None else np.array(roi, "float32"),
        None if scales is None else np.array(scales, "float32"),
        None if sizes is None else np.array(sizes, "int64"),
    ]
    check("Resize", inputs, attributes, constants=(1, 2, 3), opset=19, kernels=kernels, **kwargs)


def by_reference(
    attributes: dict[str, Any], x: np.ndarray, scales: np.ndarray | None = None, sizes: np.ndarray | None = None
) -> np.ndarray:
    """ONNX's reference evaluator."""
    given = {"x": x} | ({} if scales is None else {"scales": scales}) | ({} if sizes is None else {"sizes": sizes})
    names = ["x", "", "scales" if scales is not None else "", "sizes" if sizes is not None else ""]
    node = onnx.helper.make_node("Resize", names, ["y"], **attributes)
    result: np.ndarray = onnx.reference.ReferenceEvaluator(node).run(None, given)[0]
    return result


@pytest.mark.parametrize(("mode", "transformation"), list(itertools.product(MODES, TRANSFORMATIONS)))
@pytest.mark.parametrize("sizes", [(13, 7), (5, 20), (3, 1), (14, 18)])
def test_sizes(mode: str, transformation: str, sizes: tuple[int, int]) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": transformation}
    resize(normal(1, 2, 7, 9), attributes, sizes=[1, 2, *sizes])


@pytest.mark.parametrize("transformation", TRANSFORMATIONS[:4])
@pytest.mark.parametrize("nearest", NEAREST)
@pytest.mark.parametrize("scales", [(2.0, 3.0), (0.5, 1.5), (0.7, 2.3)])
def test_nearest(transformation: str, nearest: str, scales: tuple[float, float]) -> None:
    attributes = {"mode": "nearest", "nearest_mode": nearest, "coordinate_transformation_mode": transformation}
    # with align_corners ONNX Runtime takes the rounded length where ONNX takes the exact one
    expected = (
        (lambda x, roi, scales, sizes: by_reference(attributes, x, scales))
        if transformation == "align_corners"
        else None
    )
    resize(normal(1, 2, 6, 8), attributes, scales=[1, 1, *scales], expected=expected)


@pytest.mark.parametrize("mode", MODES)
def test_axes_and_aspect_ratio(mode: str) -> None:
    for policy in ("stretch", "not_larger", "not_smaller"):
        attributes = {"mode": mode, "axes": [1, 3], "keep_aspect_ratio_policy": policy}
        resize(normal(2, 5, 3, 6), attributes, sizes=[8, 9])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("roi", [(0, 0, 0.2, 0.1, 1, 1, 0.7, 1.2), (0, 0, -0.3, 0.0, 1, 1, 1.3, 1.0)])
def test_crop(mode: str, roi: tuple[float, ...]) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 10.0}
    resize(normal(1, 1, 6, 7), attributes, sizes=[1, 1, 5, 8], roi=list(roi))


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("exclude_outside", [0, 1])
@pytest.mark.parametrize("sizes", [(3, 4), (4, 17), (20, 20)])
def test_antialias(mode: str, exclude_outside: int, sizes: tuple[int, int]) -> None:
    attributes = {"mode": mode, "antialias": 1, "exclude_outside": exclude_outside}
    data = normal(1, 2, 11, 13)

    def expected(x: np.ndarray, roi: None, scales: None, sizes: np.ndarray) -> np.ndarray:
        return by_reference(attributes, x, sizes=sizes)

    resize(data, attributes, sizes=[1, 2, *sizes], kernels=2, expected=expected)


@pytest.mark.parametrize("exclude_outside", [0, 1])
def test_cubic_coefficients(exclude_outside: int) -> None:
    resize(
        normal(1, 1, 5, 6), {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": exclude_outside}, [1, 1, 2, 0.8]
    )


@pytest.mark.parametrize("shape", [(1, 1, 4, 5, 6), (1, 2, 9)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_other_ranks(shape: tuple[int, ...], mode: str) -> None:
    resize(normal(*shape), {"mode": mode}, scales=[1, 1, *[1.7, 0.6, 2.0][: len(shape) - 2]])


@pytest.mark.parametrize("dtype", ["float16", "float64", "uint8", "int32"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_element_types(dtype: str, mode: str) -> None:
    data = RNG.integers(0, 100, (1, 1, 5, 6)).astype(dtype)

    def expected(x: np.ndarray, roi: None, scales: np.ndarray, sizes: None) -> np.ndarray:
        return by_reference({"mode": mode}, x, scales)

    resize(data, {"mode": mode}, scales=[1, 1, 4, 2], expected=expected)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scales", [(2.0, 3.0), (0.6, 1.5)])
def test_resize_10_and_upsample(mode: str, scales: tuple[float, float]) -> None:
    data, values = normal(1, 2, 5, 6), np.array([1, 1, *scales], "float32")
    check("Resize", [data, values], {"mode": mode}, constants=(1,), opset=10, kernels=1)
    if min(scales) >= 1:
        check("Upsample", [data, values], {"mode": mode}, constants=(1,), opset=9, kernels=1)
        check("Upsample", [data], {"mode": mode, "scales": values.tolist()}, opset=7, kernels=1)
