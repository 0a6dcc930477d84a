"""Views, permutations, slices, padding."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(0)
TYPES = ["bool", "uint8", "int16", "int64", "float16", "bfloat16", "float64"]


def _values(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    return RNG.integers(0, 100, shape).astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))


@pytest.mark.parametrize(
    ("shape", "wanted", "allowzero"),
    [((2, 3, 4), [4, -1], 0), ((2, 3, 4), [0, -1, 2], 0), ((0, 3), [3, 0], 1), ((), [1, 1], 0), ((1,), [], 0)],
)
def test_reshape(shape: tuple[int, ...], wanted: list[int], allowzero: int) -> None:
    x = _values(shape)
    check("Reshape", [x, np.array(wanted, np.int64)], {"allowzero": allowzero}, constants=[1])


def test_views() -> None:
    x = _values((1, 3, 1, 4))
    check("Squeeze", [x, np.array([0, -2])], constants=[1], kernels=1)
    check("Squeeze", [x], kernels=1)
    check("Squeeze", [x], {"axes": [2]}, opset=11, kernels=1)
    check("Unsqueeze", [x, np.array([0, -1])], constants=[1], kernels=1)
    check("Unsqueeze", [x], {"axes": [1]}, opset=11, kernels=1)
    check("Flatten", [x], {"axis": -2}, kernels=1)
    check("Flatten", [_values(())], {"axis": 0}, kernels=1)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    check("DepthToSpace", [_values((2, 8, 3, 5))], {"blocksize": 2, "mode": mode}, kernels=1)


def test_space_to_depth() -> None:
    check("SpaceToDepth", [_values((2, 3, 4, 6))], {"blocksize": 2}, kernels=1)


@pytest.mark.parametrize("dtype", TYPES)
def test_transpose_and_concat_types(dtype: str) -> None:
    a, b = _values((3, 4), dtype), _values((2, 4), dtype)
    check("Transpose", [a], expected=[a.T], kernels=1)
    check("Concat", [a, b], {"axis": -2}, expected=[np.concatenate([a, b])], kernels=1)


@pytest.mark.parametrize(
    ("shape", "starts", "ends", "axes", "steps"),
    [
        ((10,), [2], [8], None, [3]),
        ((10,), [-1], [-(2**63)], [0], [-1]),
        ((10,), [8], [-20], [0], [-3]),
        ((5, 6), [1, 0], [1000, 2**63 - 1], [-2, 1], [1, 2]),
        ((5, 6), [-100], [3], [1], None),
        ((5, 6), [4], [2], [0], None),
        ((5, 6, 7), [20, -2], [0, -9], [2, 0], [-2, -1]),
        ((4,), [3], [-6], [0], [-1]),
    ],
)
def test_slice(shape: tuple[int, ...], starts: list[int], ends: list[int], axes: list[int], steps: list[int]) -> None:
    inputs: list[Any] = [
        _values(shape),
        *(None if v is None else np.array(v, np.int64) for v in (starts, ends, axes, steps)),
    ]
    check("Slice", inputs, constants=[1, 2, 3, 4], kernels=1)


@pytest.mark.parametrize("dtype", TYPES)
def test_slice_types(dtype: str) -> None:
    x = _values((7, 3), dtype)
    check(
        "Slice",
        [x, np.array([5]), np.array([0]), np.array([0]), np.array([-2])],
        constants=[1, 2, 3, 4],
        expected=[x[5:0:-2]],
    )


def test_slice_of_opset_9() -> None:
    check("Slice", [_values((5, 6))], {"starts": [1, -3], "ends": [4, 9], "axes": [0, 1]}, opset=9, kernels=1)


def test_split() -> None:
    x = _values((7, 4))
    check("Split", [x], {"axis": 0, "num_outputs": 3}, outputs=3, opset=18, kernels=3)
    check("Split", [x, np.array([1, 0, 3])], {"axis": -1}, outputs=3, constants=[1])
    check("Split", [x], {"axis": 1}, outputs=2, opset=11, kernels=2)
    check("Split", [x], {"axis": 1, "split": [1, 3]}, outputs=2, opset=11, kernels=2)


@pytest.mark.parametrize(("shape", "wanted"), [((3, 1), [2, 1, 6]), ((1,), [3, 4]), ((), [2]), ((3, 4), [1, 1])])
def test_expand(shape: tuple[int, ...], wanted: list[int]) -> None:
    check("Expand", [_values(shape), np.array(wanted)], constants=[1], kernels=1)


@pytest.mark.parametrize("dtype", ["bool", "int8", "float32"])
def test_tile(dtype: str) -> None:
    x = _values((2, 1, 3), dtype)
    check("Tile", [x, np.array([1, 4, 2])], constants=[1], expected=[np.tile(x, (1, 4, 2))], kernels=1)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [[1, 0, 2, 3], [0, 4, 0, 0], [2, 3, 1, 4]])
def test_pad(mode: str, pads: list[int]) -> None:
    check("Pad", [_values((4, 5)), np.array(pads)], {"mode": mode}, constants=[1], kernels=1)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_pad_negative(mode: str) -> None:
    check("Pad", [_values((4, 5)), np.array([-1, 2, 0, -2])], {"mode": mode}, constants=[1], kernels=1)


def test_pad_reflects_more_than_once() -> None:
    x = _values((3,))
    expected = np.pad(x, (7, 8), mode="reflect")
    check("Pad", [x, np.array([7, 8])], {"mode": "reflect"}, constants=[1], expected=[expected], kernels=1)


def test_pad_value_at_run_time_and_axes() -> None:
    inputs = [_values((3, 4, 5)), np.array([1, 2, 0, 1]), np.array(7.5, np.float32), np.array([2, -3])]
    check("Pad", inputs, constants=[1, 3], kernels=1)


def test_pad_of_opset_2() -> None:
    check(
        "Pad",
        [_values((3, 4))],
        {"pads": [1, 0, 0, 2], "value": 1.5},
        opset=2,
        expected=lambda x: np.pad(x, ((1, 0), (0, 2)), constant_values=1.5),
    )


@pytest.mark.parametrize("dtype", TYPES)
def test_pad_types(dtype: str) -> None:
    x = _values((3, 2), dtype)
    check("Pad", [x, np.array([1, 0, 0, 1])], constants=[1], expected=[np.pad(x, ((1, 0), (0, 1)))], kernels=1)


@pytest.mark.parametrize("axes", [None, [0, -1]])
def test_center_crop_pad(axes: list[int] | None) -> None:
    x, wanted = _values((7, 6, 4)), [4, 9] if axes else [4, 9, 5]
    check("CenterCropPad", [x, np.array(wanted)], {"axes": axes} if axes else {}, constants=[1], kernels=1)


def test_reverse_sequence() -> None:
    x = _values((5, 3, 2))
    check("ReverseSequence", [x, np.array([5, 1, 3])], {"time_axis": 0, "batch_axis": 1}, kernels=1)
    check("ReverseSequence", [x, np.array([1, 2, 3, 3, 1])], {"time_axis": 1, "batch_axis": 0}, kernels=1)


def test_slice_backwards_from_before_the_beginning() -> None:
    """ONNX moves such a start to the first element, as ONNX Runtime does; numpy gives nothing."""
    bounds = [np.array([v], np.int64) for v in (-9, -20, 0, -1)]
    check(
        "Slice", [np.arange(5, dtype=np.float32), *bounds], constants=[1, 2, 3, 4], expected=[np.zeros(1, np.float32)]
    )


def test_slice_with_the_smallest_step() -> None:
    bounds = [np.array([v], np.int64) for v in (3, -9, 0, -(2**63))]
    check("Slice", [np.arange(5, dtype=np.float32), *bounds], constants=[1, 2, 3, 4])
