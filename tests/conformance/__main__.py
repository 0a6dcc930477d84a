"""ONNX's node tests through the pipeline.

python -m tests.conformance                     every test as IPluginV3; writes docs/conformance.md and .json
python -m tests.conformance --release 8         the same as IPluginV2DynamicExt
python -m tests.conformance --failed            the failures of the last run once more; brings the page up to date
python -m tests.conformance -k TEXT …           some tests; writes nothing
python -m tests.conformance --stage lowering    without C++: LLVM runs the lowered functions
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.conformance import cases, report, stages
from tests.conformance.gpu import SAMPLE
from tests.conformance.sample import sample
from tests.conformance.workers import run_isolated

STAGES: dict[tuple[str, str], Callable[[str], str]] = {
    ("lowering", "rtx"): stages.lowering,
    ("lowering", "8"): stages.lowering,
    ("plugin", "rtx"): stages.plugin_v3,
    ("plugin", "8"): stages.plugin_v2,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the chosen tests; 1 where one of them fails."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", choices=("plugin", "lowering"), default="plugin", help="how far (default plugin)")
    parser.add_argument("--release", choices=("rtx", "8"), default="rtx", help="TensorRT release (default rtx)")
    parser.add_argument("-k", metavar="TEXT", help="only tests whose name matches this regular expression")
    parser.add_argument("--operator", nargs="*", help="only tests of these operators")
    parser.add_argument("--failed", action="store_true", help="only tests that docs/conformance.json lists as failures")
    parser.add_argument("--sample", action="store_true", help="only the fixed sample that the test suite runs")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="only the I-th of N parts of the chosen tests")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes (default 2)")
    parser.add_argument("--timeout", type=float, default=180, help="seconds for one test (default 180)")
    parser.add_argument("--verbose", action="store_true", help="show what the libraries print")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep what tests/conformance/gpu.py runs on a GPU here"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write name → result here")
    args = parser.parse_args(arguments)

    operators = {name: cases.operator_of(name, test.model) for name, test in cases.node_tests().items()}
    names = list(operators)
    if args.sample:
        names = sample(operators, {name: cases.load(name).reason is None for name in names})
    if args.k is not None:
        names = [n for n in names if re.search(args.k, n)]
    if args.operator is not None:
        names = [n for n in names if operators[n] in args.operator]
    if args.failed:
        last = report.load().get(args.release, {})
        names = [n for n in names if report.status(last.get(n, "")) == "fail"]
    part, parts = map(int, args.part.split("/"))
    names = names[part - 1 :: parts]

    start = time.monotonic()
    results: report.Results = {}
    stage: Callable[[str], str] = STAGES[args.stage, args.release]
    if args.keep is not None:
        if args.stage != "plugin":
            parser.error("--keep needs the stage plugin")
        stage = functools.partial(stage, keep=args.keep)
        args.keep.mkdir(parents=True, exist_ok=True)
        watched = sample(operators, {name: cases.load(name).reason is None for name in operators})
        (args.keep / SAMPLE).write_text("\n".join(watched) + "\n")
    with tempfile.TemporaryDirectory(prefix="conformance-") as scratch:
        tempfile.tempdir = scratch  # also of the workers, which may end without tidying up
        for name, result in run_isolated(stage, names, args.jobs, args.timeout, quiet=not args.verbose):
            results[name] = report.one_line(result)
            if report.status(results[name]) == "fail":
                print(f"{name}: {results[name]}", flush=True)
        tempfile.tempdir = None
    found = report.counts(results.values())
    summary = ", ".join(f"{count} {status}" for status, count in found.items())
    print(f"{summary}; {time.monotonic() - start:.0f} s")
    if args.json is not None:
        args.json.write_text(json.dumps(dict(sorted(results.items())), indent=1))
    if args.stage == "plugin" and (len(results) == len(operators) or (args.failed and results)):
        runs = report.load()
        report.save({**runs, args.release: {**runs.get(args.release, {}), **results}}, operators)
        print(f"written: {report.PAGE.name}, {report.DATA.name}")
    return 1 if found["fail"] else 0


if __name__ == "__main__":
    sys.exit(main())
