"""The parts of the GPU trial that need no GPU: preparation, the verdict, the page."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from plugin_autogen import dtypes
from plugin_autogen.engine import runtime_library
from tests.acceptance_cases import CASES
from tests.gpu import prepare, report, rtx_runner, trial

SOAK = {"rounds": 1000, "measured_rounds": 900, "host_bytes": 0, "device_bytes": 0}


def case(**changes: Any) -> dict[str, Any]:
    """A case that went well."""
    good = {
        "id": "Softmax-float32-v3-plugin",
        "operator": "Softmax",
        "precision": "float32",
        "interface": "v3",
        "network": "plugin",
        "trials": True,
        "outputs": [{"name": "y", "dtype": "float16", "shape": [2, 3]}],
        "build": {"ok": True, "seconds": 0.5},
        "run": {"ok": True, "graph": "", "threads": "", "contexts": SOAK, "engines": SOAK, "microseconds": 2.5},
        "comparison": {"absolute": 0.0, "relative": 0.0, "wrong": []},
    }
    return {**good, **changes}


def test_prepared_cases_hold_what_the_networks_take_and_give(tmp_path: Path) -> None:
    out = tmp_path / "trial"
    assert prepare.main(["--out", str(out), "--operators", "IsInf", "--precisions", "float32"]) == 0
    content = json.loads((out / "cases.json").read_text())
    cases = {c["id"]: c for c in content["cases"]}
    assert set(cases) == {"IsInf-float32-v2-model", "IsInf-float32-v2-plugin", "IsInf-float32-v3-plugin"}
    (whole,) = cases["IsInf-float32-v2-model"]["outputs"]
    (cut,) = cases["IsInf-float32-v2-plugin"]["outputs"]
    assert (whole["dtype"], cut["dtype"], cut["onnx_dtype"]) == ("bool", "int32", "bool")
    for name, item in cases.items():
        proto = onnx.load(out / name / "model.onnx")
        assert [n.domain for n in proto.graph.node].count("plugin_autogen") == 1
        assert (len(proto.graph.node) == 1) == (item["network"] == "plugin")
        assert (out / name / "plugin.so").stat().st_size > 0
        for number in content["sets"]:
            x = np.frombuffer((out / name / f"{number}.x.bin").read_bytes(), np.float32)
            (y,) = item["outputs"]
            expected = np.frombuffer((out / name / f"{number}.{y['name']}.expected").read_bytes(), y["dtype"])
            assert np.array_equal(expected.astype(bool), np.isposinf(x))
            assert expected.any() and not expected.all() and np.isneginf(x).any()


def test_the_runner_builds_a_prepared_case(tmp_path: Path) -> None:
    """TensorRT-RTX's builder works without a GPU; so does this half of its runner."""
    out = tmp_path / "trial"
    prepare.main(["--out", str(out), "--operators", "TopK", "--precisions", "float16", "--interfaces", "v3"])
    (item,) = json.loads((out / "cases.json").read_text())["cases"]
    item = {**item, "folder": str(out / item["id"]), "flags": "-"}
    environment = runtime_library.environment(runtime_library.choose("rtx"), tmp_path)
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-m", "tests.gpu.rtx_runner"]
    found, version = trial.run_all(command, environment, "build", [item], tmp_path)
    assert found[item["id"]]["ok"], found
    assert version.startswith("1.")
    assert (out / item["id"] / "trial.engine").stat().st_size == found[item["id"]]["bytes"]


@pytest.mark.parametrize(
    ("growth", "left"),
    [
        (lambda i: 48 * i, 48 * 450),  # a leak
        (lambda i: 3000 if i > 500 else 0, 0),  # something that the process allocates once
        (lambda i: 0, 0),
    ],
)
def test_a_leak_is_told_from_what_is_allocated_once(
    growth: Callable[[int], int], left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[None] = []
    monkeypatch.setattr(rtx_runner, "_memory_in_use", lambda cuda: (growth(len(rounds)), 7))
    found = rtx_runner._soak(None, 100, 1000, lambda: rounds.append(None))  # type: ignore[arg-type]
    assert found == {"rounds": 1000, "measured_rounds": 450, "host_bytes": left, "device_bytes": 0}
    assert len(rounds) == 1000


def test_float16_variant_is_the_same_operator() -> None:
    made = prepare.variant(CASES["MatMul"](), dtypes.FLOAT16)
    assert made is not None
    types = {v.name: v.type.tensor_type.elem_type for v in (*made.graph.input, *made.graph.output)}
    types |= {t.name: t.data_type for t in made.graph.initializer}
    assert set(types.values()) == {onnx.TensorProto.FLOAT16}
    assert prepare.variant(CASES["MatMulInteger"](), dtypes.FLOAT16) is None
    assert prepare.variant(CASES["DynamicQuantizeLinear"](), dtypes.FLOAT16) is None


@pytest.mark.parametrize(
    ("actual", "reported", "message"),
    [
        ([1, 2, 3, 4, 5, 6], {"dtype": "float16", "shape": [2, 3]}, None),
        ([1, 2, 3, 4, 5, 7], {"dtype": "float16", "shape": [2, 3]}, "1 of 6 values differ, the worst at [1, 2]"),
        ([1, 2, 3, 4, 5, 6], {"dtype": "float32", "shape": [2, 3]}, "output y is float32 [2, 3], not float16 [2, 3]"),
        ([1, 2, 3, 4, 5, 6], {"dtype": "float16", "shape": [6]}, "output y is float16 [6], not float16 [2, 3]"),
        ([1, 2, 3, 4, 5, 6], None, "output y is missing"),
    ],
)
def test_outputs_are_compared_with_type_and_shape(
    actual: list[int], reported: dict[str, Any] | None, message: str | None, tmp_path: Path
) -> None:
    np.arange(1, 7, dtype=np.float16).tofile(tmp_path / "a.y.expected")
    np.array(actual, np.float16).tofile(tmp_path / "a.y.actual")
    found = trial.compare_outputs(case(), tmp_path, ["a"], [{"name": "y", **reported}] if reported else [])
    assert len(found["wrong"]) == (message is not None)
    assert message is None or message in found["wrong"][0]


def _run(**changes: Any) -> dict[str, Any]:
    return {"run": {**case()["run"], **changes}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"build": {"ok": False, "message": "refused"}}, "build: refused"),
        ({"run": {}}, "run: not tried"),
        (_run(graph="outputs differ"), "graph: outputs differ"),
        (_run(threads="thread 1, round 3"), "threads: thread 1, round 3"),
        (_run(contexts={**SOAK, "host_bytes": 48 * 900}), "contexts: 43200 bytes of host memory more"),
        (_run(engines={**SOAK, "device_bytes": 4 << 20}), "engines: 4194304 bytes of device memory more"),
        ({"run": {"ok": True}}, "graph: not tried"),
        ({"run": {"ok": True}, "trials": False}, None),
        ({"comparison": {"absolute": 1.0, "relative": 1.0, "wrong": ["output y: bad"]}}, "output y: bad"),
    ],
)
def test_verdict(changes: dict[str, Any], message: str | None) -> None:
    found = trial.problems(case(**changes))
    assert found == [] if message is None else message in found[0]


def test_a_process_that_dies_costs_its_case_only(tmp_path: Path) -> None:
    script = tmp_path / "runner.py"
    script.write_text(
        "import json, os, sys\n"
        "for line in open(sys.argv[2]):\n"
        "    name = line.split()[0]\n"
        "    with open(sys.argv[3], 'a') as file:\n"
        "        print(json.dumps({'id': name, 'begin': True}), file=file, flush=True)\n"
        "        if name == 'b': os._exit(7)\n"
        "        print(json.dumps({'id': name, 'ok': True}), file=file)\n"
    )
    cases = [{"id": name, "plugin": "p", "folder": "/", "flags": "-"} for name in "abc"]
    found, _ = trial.run_all([sys.executable, str(script)], os.environ, "run", cases, tmp_path)
    assert {name: entry["ok"] for name, entry in found.items()} == {"a": True, "b": False, "c": True}
    assert found["b"]["message"] == "the process ended with 7"


def _results(cases: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "interface": "v3",
        "version": "1.7.1",
        "date": "2026-01-31",
        "arch": "sm_90",
        "gpu": "a GPU",
        "driver": "580",
        "cases": [{**c, "problems": trial.problems(c)} for c in cases],
        "not_generated": [],
        "sanitizers": [],
    }


@pytest.mark.parametrize(
    ("change", "cell", "tally"),
    [
        ({}, "| equal | 0 | 0.50 | 2.5 |", "1 of 1 networks right"),
        (_run(graph="outputs differ"), "| equal, **but see below** | 0 | 0.50 | 2.5 |", "0 of 1 networks right"),
        (
            {"comparison": {"absolute": 1.0, "relative": 0.5, "wrong": ["output y: bad"]}},
            "| **wrong** | 5.0e-01 |",
            "0 of 1 networks right",
        ),
        ({"build": {"ok": False}, "run": {}}, "| **wrong** |  |  |  |", "0 of 1 networks right"),
        (
            {"comparison": {"absolute": 1.0, "relative": 1e-6, "wrong": []}},
            "| within tolerance | 1.0e-06 |",
            "1 of 1 networks right",
        ),
    ],
)
def test_page(change: dict[str, Any], cell: str, tally: str) -> None:
    page = report.render([_results([case(**change)])])
    assert f"| Softmax | float32 {cell}" in page
    assert tally in page
    assert ("- Softmax-float32-v3-plugin: " in page) == ("**" in cell)
