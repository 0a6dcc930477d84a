"""TfIdfVectorizer and ai.onnx.ml's operators that are plain tensor code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx.numpy_helper
import pytest

from plugin_autogen import dtypes
from plugin_autogen.graph.subgraph import Encoding
from tests.operators import harness
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


LEQ, EQ, NEQ, MEMBER = 0, 4, 5, 6


def _stump(mode: int, split: float, dtype: type, members: Sequence[float] = ()) -> dict[str, object]:
    """A tree of one node: 1 where the feature passes, else 2."""
    tensor = onnx.numpy_helper.from_array
    attributes: dict[str, object] = {
        "aggregate_function": 1,
        "n_targets": 1,
        "nodes_modes": tensor(np.uint8([mode])),
        "nodes_splits": tensor(np.array([split], dtype)),
        "nodes_featureids": [0],
        "nodes_truenodeids": [0],
        "nodes_trueleafs": [1],
        "nodes_falsenodeids": [1],
        "nodes_falseleafs": [1],
        "leaf_targetids": [0, 0],
        "leaf_weights": tensor(np.array([1, 2], dtype)),
        "post_transform": 0,
        "tree_roots": [0],
    }
    if members:
        attributes["membership_values"] = tensor(np.array([*members, np.nan], dtype))
    return attributes


@pytest.mark.parametrize(("mode", "passes"), [(EQ, [True, False, False]), (NEQ, [False, True, True])])
def test_no_split_equals_nan(mode: int, passes: list[bool]) -> None:
    x = np.float32([[1.5], [2.5], [np.nan]])
    expected = np.where(passes, 1, 2).astype(np.float32)[:, None]
    check("TreeEnsemble", [x], _stump(mode, 1.5, np.float32), domain="ai.onnx.ml", expected=[expected])


@pytest.mark.parametrize("attributes", [_stump(LEQ, 1.2, np.float64), _stump(MEMBER, 0, np.float64, [7.0, 1.2])])
def test_a_double_that_equals_a_split_does_so_behind_a_float32_border(attributes: dict[str, object]) -> None:
    x, expected = np.array([[1.2], [3.4]]), np.array([[1.0], [2.0]])
    case, feeds = harness.single_node("TreeEnsemble", [x], attributes, (), 1, 21, "ai.onnx.ml", [expected])
    subgraph = replace(
        case.subgraph,
        inputs=tuple(replace(t, border_dtype=dtypes.FLOAT32, encoding=Encoding.CAST) for t in case.subgraph.inputs),
    )
    harness.lower_and_compare(subgraph, feeds, [expected])
