"""What became of the node tests: `docs/conformance.json`, which holds every result, and the page made of it.

A result is `pass`, `not expressible: <reason>`, or the cause of the failure in one line. Nothing in either file depends
on the machine or the time of the run.
"""

from __future__ import annotations

import collections
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx

from plugin_autogen import releases
from plugin_autogen.errors import shorten

Results = dict[str, str]
"""Test name → result."""

DOCS = Path(__file__).parents[2] / "docs"
DATA = DOCS / "conformance.json"
PAGE = DOCS / "conformance.md"

NOT_EXPRESSIBLE = "not expressible: "
_STATUSES = ("pass", "fail", "not expressible")


def status(result: str) -> str:
    """`pass`, `fail` or `not expressible`."""
    if result == "pass":
        return "pass"
    return "not expressible" if result.startswith(NOT_EXPRESSIBLE) else "fail"


def one_line(result: object) -> str:
    """A stage's result, or the error that it ended with, as one line without what differs from run to run."""
    text = str(result)
    text = re.sub(r"/[^\s'\":]*/", "", text)  # folders of scratch files and of the installation
    text = re.sub(r"0x[0-9a-fA-F]+", "0x…", text)
    return shorten(text, 300) or type(result).__name__


def counts(results: Iterable[str]) -> dict[str, int]:
    """How many results there are of each status."""
    found = collections.Counter(status(r) for r in results)
    return {s: found[s] for s in _STATUSES}


def load(path: Path = DATA) -> dict[str, Results]:
    """Release key → the results of its last whole run; empty where there was none."""
    if not path.exists():
        return {}
    results: dict[str, Results] = json.loads(path.read_text())["results"]
    return results


def save(runs: Mapping[str, Results], operators: Mapping[str, str]) -> None:
    """Writes the results and the page.

    Args:
        runs: release key → results of a whole run.
        operators: test name → the operator that it is about.
    """
    DOCS.mkdir(exist_ok=True)
    data = {"onnx": onnx.__version__, "results": {key: dict(sorted(run.items())) for key, run in sorted(runs.items())}}
    _replace(DATA, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    _replace(PAGE, page(runs, operators))


def page(runs: Mapping[str, Results], operators: Mapping[str, str]) -> str:
    """The page in Markdown: totals, and for each release a table by operator, failures, reasons."""
    lines = [
        "# Conformance",
        "",
        f"The node tests of ONNX {onnx.__version__} through the whole pipeline: all nodes of a test become one plugin,",
        "its generated source is compiled for the CPU, and the plugin runs there through TensorRT's own interface,",
        "from the creator to `enqueue`. Element types and shapes must be the test's, values within the tolerance of",
        "their type. The sizes that the data decide, of what Compress, NonMaxSuppression, NonZero and Unique give, are",
        "real ones under `IPluginV3`, with size tensors: no model states them. Shapes that TensorRT can tell a plugin",
        "at run time (for Reshape, Expand, Tile, ConstantOfShape, Resize and Slice) are inputs there, no constants.",
        "Written by",
        "",
        *(f"    {command(key)}" for key in _ordered(runs)),
        "",
        "| release | plugin | tests | pass | fail | not expressible | pass, of the expressible |",
        "| --- | --- | --: | --: | --: | --: | --: |",
    ]
    for key in _ordered(runs):
        release, found = releases.release(key), counts(runs[key].values())
        share = 100 * found["pass"] / max(1, found["pass"] + found["fail"])
        numbers = " | ".join(f"{found[s]:,}" for s in _STATUSES)
        lines.append(
            f"| {release.title} | `{release.interface.value}` | {len(runs[key]):,} | {numbers} | {share:.1f} % |"
        )
    for key in _ordered(runs):
        lines += ["", f"## {releases.release(key).title}", *_section(runs[key], operators)]
    return "\n".join(lines) + "\n"


def command(key: str) -> str:
    """The command that runs every test for this release and writes the page."""
    return "python -m tests.conformance" + ("" if key == "rtx" else f" --release {key}")


def _ordered(runs: Mapping[str, Results]) -> list[str]:
    return sorted(runs, key=lambda key: (key != "rtx", key))


def _section(results: Results, operators: Mapping[str, str]) -> list[str]:
    reasons = collections.Counter(
        r.removeprefix(NOT_EXPRESSIBLE) for r in results.values() if r.startswith(NOT_EXPRESSIBLE)
    )
    failures = {name: r for name, r in sorted(results.items()) if status(r) == "fail"}
    by_operator: dict[str, list[str]] = {}
    for name, result in results.items():
        by_operator.setdefault(operators[name], []).append(result)
    lines = ["", "### Failures", ""]
    if failures:
        lines += ["| test | operator | cause |", "| --- | --- | --- |"]
        lines += [f"| `{name}` | {operators[name]} | {_cell(cause)} |" for name, cause in failures.items()]
    else:
        lines.append("None.")
    lines += ["", "### Not expressible as a TensorRT plugin", "", "| reason | tests |", "| --- | --: |"]
    lines += [
        f"| {_cell(reason)} | {count} |" for reason, count in sorted(reasons.items(), key=lambda r: (-r[1], r[0]))
    ]
    lines += ["", "### Operators", "", "| operator | pass | fail | not expressible |", "| --- | --: | --: | --: |"]
    for operator in sorted(by_operator):
        numbers = " | ".join(str(n) if n else "" for n in counts(by_operator[operator]).values())
        lines.append(f"| {operator} | {numbers} |")
    return lines


def _cell(text: str) -> str:
    """Text inside a Markdown table."""
    return re.sub(r"([|`*_<>\[\]\\])", r"\\\1", text)


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text)
    unfinished.replace(path)
