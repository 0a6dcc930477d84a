"""Kernels written as annotated loops, executed on the emulated device with its checks for races and bounds.

LLVM runs the same loops one after another: whether the threads of a block may share them out, only this shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plugin_autogen.codegen.plan import PluginPlan
from plugin_autogen.releases import release
from plugin_autogen.verify.compare import difference
from tests.cpu_cuda.runner import CpuLibrary, Sanitizer, output_specs
from tests.operators.harness import Lowered, check

RNG = np.random.default_rng(0)
F = np.float32


def _normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(F)


def _boxes() -> list[np.ndarray]:
    corner, size = RNG.random((2, 70, 2)) * 4, RNG.random((2, 70, 2)) + 0.5
    return [np.concatenate([corner, corner + size], -1).astype(F), RNG.random((2, 3, 70)).astype(F)]


CASES: dict[str, tuple[str, list[Any], dict[str, Any], dict[str, Any]]] = {
    "cumsum_block": ("CumSum", [_normal(3, 700), np.array(1)], {}, {"constants": [1]}),
    "cumsum_thread": ("CumSum", [_normal(9, 30), np.array(0)], {"reverse": 1}, {"constants": [1]}),
    "argmax_block": ("ArgMax", [_normal(4, 300)], {"axis": 1}, {}),
    "argmax_thread": ("ArgMin", [_normal(20, 40)], {"axis": 0}, {}),
    "topk": ("TopK", [_normal(3, 100), np.array([9])], {}, {"constants": [1], "outputs": 2}),
    "topk_tournament": ("TopK", [_normal(1, 4500), np.array([3])], {}, {"constants": [1], "outputs": 2}),
    "sort_in_device_memory": ("TopK", [_normal(1, 2100), np.array([1500])], {}, {"constants": [1], "outputs": 2}),
    "scatter": (
        "ScatterElements",
        [_normal(5, 6), RNG.permutation(5)[:3, None].repeat(6, 1), _normal(3, 6)],
        {},
        {"opset": 18},
    ),
    **{
        f"scatter_{operation}_{dtype}": (
            "ScatterND",
            [np.ones((6, 3), dtype), RNG.integers(0, 6, (40, 1)), RNG.integers(1, 3, (40, 3)).astype(dtype)],
            {"reduction": operation},
            {"opset": 18},
        )
        for operation in ("add", "mul", "min", "max")
        for dtype in ("int64", "float32", "int8")
    },
    "det": ("Det", [_normal(3, 6, 6)], {}, {}),
    "det_in_device_memory": ("Det", [_normal(1, 70, 70) * F(0.01) + np.eye(70, dtype=F)], {}, {"opset": 22}),
    "non_max_suppression": (
        "NonMaxSuppression",
        [*_boxes(), np.array([9]), np.array([0.3], F)],
        {},
        {"constants": [2]},
    ),
    "non_zero": ("NonZero", [(RNG.random((30, 20)) < 0.4).astype(F)], {}, {}),
    "compress": ("Compress", [_normal(4, 5), np.array([True, False, True, True])], {"axis": 0}, {}),
    "unique": ("Unique", [RNG.integers(0, 40, 300).astype(F)], {"sorted": 0}, {"outputs": 4}),
    "unique_rows": ("Unique", [RNG.integers(0, 2, (20, 3)).astype(F)], {"axis": 0}, {"outputs": 4}),
    "roi_align": (
        "RoiAlign",
        [_normal(2, 2, 9, 9), np.array([[0, 0, 5, 7], [2, 1, 20, 30]], F), np.array([1, 0])],
        {"output_height": 2, "output_width": 3},
        {},
    ),
}
UNSTABLE = re.compile("scatter_(add|mul)_float32")
"""Sums and products by floating-point atomics depend on the order of the threads."""


class _Library:
    """All cases in one library: they compile once, and in parallel."""

    def __init__(self, folder: Path) -> None:
        self._lowered: dict[str, Lowered] = {}
        self._plans: dict[str, PluginPlan] = {}
        for name, (operator, inputs, attributes, options) in CASES.items():
            self._lowered[name] = check(operator, inputs, attributes, **options)
            self._plans[name] = PluginPlan(f"tpat_{name}", (_named(self._lowered[name], name),))
        plans = list(self._plans.values())
        self._library = CpuLibrary.from_plans("mapped", plans, release("10"), folder, Sanitizer.CHECK)

    def run(self, name: str) -> None:
        _, inputs, _, options = CASES[name]
        plan, lowered = self._plans[name], self._lowered[name]
        feeds = [np.asarray(v) for i, v in enumerate(inputs) if i not in options.get("constants", ())]
        feeds = [
            f.astype(t.dtype.numpy) if f.dtype != t.dtype.numpy else f
            for f, t in zip(feeds, plan.default.inputs, strict=True)
        ]
        result = self._library.run(
            plan.name,
            feeds,
            output_specs(plan, feeds),
            fingerprint=plan.fingerprint,
            stable=not UNSTABLE.match(name),
            seeds=(1, 2),
        )
        for mine, theirs in zip(result.outputs, lowered.outputs, strict=True):
            assert difference(mine, theirs).message is None


def _named(lowered: Lowered, name: str) -> Any:
    """The plan with kernels named after the case: names are unique in a library."""
    import dataclasses

    plan = lowered.plan
    renamed = {k.name: k.name.replace("tpat_case", f"tpat_{name}") for k in plan.kernels}

    def source(text: str) -> str:
        return text.replace("tpat_case", f"tpat_{name}")

    def step(s: Any) -> Any:
        if hasattr(s, "kernel"):
            return dataclasses.replace(s, kernel=renamed[s.kernel])
        if hasattr(s, "body"):
            return dataclasses.replace(s, body=tuple(map(step, s.body)))
        return s

    kernels = tuple(dataclasses.replace(k, name=renamed[k.name]) for k in plan.kernels)
    return dataclasses.replace(plan, kernels=kernels, steps=tuple(map(step, plan.steps)), source=source(plan.source))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], None]]:
    yield _Library(tmp_path_factory.mktemp("mapped")).run


@pytest.mark.parametrize("name", CASES)
def test_on_the_emulated_device(library: Callable[[str], None], name: str) -> None:
    library(name)
