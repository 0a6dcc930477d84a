"""The comparison that decides whether numbers are right."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from plugin_autogen.verify.compare import TOLERANCE, difference


def test_equal_arrays_do_not_differ() -> None:
    x = np.array([1.0, np.nan, np.inf, -np.inf, 0.0], np.float32)
    gap = difference(x, x.copy())
    assert gap.message is None
    assert gap.absolute == 0


@pytest.mark.parametrize(
    ("actual", "expected", "words"),
    [
        (np.zeros(3, np.float32), np.zeros(3, np.float64), "element type float32, reference float64"),
        (np.zeros((3, 1), np.float32), np.zeros(3, np.float32), "shape [3, 1], reference [3]"),
        (np.array([1, 2, 3]), np.array([1, 2, 4]), "the worst at [2]: 3 instead of 4"),
        (np.array([True]), np.array([False]), "True instead of False"),
        (np.array([np.nan], np.float32), np.array([1], np.float32), "nan instead of 1"),
        (np.array([1], np.float32), np.array([np.nan], np.float32), "1.0 instead of nan"),
        (np.array([np.inf], np.float32), np.array([-np.inf], np.float32), "inf instead of -inf"),
        (np.array([np.inf], np.float32), np.array([3e38], np.float32), "inf instead of"),
        (np.array([1.001], np.float32), np.array([1.0], np.float32), "1 of 1 values differ"),
        (np.array([2**62 + 1]), np.array([2**62]), "1 of 1 values differ"),
        (np.array([255], np.uint8), np.array([0], np.uint8), "255 instead of 0"),
    ],
)
def test_what_differs_is_said(actual: np.ndarray, expected: np.ndarray, words: str) -> None:
    message = difference(actual, expected).message
    assert message is not None
    assert words in message


def test_tolerance_grows_with_the_largest_value_not_with_each() -> None:
    expected = np.array([1000.0, 0.0], np.float32)
    share = TOLERANCE["float32"][1]
    assert difference(np.array([1000.0, 900 * share], np.float32), expected).message is None
    assert difference(np.array([1000.0, 1100 * share], np.float32), expected).message is not None


def test_half_precision_has_a_wider_tolerance_than_single() -> None:
    for dtype in (np.float16, ml_dtypes.bfloat16):
        expected = np.linspace(1, 2, 100).astype(dtype)
        off = np.nextafter(expected.astype(np.float32) * 1.004, 9).astype(dtype)
        assert difference(off, expected).message is None
        assert difference((expected.astype(np.float32) * 1.2).astype(dtype), expected).message is not None


def test_empty_arrays_compare_by_type_and_shape() -> None:
    assert difference(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)).message is None
    assert difference(np.zeros((0, 3), np.float32), np.zeros((3, 0), np.float32)).message is not None
