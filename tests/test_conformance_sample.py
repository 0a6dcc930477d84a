"""A sample of ONNX's node tests through the generated plugin: none that passed in the last whole run may fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.conformance import cases, report
from tests.conformance.sample import sample

ROOT = Path(__file__).parents[1]
PARTS = 4
"""The sample runs in that many processes, so that pytest-xdist can spread them."""


@pytest.mark.parametrize("part", range(1, PARTS + 1))
def test_what_passed_before_still_passes(part: int, tmp_path: Path) -> None:
    jobs = 1 if "PYTEST_XDIST_WORKER" in os.environ else len(os.sched_getaffinity(0))
    found = tmp_path / "results.json"
    command = [sys.executable, "-m", "tests.conformance", "--sample", "--part", f"{part}/{PARTS}"]
    # A process of its own: its workers are forked, which a process with threads should not be.
    done = subprocess.run(
        [*command, "--jobs", str(jobs), "--json", str(found)], cwd=ROOT, capture_output=True, text=True
    )
    assert found.exists(), done.stderr
    results: report.Results = json.loads(found.read_text())
    before = report.load()["rtx"]

    assert not results.keys() - before.keys(), "docs/conformance.json is not of this onnx: run the whole conformance"
    broken = {n: r for n, r in results.items() if before[n] == "pass" and r != "pass"}
    assert not broken, "\n".join([f"{len(broken)} tests passed before:", *(f"{n}: {r}" for n, r in broken.items())])
    mended = [n for n, r in results.items() if before[n] != "pass" and r == "pass"]
    if mended:
        warnings.warn(f"pass now, docs/conformance.md is older: {', '.join(mended)}", stacklevel=1)


def test_the_sample_has_every_operator_and_at_least_300_tests() -> None:
    tests = cases.node_tests()
    operators = {name: cases.operator_of(name, test.model) for name, test in tests.items()}
    expressible = {name: cases.load(name).reason is None for name in tests}
    chosen = sample(operators, expressible)
    assert len(chosen) >= 300
    assert {operators[name] for name in chosen} == set(operators.values())
    able = {operators[name] for name in tests if expressible[name]}
    assert {operators[name] for name in chosen if expressible[name]} == able
    assert chosen == sample(dict(reversed(operators.items())), expressible)


def test_the_page_is_made_of_the_results_beside_it() -> None:
    operators = {name: cases.operator_of(name, test.model) for name, test in cases.node_tests().items()}
    runs = report.load()
    assert runs["rtx"].keys() == operators.keys()
    assert report.page(runs, operators) == report.PAGE.read_text()
