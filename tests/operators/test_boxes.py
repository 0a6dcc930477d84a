"""NonMaxSuppression, RoiAlign, MaxRoiPool, Col2Im, AffineGrid."""

from __future__ import annotations

import numpy as np
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(0)
F = np.float32


def _boxes(batches: int, count: int, center: bool) -> np.ndarray:
    middle, size = RNG.random((batches, count, 2)) * 4, RNG.random((batches, count, 2)) + 0.5
    parts = [middle, size] if center else [middle - size / 2, middle + size / 2]
    return np.concatenate(parts, -1).astype(F)


@pytest.mark.parametrize("center", [0, 1])
@pytest.mark.parametrize(("batches", "classes", "count", "most"), [(1, 1, 30, 5), (2, 3, 300, 20), (1, 2, 7, 100)])
def test_non_max_suppression(batches: int, classes: int, count: int, most: int, center: int) -> None:
    boxes, scores = _boxes(batches, count, bool(center)), RNG.random((batches, classes, count)).astype(F)
    inputs = [boxes, scores, np.array([most]), np.array([0.4], F), np.array([0.3], F)]
    check("NonMaxSuppression", inputs, {"center_point_box": center}, constants=[2], kernels=3)


def test_ties_and_duplicates() -> None:
    boxes = np.repeat(_boxes(1, 4, False), 3, axis=1)
    scores = np.full((1, 1, 12), 0.5, F)
    check("NonMaxSuppression", [boxes, scores, np.array([12]), np.array([0.5], F)], constants=[2], kernels=3)


def test_flipped_corners_without_thresholds() -> None:
    boxes = _boxes(1, 6, False)[..., [2, 3, 0, 1]]
    check("NonMaxSuppression", [boxes, RNG.random((1, 1, 6)).astype(F), np.array([6])], constants=[2], kernels=3)


def test_free_rows_hold_minus_one() -> None:
    boxes = np.array([[[0, 0, 1, 1], [0, 0, 1, 1], [5, 5, 6, 6]]], F)
    scores = np.array([[[0.9, 0.8, 0.7]]], F)
    expected = np.array([[0, 0, 0], [0, 0, 2], [-1, -1, -1]])
    check("NonMaxSuppression", [boxes, scores, np.array([3]), np.array([0.5], F)], constants=[2], expected=[expected])


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("transform", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("sampling", [0, 2])
def test_roi_align(mode: str, transform: str, sampling: int) -> None:
    x = RNG.random((2, 3, 12, 9)).astype(F)
    rois = np.array([[1, 1, 14, 20], [0, 0, 3, 3], [-4, 2, 30, 9], [5, 6, 17, 23]], F)
    attributes = {
        "mode": mode,
        "coordinate_transformation_mode": transform,
        "sampling_ratio": sampling,
        "output_height": 3,
        "output_width": 4,
        "spatial_scale": 0.5,
    }
    check("RoiAlign", [x, rois, np.array([0, 1, 1, 0])], attributes, kernels=1)


def test_max_roi_pool() -> None:
    x = RNG.standard_normal((2, 3, 12, 9)).astype(F)
    rois = np.array([[0, 1, 1, 14, 20], [1, 0, 0, 3, 3], [1, 5, 7, 16, 23], [0, 30, 30, 40, 40]], F)
    check("MaxRoiPool", [x, rois], {"pooled_shape": [3, 2], "spatial_scale": 0.5}, kernels=1)


@pytest.mark.parametrize(
    ("image", "block", "attributes"),
    [
        ([5, 6], [2, 3], {}),
        ([5, 6], [2, 3], {"strides": [2, 1], "pads": [1, 0, 1, 2]}),
        ([7, 7], [2, 2], {"dilations": [2, 3], "strides": [1, 2]}),
        ([4, 5, 3], [2, 2, 1], {}),
    ],
)
def test_col2im(image: list[int], block: list[int], attributes: dict[str, list[int]]) -> None:
    rank = len(image)
    strides, dilations = attributes.get("strides", [1] * rank), attributes.get("dilations", [1] * rank)
    pads = attributes.get("pads", [0] * 2 * rank)
    steps = [
        (image[d] + pads[d] + pads[d + rank] - dilations[d] * (block[d] - 1) - 1) // strides[d] + 1 for d in range(rank)
    ]
    x = RNG.standard_normal((2, 3 * int(np.prod(block)), int(np.prod(steps)))).astype(F)
    expected = np.zeros((2, 3, *image), F)
    columns = x.reshape(2, 3, *block, *steps)
    for tap in np.ndindex(*block):
        for step in np.ndindex(*steps):
            at = [step[d] * strides[d] + tap[d] * dilations[d] - pads[d] for d in range(rank)]
            if all(0 <= a < size for a, size in zip(at, image, strict=True)):
                expected[(..., *at)] += columns[(slice(None), slice(None), *tap, *step)]
    inputs = [x, np.array(image), np.array(block)]
    check("Col2Im", inputs, attributes, constants=[1, 2], expected=[expected], kernels=1)


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("size", [[2, 3, 4, 5], [2, 1, 3, 4, 5]])
def test_affine_grid(size: list[int], corners: int) -> None:
    rank = len(size) - 2
    theta = RNG.standard_normal((2, rank, rank + 1)).astype(F)
    check("AffineGrid", [theta, np.array(size)], {"align_corners": corners}, constants=[1], kernels=1)
