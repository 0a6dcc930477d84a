"""TfIdfVectorizer and ai.onnx.ml's operators that are plain tensor code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(0)
F = np.float32


def test_binarizer() -> None:
    x = RNG.standard_normal((3, 4)).astype(F)
    check("Binarizer", [x], {"threshold": 0.25}, domain="ai.onnx.ml", expected=[(x > 0.25).astype(F)], kernels=1)


@pytest.mark.parametrize(
    ("attributes", "x"),
    [
        (
            {"keys_int64s": [7, -3, 100], "values_floats": [1.5, 2.5, 3.5], "default_float": 9.0},
            np.array([[7, 1], [100, -3]]),
        ),
        ({"keys_int64s": [5], "values_int64s": [6]}, np.array([5, 4])),
        ({"keys_floats": [1.0, 0.5, 2.0], "values_int64s": [4, 3, 2], "default_int64": 8}, np.array([0.5, 3, 1], F)),
        ({"keys_floats": [1.0, 0.5], "values_floats": [4, 3], "default_float": 8.0}, np.array([0.5, np.nan], F)),
    ],
)
def test_label_encoder(attributes: dict[str, Any], x: np.ndarray) -> None:
    keys = attributes.get("keys_int64s") or attributes["keys_floats"]
    values = attributes.get("values_int64s") or attributes["values_floats"]
    kind = np.int64 if "values_int64s" in attributes else F
    default = attributes.get("default_float", attributes.get("default_int64", -1))
    table = dict(zip(keys, values, strict=True))
    expected = np.array([table.get(v, default) for v in x.reshape(-1).tolist()], kind).reshape(x.shape)
    check("LabelEncoder", [x], attributes, domain="ai.onnx.ml", expected=[expected], kernels=1)


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("skips", [0, 1, 4])
@pytest.mark.parametrize("lengths", [(1, 2), (2, 2), (1, 3), (1, 1)])
def test_tf_idf(mode: str, skips: int, lengths: tuple[int, int]) -> None:
    attributes = {
        "mode": mode,
        "min_gram_length": lengths[0],
        "max_gram_length": lengths[1],
        "max_skip_count": skips,
        "ngram_counts": [0, 3, 9],
        "ngram_indexes": [0, 3, 1, 2, 6, 5, 4],
        "pool_int64s": [2, 3, 5, 2, 3, 3, 3, 5, 2, 2, 3, 5],
        "weights": [1.0, 2.0, 0.5, 4.0, 3.0, 7.0, 1.5],
    }
    x = RNG.integers(1, 6, (2, 12))
    check("TfIdfVectorizer", [x], attributes, opset=9, kernels=1)
