"""The conformance run notices what is wrong with a kernel, and has no complaint about the same kernel when it is right.

A softmax stands for all: one block a row, whose threads meet at barriers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plugin_autogen import releases
from plugin_autogen.codegen import expr as ex
from plugin_autogen.codegen.plan import KernelPlan, Launch, PluginPlan
from plugin_autogen.graph.extract import Extraction
from plugin_autogen.pipeline import Check, build_plugin_plan
from tests.conformance import cases, stages
from tests.cpu_cuda.runner import CpuCudaError

BARRIER = "__syncthreads();"


@pytest.fixture(scope="module")
def case() -> cases.Case:
    return cases.load("test_softmax_axis_1")


@pytest.fixture(scope="module", params=["rtx", "8"])
def generated(request: pytest.FixtureRequest, case: cases.Case, tmp_path_factory: Any) -> tuple[Extraction, PluginPlan]:
    scratch = tmp_path_factory.mktemp("model")
    extraction = stages.extract_whole(case, releases.release(request.param), scratch)
    plan, *_ = build_plugin_plan(extraction.subgraphs[0], Check.OFF)
    return extraction, plan


def verdict(case: cases.Case, extraction: Extraction, plan: PluginPlan, scratch: Path) -> str:
    """As a whole run would state it."""
    try:
        test = stages.PluginTest(case, extraction)
        return test.result(stages.run_plugin(test, plan, scratch))
    except CpuCudaError as error:
        return f"{type(error).__name__}: {error}"


def launch(plan: KernelPlan) -> Launch:
    (step,) = plan.steps
    assert isinstance(step, Launch)
    return step


def fewer_blocks(plan: KernelPlan) -> KernelPlan:
    step = launch(plan)
    grid = (ex.binary("-", step.grid[0], ex.ONE), *step.grid[1:])
    return replace(plan, steps=(replace(step, grid=grid),))


def more_blocks(plan: KernelPlan) -> KernelPlan:
    step = launch(plan)
    return replace(plan, steps=(replace(step, grid=(ex.add(step.grid[0], ex.ONE), *step.grid[1:])),))


def no_barrier(plan: KernelPlan) -> KernelPlan:
    return replace(plan, source=plan.source.replace(BARRIER, ""))


def no_first_barrier(plan: KernelPlan) -> KernelPlan:
    return replace(plan, source=plan.source.replace(BARRIER, "", 1))


def swapped_arguments(plan: KernelPlan) -> KernelPlan:
    step = launch(plan)
    return replace(plan, steps=(replace(step, arguments=step.arguments[::-1]),))


def coarser_exponential(plan: KernelPlan) -> KernelPlan:
    """A result that is wrong by little more than the tolerance."""
    source, count = re.subn(r"expf\(([^;]*)\);", r"(1.001f * expf(\1) - 0.001f);", plan.source)
    assert count
    return replace(plan, source=source)


def test_the_generated_plan_passes(case: cases.Case, generated: tuple[Extraction, PluginPlan], tmp_path: Path) -> None:
    assert verdict(case, *generated, tmp_path) == "pass"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (fewer_blocks, "differs between runs"),
        (more_blocks, "out-of-bounds"),
        (no_barrier, "race"),
        (no_first_barrier, "race"),
        (swapped_arguments, "KernelFault|PluginFailure"),
        (coarser_exponential, "values differ"),
    ],
    ids=lambda p: p.__name__ if callable(p) else "",
)
def test_a_broken_plan_fails(
    case: cases.Case,
    generated: tuple[Extraction, PluginPlan],
    tmp_path: Path,
    change: Callable[[KernelPlan], KernelPlan],
    expected: str,
) -> None:
    extraction, plan = generated
    broken = replace(plan, variants=(change(plan.default),))
    assert broken != plan
    result = verdict(case, extraction, broken, tmp_path)
    assert re.search(expected, result), result
