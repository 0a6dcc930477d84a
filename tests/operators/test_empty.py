"""Results without elements, whatever the operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.operators.harness import check

NOTHING = np.zeros((3, 0, 2), np.float32)


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes", "outputs"),
    [
        ("ArgMax", [NOTHING], {"axis": 0}, 1),
        ("CumSum", [NOTHING, _ints(2)], {}, 1),
        ("Det", [np.zeros((0, 3, 3), np.float32)], {}, 1),
        ("NonZero", [NOTHING], {}, 1),
        ("Tile", [np.zeros((3, 0, 7), bool), _ints(0, 3, 3)], {}, 1),
        ("TopK", [NOTHING, _ints(2)], {"axis": 0}, 2),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_results_without_elements(
    operator: str, inputs: list[np.ndarray], attributes: dict[str, Any], outputs: int
) -> None:
    check(operator, inputs, attributes, constants=range(1, len(inputs)), outputs=outputs)


@pytest.mark.parametrize("reduction", ["none", "mul"])
def test_scatter_without_updates(reduction: str) -> None:
    x = np.arange(12, dtype=np.int32).reshape(3, 4)
    check("ScatterND", [x, np.zeros((0, 1), np.int64), np.zeros((0, 4), np.int32)], {"reduction": reduction}, opset=18)
    indices, updates = np.zeros((0, 4), np.int64), np.zeros((0, 4), np.int32)
    check("ScatterElements", [x, indices, updates], {"reduction": reduction}, opset=18, expected=[x])
