"""Makes `docs/gpu.md` from the results of `trial`.

python -m tests.gpu.report results-v2.json results-v3.json --out docs/gpu.md
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plugin_autogen.errors import one_line

_TITLES = {"v2": "TensorRT {version}, IPluginV2DynamicExt", "v3": "TensorRT-RTX {version}, IPluginV3"}
_PRECISIONS = ("float32", "float32, float16 allowed", "float16", "bfloat16", "integer")

_INTRODUCTION = """\
# Generated plugins under the real TensorRT

Every operator of the acceptance, generated, built into an engine by TensorRT's own builder from the rewritten ONNX,
written to a file, deserialized by another process and run on a GPU. Made by `tests/gpu/report.py`; do not edit.

Each plugin must give ONNX Runtime's outputs, types and shapes exactly, numbers to the tolerance of
`plugin_autogen/verify/compare.py`, for two sets of random inputs, whatever its output memory held before. It must give
the same bytes again

- replayed as a CUDA graph, with new inputs in place,
- from two contexts on two streams in two threads, 200 times each,

and leave no memory behind after 1,000 contexts and 100 engines were made, run and destroyed.
"""

_COMMANDS = """\
## The commands

Where plugin_autogen is installed (no GPU needed), then on the GPU machine (neither TVM, ONNX nor a network needed):

    python -m tests.gpu.prepare --out .gpu/trial
    TRT_LIB=<TensorRT 8.6's libraries> python -m tests.gpu.trial --trial .gpu/trial --interface v2 \\
        --headers <NvInfer.h and NvOnnxParser.h of 8.6> --sanitize memcheck racecheck --results results-v2.json
    RTX_LIB=<TensorRT-RTX's libraries> CC_OVERRIDE_LIB=<see below> python -m tests.gpu.trial --trial .gpu/trial \\
        --interface v3 --sanitize memcheck racecheck --results results-v3.json
    python -m tests.gpu.report results-v2.json results-v3.json --out docs/gpu.md

The GPU machine's Python needs numpy, ml_dtypes, and for V3 cuda-bindings and TensorRT-RTX's bindings. The headers are
those of the tag v8.6.0 of NVIDIA's TensorRT and of the branch release/8.6-EA of onnx-tensorrt. TensorRT-RTX's parser
opens `libtensorrt_rtx.so`: put a link of that name beside the library and the folder on `LD_LIBRARY_PATH`.

## What this does not prove

- TensorRT-RTX 1.7 refuses GPUs of compute capability 9.0. For this trial a small library is preloaded
  (`CC_OVERRIDE_LIB`) that answers the driver's question for the compute capability with 8.9. Engines that hold
  nothing but plugin layers then build and run; layers of TensorRT's own have no kernels for that GPU. So each V3
  network here is the plugin's node alone, and V3 plugins beside native layers have not been run.
- TensorRT 10 and 11 themselves have not been run; the V3 interface has one layout from 10.0 to 11.1 and in
  TensorRT-RTX 1.7 (`tests/unit/test_interface_headers.py`).
- TensorRT 8.6.0 is the early-access build. The networks hold the Casts that the rewritten model has around a plugin.
"""


def render(results: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()) -> str:
    """The page, in Markdown; `notes` say what is known about what went wrong."""
    parts = [_INTRODUCTION, "| | |", "| --- | --- |"]
    for result in results:
        cases = result["cases"]
        right = sum(not c["problems"] for c in cases)
        parts.append(
            f"| {_title(result)} | {right} of {len(cases)} networks right; {result['gpu']}, driver {result['driver']}, "
            f"plugins for {result['arch']}, {result['date']} |"
        )
    parts += ["", "## Operators", ""]
    parts += _table(results)
    parts += ["", "## Memory", ""]
    parts += _memory(results)
    parts += ["", "## compute-sanitizer", ""]
    parts += _sanitizers(results)
    wrong = [line for result in results for line in _wrong(result)]
    parts += [
        "",
        "## What went wrong",
        "",
        *(wrong or ["Nothing."]),
        *(f"- Note: {note}" for note in notes),
        "",
        _COMMANDS.rstrip(),
    ]
    return "\n".join(parts) + "\n"


def _title(result: Mapping[str, Any]) -> str:
    return _TITLES[result["interface"]].format(version=result["version"])


def _cases(result: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The main case of each operator and precision: the whole rewritten model where it was run."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for case in sorted(result["cases"], key=lambda c: c["network"] == "model"):
        found[case["operator"], case["precision"]] = case
    return found


def _table(results: Sequence[Mapping[str, Any]]) -> list[str]:
    header, rule = ["operator", "types"], ["---", "---"]
    for result in results:
        header += [result["interface"].upper(), "largest error", "build s", "µs"]
        rule += ["---", "---:", "---:", "---:"]
    lines = [f"| {' | '.join(header)} |", f"| {' | '.join(rule)} |"]
    columns = [_cases(result) for result in results]
    operators = list(dict.fromkeys(c["operator"] for result in results for c in result["cases"]))
    for operator in operators:
        for precision in _PRECISIONS:
            cells = [column.get((operator, precision)) for column in columns]
            if any(cells):
                row = [operator, precision]
                for case in cells:
                    row += _cells(case)
                lines.append(f"| {' | '.join(row)} |")
    lines += [
        "",
        "`float16 allowed`: a float32 model under the builder's FP16 flag, run once without the other trials.",
        "Error: the largest difference over the largest reference value. µs: one execution in a CUDA graph, the median",
        "of 11 measurements of 100 launches each (the shapes are small: launches count, not bandwidth). Where V2's",
        "border types differ from the model's, the network has Casts beside the plugin, and the time is that of all.",
    ]
    return lines


def _cells(case: Mapping[str, Any] | None) -> list[str]:
    if case is None:
        return ["–", "", "", ""]
    if not case["run"].get("ok"):
        return ["**wrong**", "", "", ""]
    error = case["comparison"]["relative"]
    verdict = "**wrong**" if case["comparison"]["wrong"] else "equal" if error == 0 else "within tolerance"
    if case["problems"] and not case["comparison"]["wrong"]:
        verdict += ", **but see below**"
    return [
        verdict,
        "0" if error == 0 else f"{error:.1e}",
        f"{case['build']['seconds']:.2f}" if "seconds" in case["build"] else "",
        f"{case['run']['microseconds']:.1f}" if "microseconds" in case["run"] else "",
    ]


def _memory(results: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| | rounds | host bytes a round, largest | host bytes a round, median | device bytes in all, largest |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for result in results:
        for what in ("contexts", "engines"):
            soaks = [c["run"][what] for c in result["cases"] if what in c["run"]]
            if soaks:
                host = sorted(s["host_bytes"] / s["measured_rounds"] for s in soaks)
                device = max(s["device_bytes"] for s in soaks)
                lines.append(
                    f"| {_title(result)}: {what} | {len(soaks)} × {soaks[0]['rounds']} | {host[-1]:.1f} "
                    f"| {host[len(host) // 2]:.1f} | {device} |"
                )
    lines += [
        "",
        "Counted after a warm-up, in the half of the rounds that left less: bytes of the heap in use, and those of the",
        "device.",
    ]
    return lines


def _sanitizers(results: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [f"- {_title(r)}, {s['tool']}: {s['summary']}" for r in results for s in r["sanitizers"]]
    return lines or ["Not run."]


def _wrong(result: Mapping[str, Any]) -> list[str]:
    lines = [f"- {c['id']}: {one_line('; '.join(c['problems']))}" for c in result["cases"] if c["problems"]]
    lines += [
        f"- {f['operator']} {f['precision']} {f['interface']}: not generated: {f['message']}"
        for f in result["not_generated"]
    ]
    return lines


def main(arguments: Sequence[str]) -> int:
    """Writes the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--note", action="append", default=[], help="a line about what went wrong")
    options = parser.parse_args(arguments)
    page = render([json.loads(path.read_text()) for path in options.results], options.note)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = options.out.with_name(f".{options.out.name}.tmp")
    temporary.write_text(page)
    temporary.replace(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
