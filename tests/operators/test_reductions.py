"""The Reduce… family over axes, types, empty sets, NaN and infinities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.operators.harness import check

RNG = np.random.default_rng(0)
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceSum": np.sum,
    "ReduceMean": np.mean,
    "ReduceProd": np.prod,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
    "ReduceL1": lambda x, **k: np.sum(np.abs(x), **k),
    "ReduceL2": lambda x, **k: np.sqrt(np.sum(x * x, **k)),
    "ReduceSumSquare": lambda x, **k: np.sum(x * x, **k),
    "ReduceLogSum": lambda x, **k: np.log(np.sum(x, **k)),
    "ReduceLogSumExp": lambda x, **k: np.log(np.sum(np.exp(x), **k)),
}


def _reduce(operator: str, x: np.ndarray, axes: list[int] | None, keep: int = 1, **options: Any) -> None:
    over = tuple(range(x.ndim)) if axes is None else tuple(axes)
    wanted = FUNCTIONS[operator](x.astype(np.float64), axis=over, keepdims=bool(keep)).astype(x.dtype)
    newer = operator == "ReduceSum" or options.get("opset", 21) >= 18
    inputs: list[np.ndarray | None] = [x]
    attributes: dict[str, Any] = {"keepdims": keep}
    if axes is not None and newer:
        inputs.append(np.array(axes, np.int64))
    elif axes is not None:
        attributes["axes"] = axes
    constants = [1] if len(inputs) > 1 else []
    check(operator, inputs, attributes, constants=constants, expected=[wanted], kernels=1, **options)


@pytest.mark.parametrize("operator", FUNCTIONS)
@pytest.mark.parametrize(
    ("shape", "axes", "keep"),
    [((3, 4, 5), [1], 1), ((3, 4, 5), [-1], 0), ((3, 4, 5), None, 0), ((2, 3, 4, 5), [0, 2], 1), ((7,), [0], 0),
     ((1, 300), [1], 1), ((5000, 3), [1], 0), ((2, 5, 2500), [1], 1)],
)  # fmt: skip
def test_axes(operator: str, shape: tuple[int, ...], axes: list[int] | None, keep: int) -> None:
    x = RNG.uniform(0.5, 1.5, shape).astype(np.float32)
    _reduce(operator, x, axes, keep)


@pytest.mark.parametrize("operator", FUNCTIONS)
def test_types(operator: str) -> None:
    x = RNG.uniform(0.5, 1.5, (3, 40))
    _reduce(operator, x.astype(np.float64), [1])
    _reduce(operator, x.astype(np.float16), [1])
    if operator in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceSumSquare", "ReduceProd"):
        integers = RNG.integers(1, 3, (3, 10))
        _reduce(operator, integers.astype(np.int32), [1])
        _reduce(operator, integers.astype(np.int64), [0])


def test_axes_as_attribute_before_opset_18() -> None:
    x = RNG.uniform(0.5, 1.5, (2, 3, 4)).astype(np.float32)
    for operator in FUNCTIONS:
        if operator != "ReduceSum":
            _reduce(operator, x, [0, -1], opset=13)
    check("ReduceSum", [x], {"axes": [1]}, opset=11)


def test_float16_sums_do_not_lose_small_terms() -> None:
    x = np.full((1, 4096), 0.1, np.float16)
    total = np.array([[float(np.float16(0.1)) * 4096]], np.float16)
    lowered = check("ReduceSum", [x, np.array([1])], constants=[1], expected=[total], kernels=1)
    assert abs(lowered.outputs[0].item() - total.item()) <= 0.5


def test_nothing_to_reduce() -> None:
    x = RNG.uniform(0.5, 1.5, (2, 3)).astype(np.float32)
    axes = np.array([], np.int64)
    elements: dict[str, np.ndarray] = {
        "ReduceSum": x, "ReduceMean": x, "ReduceMax": x, "ReduceMin": x, "ReduceProd": x, "ReduceL1": np.abs(x),
        "ReduceL2": np.sqrt(x * x), "ReduceSumSquare": x * x, "ReduceLogSum": np.log(x), "ReduceLogSumExp": x,
    }  # fmt: skip
    for operator, wanted in elements.items():
        check(operator, [x, axes], {"noop_with_empty_axes": 1}, constants=[1], expected=[wanted], opset=18)
        check(operator, [np.float32(0.5), axes], constants=[1], opset=18,
              expected=lambda v, _, op=operator: np.float32(FUNCTIONS[op](v, axis=None)))  # fmt: skip


@pytest.mark.parametrize("operator", FUNCTIONS)
def test_empty_sets(operator: str) -> None:
    x = np.zeros((2, 0, 3), np.float32)
    value = {
        "ReduceProd": 1.0, "ReduceMax": -np.inf, "ReduceMin": np.inf, "ReduceLogSum": -np.inf,
        "ReduceLogSumExp": -np.inf, "ReduceMean": np.nan,
    }.get(operator, 0.0)  # fmt: skip
    check(operator, [x, np.array([1])], constants=[1], expected=[np.full((2, 1, 3), value, np.float32)], opset=20)


def test_nan_and_infinities() -> None:
    nan = np.array(np.nan, np.float32)
    x = np.array(
        [[1, nan, 3], [-np.inf, -np.inf, -np.inf], [np.inf, 2, -np.inf], [-0.5, -2, -1], [-nan, 1, 2], [0, -1, 5]],
        np.float32,
    )
    for dtype in (np.float32, np.float16, np.float64):
        for operator, function in (("ReduceMax", np.max), ("ReduceMin", np.min)):
            check(operator, [x.astype(dtype), np.array([1])], constants=[1], kernels=1,
                  expected=[function(x, axis=1, keepdims=True).astype(dtype)])  # fmt: skip
    big = np.array([[1000.0, 1000.0], [-np.inf, -np.inf], [-1000.0, -1000.0], [np.inf, 1.0]], np.float32)
    wanted = np.array([[1000 + np.log(2)], [-np.inf], [-1000 + np.log(2)], [np.inf]], np.float32)
    check("ReduceLogSumExp", [big, np.array([1])], constants=[1], expected=[wanted])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "bool"])
def test_largest_of_integers(dtype: str) -> None:
    x = RNG.integers(0, 2 if dtype == "bool" else 100, (4, 5)).astype(dtype)
    for operator, function in (("ReduceMax", np.max), ("ReduceMin", np.min)):
        wanted = function(x, axis=0, keepdims=True)
        check(operator, [x, np.array([0])], constants=[1], expected=[wanted], opset=20, kernels=1)


@pytest.mark.parametrize(
    ("shape", "axis", "rule"),
    [((256, 82, 128), 1, "thread_per_row"), ((20000, 10), 1, "thread_per_row"), ((8, 2000), 1, None)],
)
def test_schedules(shape: tuple[int, ...], axis: int, rule: str | None) -> None:
    """Rows side by side and short rows take a thread each; long rows are shared."""
    lowered = check(
        "ReduceMax", [RNG.standard_normal(shape).astype(np.float32), np.array([axis])], constants=[1], kernels=1
    )
    assert (rule in lowered.rules) if rule else "thread_per_row" not in lowered.rules
