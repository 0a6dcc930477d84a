"""Runs what `prepare` made on a GPU, under the real TensorRT, and compares with the expected outputs.

    python -m tests.gpu.trial --trial .gpu/trial --interface v2 --headers .gpu/headers --results results-v2.json
    python -m tests.gpu.trial --trial .gpu/trial --interface v3 --results results-v3.json

For V2, `TRT_LIB` names the folder of TensorRT 8.6's libraries, `--headers` that of its headers, and `CUDA_HOME` the
CUDA toolkit. For V3, `RTX_LIB` names the folder of TensorRT-RTX's libraries; `CC_OVERRIDE_LIB`, where it is set, is
preloaded (see docs/gpu.md). Needs no TVM, ONNX or ONNX Runtime. The exit code is 1 when something is not as it must
be; `python -m tests.gpu.report` makes the table.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from plugin_autogen import dtypes
from plugin_autogen.verify.compare import difference

HOST_BYTES_PER_ROUND = 16
"""Heap that a round may leave behind on average: less than any object, more than a log that grows now and then."""
DEVICE_BYTES = 2 << 20
"""Device memory that many rounds may leave behind: CUDA hands it out in pieces of this size."""
SANITIZER_SECONDS = 110
"""After this time a tool is stopped; what it had seen until then does not count as clean."""
SANITIZERS = {
    "memcheck": ["--report-api-errors", "no", "--leak-check", "no"],
    "racecheck": [],
}

Results = dict[str, dict[str, Any]]
"""Case → what the runner reported."""


# --- running ----------------------------------------------------------------------------------------------------------


def runner_command(interface: str, headers: Path | None, scratch: Path) -> tuple[list[str], dict[str, str]]:
    """The command that takes mode, manifest and results, and its environment. Compiles the runner for V2."""
    environment = dict(os.environ)
    if interface == "v3":
        root = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(p for p in (root, environment.get("PYTHONPATH", "")) if p)
        if environment.get("CC_OVERRIDE_LIB"):
            environment["LD_PRELOAD"] = environment["CC_OVERRIDE_LIB"]
            environment.setdefault("CC_OVERRIDE", "89")
        return [sys.executable, "-m", "tests.gpu.rtx_runner"], environment
    if headers is None or "TRT_LIB" not in environment:
        raise SystemExit("give --headers, and in TRT_LIB the folder of TensorRT 8.6's libraries")
    cuda = Path(environment.get("CUDA_HOME", "/usr/local/cuda"))
    program = scratch / "trt8_runner"
    libraries = environment["TRT_LIB"]
    compiling = ["g++", "-std=c++17", "-O1", "-pthread", "-Wno-deprecated-declarations"]
    compiling += ["-isystem", str(headers), "-isystem", str(cuda / "include")]
    compiling += [str(Path(__file__).with_name("trt8_runner.cpp")), "-o", str(program)]
    compiling += [f"-L{libraries}", f"-L{cuda / 'lib64'}", f"-Wl,-rpath,{libraries}", "-Wl,--allow-shlib-undefined"]
    compiling += ["-lnvinfer", "-lnvonnxparser", "-lcudart_static", "-ldl", "-lrt"]
    subprocess.run(compiling, check=True)
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(p for p in (libraries, environment.get("LD_LIBRARY_PATH")) if p)
    return [str(program)], environment


def run_all(
    command: Sequence[str], environment: Mapping[str, str], mode: str, cases: Sequence[Mapping[str, Any]], scratch: Path
) -> tuple[Results, str]:
    """Every case through the runner, and TensorRT's version.

    A process that dies takes its case with it: the rest goes to another one.
    """
    found: Results = {}
    version = ""
    left = list(cases)
    while left:
        manifest, output = scratch / "manifest", scratch / "results"
        manifest.write_text("".join(f"{c['id']} {c['plugin']} {c['folder']} {c['flags']}\n" for c in left))
        output.unlink(missing_ok=True)
        process = subprocess.run([*command, mode, str(manifest), str(output)], env=environment, check=False)
        lines = [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []
        begun = ""
        for line in lines:
            if "version" in line:
                version = line["version"]
            elif line.get("begin"):
                begun = line["id"]
            else:
                found[line["id"]] = line
        if begun and begun not in found:
            found[begun] = {"ok": False, "message": f"the process ended with {process.returncode}", "logged": ""}
        elif not begun:
            for case in left:
                found[case["id"]] = {"ok": False, "message": f"the runner ended with {process.returncode}"}
        left = [c for c in left if c["id"] not in found]
    return found, version


def flags_of(case: Mapping[str, Any]) -> str:
    """The builder's flags that a network with these types needs under TensorRT 8."""
    kinds = {t["dtype"] for t in (*case["inputs"], *case["outputs"])}
    return ",".join(f for f, kind in (("fp16", "float16"), ("int8", "int8")) if kind in kinds) or "-"


def _half_allowed(case: Mapping[str, Any]) -> dict[str, Any]:
    """The same network, built with leave to compute in float16: the builder then asks for other formats."""
    source = Path(case["folder"])
    folder = source.with_name(f"{source.name}-half")
    shutil.copytree(source, folder, dirs_exist_ok=True)
    flags = case["flags"]
    return {
        **case,
        "id": f"{case['id']}-half",
        "precision": "float32, float16 allowed",
        "folder": str(folder),
        "flags": "fp16" if flags == "-" else f"{flags},fp16",
        "trials": False,
    }


# --- judging ----------------------------------------------------------------------------------------------------------


def compare_outputs(case: Mapping[str, Any], folder: Path, sets: Sequence[str], reported: Any) -> dict[str, Any]:
    """Largest errors over all outputs and sets, and what is wrong."""
    wrong: list[str] = []
    absolute = relative = 0.0
    types = {t["name"]: t for t in reported}
    for tensor in case["outputs"]:
        name = tensor["name"]
        got = types.get(name)
        if got is None:
            wrong.append(f"output {name} is missing")
            continue
        if got["dtype"] != tensor["dtype"] or got["shape"] != tensor["shape"]:
            wrong.append(f"output {name} is {got['dtype']} {got['shape']}, not {tensor['dtype']} {tensor['shape']}")
            continue
        kind = dtypes.from_name(tensor["dtype"]).numpy
        for number in sets:
            arrays = [
                np.frombuffer((folder / f"{number}.{name}.{suffix}").read_bytes(), kind).reshape(tensor["shape"])
                for suffix in ("actual", "expected")
            ]
            found = difference(*arrays)
            absolute, relative = max(absolute, found.absolute), max(relative, found.relative)
            if found.message:
                wrong.append(f"output {name}, inputs {number}: {found.message}")
    return {"absolute": absolute, "relative": relative, "wrong": wrong}


def problems(case: Mapping[str, Any]) -> list[str]:
    """What is not as it must be, in the order in which it would be noticed."""
    for stage in ("build", "run"):
        if not case[stage].get("ok"):
            return [f"{stage}: {case[stage].get('message', 'not tried')}"]
    found = list(case["comparison"]["wrong"])
    if not case["trials"]:
        return found
    run = case["run"]
    for trial in ("graph", "threads"):
        if trial not in run:
            found.append(f"{trial}: not tried")
        elif run[trial]:
            found.append(f"{trial}: {run[trial]}")
    for what in ("contexts", "engines"):
        soak = run.get(what)
        if soak is None:
            found.append(f"{what}: not tried")
            continue
        if soak["host_bytes"] > HOST_BYTES_PER_ROUND * soak["measured_rounds"]:
            found.append(
                f"{what}: {soak['host_bytes']} bytes of host memory more after {soak['measured_rounds']} rounds"
            )
        if soak["device_bytes"] > DEVICE_BYTES:
            found.append(f"{what}: {soak['device_bytes']} bytes of device memory more")
    return found


# --- sanitizer --------------------------------------------------------------------------------------------------------


def sanitize(
    tool: str, command: Sequence[str], environment: Mapping[str, str], cases: Sequence[Mapping[str, Any]], scratch: Path
) -> dict[str, Any]:
    """All cases once under one of compute-sanitizer's tools."""
    program = shutil.which("compute-sanitizer", path=environment.get("PATH", "") + ":/usr/local/cuda/bin")
    if program is None:
        return {"tool": tool, "summary": "compute-sanitizer is not installed", "output": ""}
    manifest, output = scratch / f"manifest-{tool}", scratch / f"results-{tool}"
    manifest.write_text("".join(f"{c['id']} {c['plugin']} {c['folder']} {c['flags']}\n" for c in cases))
    log = scratch / f"{tool}.log"
    start = time.monotonic()
    watched = [program, "--tool", tool, *SANITIZERS[tool], "--log-file", str(log), *command, "compute"]
    try:
        process = subprocess.run(
            [*watched, str(manifest), str(output)], env=environment, check=False, timeout=SANITIZER_SECONDS
        )
        status = process.returncode
    except subprocess.TimeoutExpired:
        status = -1
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []
    done = [line for line in lines if line.get("ok")]
    summary = next((line.strip("= ") for line in reversed(text.splitlines()) if "SUMMARY" in line), "no summary")
    return {
        "tool": tool,
        "summary": f"{len(done)} of {len(cases)} cases run, {summary}",
        "clean": len(done) == len(cases) and "SUMMARY: 0 " in summary and status == 0,
        "seconds": time.monotonic() - start,
        "output": text[:20000],
    }


# --- the machine ------------------------------------------------------------------------------------------------------


def machine() -> dict[str, str]:
    """Name, driver and compute capability of the GPU, and the CUDA compiler's release."""

    def ask(*command: str) -> str:
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return "unknown"

    name, driver, capability = [
        part.strip()
        for part in (
            ask("nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader").splitlines()[0]
            + ",unknown,unknown"
        ).split(",")[:3]
    ]
    return {"gpu": name, "driver": driver, "capability": capability}


def _write(path: Path, results: Mapping[str, Any], start: float) -> None:
    """Writes the results file, without the folders of this machine."""
    cases = [{key: value for key, value in c.items() if key != "folder"} for c in results["cases"]]
    content = {**results, "cases": cases, "seconds": time.monotonic() - start}
    path.write_text(json.dumps(content, indent=1) + "\n")


def main(arguments: Sequence[str]) -> int:
    """Builds, runs, compares; writes the results file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trial", type=Path, required=True, help="the folder that prepare made")
    parser.add_argument("--interface", choices=["v2", "v3"], required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--headers", type=Path, help="folder of NvInfer.h (8.6) and NvOnnxParser.h, for V2")
    parser.add_argument("--sanitize", nargs="*", default=[], choices=list(SANITIZERS))
    parser.add_argument("--failing", type=Path, help="a tar file that gets the folders of the cases that went wrong")
    options = parser.parse_args(arguments)
    trial = options.trial.resolve()
    content = json.loads((trial / "cases.json").read_text())
    cases = [
        {**c, "folder": str(trial / c["id"]), "flags": flags_of(c), "trials": True}
        for c in content["cases"]
        if c["interface"] == options.interface
    ]
    if options.interface == "v2":
        cases += [_half_allowed(c) for c in cases if c["precision"] == "float32"]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        command, environment = runner_command(options.interface, options.headers, scratch)
        built, version = run_all(command, environment, "build", cases, scratch)
        print(f"built after {time.monotonic() - start:.0f} s", flush=True)
        run: Results = {}
        for mode, trials in (("run", True), ("compute", False)):
            chosen = [c for c in cases if built[c["id"]].get("ok") and c["trials"] is trials]
            run.update(run_all(command, environment, mode, chosen, scratch)[0])
        print(f"run after {time.monotonic() - start:.0f} s", flush=True)
        for case in cases:
            case["build"] = built[case["id"]]
            case["run"] = run.get(case["id"], {})
            case["comparison"] = {"absolute": 0.0, "relative": 0.0, "wrong": []}
            if case["run"].get("ok"):
                found = compare_outputs(case, Path(case["folder"]), content["sets"], case["run"]["outputs"])
                case["comparison"] = found
            case["problems"] = problems(case)
        results = {
            "interface": options.interface,
            "version": version,
            "date": datetime.date.today().isoformat(),
            "arch": content["arch"],
            **machine(),
            "cases": cases,
            "not_generated": [f for f in content["failures"] if f["interface"] == options.interface],
            "sanitizers": [],
        }
        _write(options.results, results, start)
        right = [c for c in cases if c["run"].get("ok") and c["trials"]]
        for tool in options.sanitize:
            found = sanitize(tool, command, environment, right, scratch)
            print(f"{tool} after {time.monotonic() - start:.0f} s: {found['summary']}", flush=True)
            results["sanitizers"].append(found)
            _write(options.results, results, start)
    failing = [c for c in cases if c["problems"]]
    if failing and options.failing:
        subprocess.run(
            [
                "tar",
                "cf",
                str(options.failing),
                "-C",
                str(trial),
                "--exclude=plugin.so",
                *(Path(c["folder"]).name for c in failing),
            ],
            check=True,
        )
    for case in failing:
        print(f"{case['id']}: {'; '.join(case['problems'])[:400]}")
    clean = all(s.get("clean") for s in results["sanitizers"])
    print(f"{len(cases) - len(failing)} of {len(cases)} cases right", flush=True)
    return 0 if not failing and clean and not results["not_generated"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
