"""The node tests' plugins on a GPU, driven by the host that drives them on the emulated device.

    python -m tests.conformance --keep DIR          where the tests are made: sources and requests for each test
    python -m tests.conformance.gpu run DIR OUT     on a machine with a GPU, nvcc and g++; needs neither TVM nor ONNX
    python -m tests.conformance.gpu report OUT      where the tests were made: writes docs/gpu_conformance.md

`run` compiles every plugin with nvcc as the tool does, runs it, and runs a sample that covers every operator once more
under each tool of compute-sanitizer. `report` compares the outputs with what ONNX states, by the same function and
tolerances as on the CPU.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

HOST = Path(__file__).parents[1] / "cpu_cuda" / "host"
TOOLS = ("memcheck", "racecheck")
STEPS = ("compile", "run", *TOOLS)
SUMMARY = "summary.json"
CLEAN = "clean"
SAMPLE = "sample"
"""File with the names of the tests that compute-sanitizer watches, a line each."""


@dataclass
class Summary:
    """What `run` found.

    Attributes:
        device: the GPU and its driver.
        arch: compute capability of the machine code.
        date: of the run.
        failures: test → why there is no output.
        sanitizer: tool → test → "clean", or what it said.
    """

    device: str
    arch: str
    date: str
    failures: dict[str, str] = field(default_factory=dict)
    sanitizer: dict[str, dict[str, str]] = field(default_factory=dict)


def run(tests: Path, out: Path, jobs: int, steps: Sequence[str]) -> None:
    """Compiles and runs what `--keep` left in `tests`; writes responses and a summary to `out`."""
    device, driver, arch = _nvidia_smi("name,driver_version,compute_cap")
    arch = f"sm_{arch.replace('.', '')}"
    names = sorted(path.parent.name for path in tests.glob("*/request"))
    summary = Summary(f"{device}, driver {driver}", arch, datetime.date.today().isoformat())
    if (out / SUMMARY).exists():
        summary = Summary(**json.loads((out / SUMMARY).read_text()))
    host = tests / "host"
    if "compile" in steps:
        _build_host(host)
        summary.failures = _timed("compiled", lambda: _compile(tests, names, arch, jobs))
        _save(summary, out)
    if "run" in steps:
        built = [name for name in names if (tests / name / "plugin.so").exists()]
        summary.failures.update(_timed("ran", lambda: _run_all(host, tests, built, out, jobs)))
        _save(summary, out)
    chosen = [name for name in (tests / SAMPLE).read_text().split() if (tests / name / "plugin.so").exists()]
    for tool in steps:
        if tool in TOOLS:
            check = _checker(tool, host, tests)
            found = _timed(tool, lambda check=check: dict(zip(chosen, _each(check, chosen, jobs), strict=True)))
            summary.sanitizer[tool] = found
            _save(summary, out)
            print(tool, collections.Counter(v == CLEAN for v in found.values()), flush=True)


def _save(summary: Summary, out: Path) -> None:
    (out / SUMMARY).write_text(json.dumps(asdict(summary), indent=1))


def _timed(what: str, function: Callable[[], dict[str, str]]) -> dict[str, str]:
    start = time.monotonic()
    result = function()
    print(f"{what}: {time.monotonic() - start:.0f} s", flush=True)
    return result


def _nvidia_smi(query: str) -> list[str]:
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [part.strip() for part in done.stdout.splitlines()[0].split(",")]


def _build_host(host: Path) -> None:
    """The host of tests/cpu_cuda with a GPU in the place of the emulated device."""
    from plugin_autogen import resources
    from plugin_autogen.build.toolchain import find_toolchain

    command = [str(find_toolchain().nvcc), "-std=c++17", "-O1", "-Xcompiler", "-rdynamic"]
    command += [f"-I{HOST}", f"-I{resources.interface_include()}"]
    command += [str(HOST / f"{name}.cpp") for name in ("main", "plugin_v3", "gpu")]
    subprocess.run([*command, "-ldl", "-lpthread", "-o", str(host)], check=True)


def _compile(tests: Path, names: Sequence[str], arch: str, jobs: int) -> dict[str, str]:
    """Each plugin to `plugin.so` in its folder; the failures."""
    from plugin_autogen import releases
    from plugin_autogen.build.architectures import resolve
    from plugin_autogen.build.compile import LibrarySource, compile_many
    from plugin_autogen.build.toolchain import find_tensorrt_headers, find_toolchain

    toolchain = find_toolchain()
    headers = find_tensorrt_headers(releases.release("rtx"))
    architectures = resolve([arch], toolchain)

    def compile_one(name: str) -> str:
        folder = tests / name
        if (folder / "plugin.so").exists():  # of a run that was cut short
            return ""
        plugin = json.loads((folder / "plugin.json").read_text())["name"]
        source = LibrarySource(plugin, folder / "src", (folder / "src",))
        try:
            (library,) = compile_many([source], folder / "lib", toolchain, headers, architectures, 1)
        except Exception as error:
            return f"does not compile: {error}"
        library.path.rename(folder / "plugin.so")
        return ""

    return _failures(names, _each(compile_one, names, jobs))


def _run_all(host: Path, tests: Path, names: Sequence[str], out: Path, jobs: int) -> dict[str, str]:
    def run_one(name: str) -> str:
        done = _drive([str(host)], tests / name)
        if done.returncode != 0:
            return _last_line(done.stderr) or f"exit code {done.returncode}"
        (tests / name / "response").write_bytes(done.stdout)
        return ""

    failures = _failures(names, _each(run_one, names, jobs))
    with tarfile.open(out / "responses.tar.xz", "w:xz", preset=1) as archive:
        for name in names:
            if name not in failures:
                content = (tests / name / "response").read_bytes()
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return failures


def _checker(tool: str, host: Path, tests: Path) -> Callable[[str], str]:
    command = ["compute-sanitizer", f"--tool={tool}", "--error-exitcode=99", "--print-limit=1", str(host)]
    if tool == "memcheck":
        command.insert(2, "--leak-check=no")

    def check(name: str) -> str:
        done = _drive(command, tests / name)
        if done.returncode == 0 and b"RACECHECK SUMMARY: 0" not in done.stderr + done.stdout and tool == "racecheck":
            return "no summary"
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip("= ")]
        return CLEAN if done.returncode == 0 else f"exit code {done.returncode}: {' '.join(lines[:4])[:500]}"

    return check


def _drive(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[bytes]:
    with (folder / "request").open("rb") as request:
        try:
            return subprocess.run(
                [*command, str(folder / "plugin.so")], stdin=request, capture_output=True, timeout=120, check=False
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 1, b"", b"no end after 120 s")


def _each(function: Callable[[str], str], names: Sequence[str], jobs: int) -> list[str]:
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        return list(pool.map(function, names))


def _failures(names: Iterable[str], results: Iterable[str]) -> dict[str, str]:
    return {name: result for name, result in zip(names, results, strict=True) if result}


def _last_line(text: bytes) -> str:
    return next((line for line in reversed(text.decode(errors="replace").splitlines()) if line.strip()), "")


def report(out: Path) -> None:
    """Compares the responses and writes the page."""
    import tempfile

    from plugin_autogen import releases
    from tests.conformance import report as cpu
    from tests.conformance import stages

    summary = Summary(**json.loads((out / SUMMARY).read_text()))
    results = {name: cpu.one_line(why) for name, why in summary.failures.items()}
    with tarfile.open(out / "responses.tar.xz") as archive, tempfile.TemporaryDirectory() as scratch:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            try:
                result = stages.result_of_response(member.name, releases.release("rtx"), content.read(), Path(scratch))
            except Exception as error:  # every failure is a result
                result = f"{type(error).__name__}: {error}"
            results[member.name] = cpu.one_line(result)
    expected = {n: r for n, r in cpu.load().get("rtx", {}).items() if cpu.status(r) != "not expressible"}
    path = cpu.DOCS / "gpu_conformance.md"
    path.write_text(_page(summary, results, expected))
    print(f"written: {path.name}; {cpu.counts(results.values())}")


def _page(summary: Summary, results: dict[str, str], expected: dict[str, str]) -> str:
    from tests.conformance import cases

    passed = sum(result == "pass" for result in results.values())
    differences = {
        name: (expected.get(name, "not run"), result)
        for name, result in sorted(results.items())
        if result != expected.get(name)
    }
    lines = [
        "# Conformance on a GPU",
        "",
        "The plugins of ONNX's node tests, compiled by nvcc and driven through TensorRT's interface by the host that",
        "drives them on the emulated device. Made by `python -m tests.conformance.gpu`; do not edit.",
        "",
        f"{summary.device}; {summary.arch}; {summary.date}. **{passed:,} of {len(results):,} pass.**",
        "",
        "## Differences from the CPU",
        "",
    ]
    if differences:
        lines += ["| test | CPU | GPU |", "| --- | --- | --- |"]
        lines += [f"| `{n}` | {_cell(mine)} | {_cell(theirs)} |" for n, (mine, theirs) in differences.items()]
    else:
        lines.append("None.")
    lines += ["", "## compute-sanitizer", "", "| tool | plugins | operators | clean |", "| --- | --: | --: | --: |"]
    operators = {name: cases.operator_of(name, test.model) for name, test in cases.node_tests().items()}
    for tool, found in summary.sanitizer.items():
        clean = sum(result == CLEAN for result in found.values())
        lines.append(f"| {tool} | {len(found)} | {len({operators[n] for n in found})} | {clean} |")
    for tool, found in summary.sanitizer.items():
        lines += [f"\n`{n}`, {tool}: {_cell(result)}" for n, result in sorted(found.items()) if result != CLEAN]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.gpu", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="compile and run on this machine's GPU")
    runner.add_argument("tests", type=Path, metavar="DIR")
    runner.add_argument("out", type=Path, metavar="OUT")
    runner.add_argument("--jobs", type=int, default=os.cpu_count())
    runner.add_argument("--steps", nargs="*", choices=STEPS, default=STEPS)
    reporter = commands.add_parser("report", help="write docs/gpu_conformance.md")
    reporter.add_argument("out", type=Path, metavar="OUT")
    args = parser.parse_args(arguments)
    if args.command == "report":
        report(args.out)
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    run(args.tests.resolve(), args.out.resolve(), args.jobs, args.steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
