"""Our kernels beside PyTorch's, on one GPU in one run.

    python -m benchmarks.kernels make DIR          anywhere: plugins of all cases for sm_90
    python -m benchmarks.kernels make DIR --tune N on a machine with that GPU: also those that tuning makes
    python -m benchmarks.kernels run DIR OUT       on a machine with that GPU and PyTorch: times in OUT/kernels.json
    python -m benchmarks.kernels report OUT        writes docs/performance.md

Every function is captured in a CUDA graph of many calls and the graph is timed: the median of 20 replays, divided by
the calls. A case whose tensors fit the L2 cache finds them there; a larger one passes the cache by itself. The floor is
the bytes that must move over the measured bandwidth of a copy of 2 GiB.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, FACTS, Case

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
LIBRARY = "bench_plugins"
TUNED = "_tuned"
_TENSORRT_TYPES = {"float32": 0, "float16": 1, "int8": 2, "int32": 3, "bool": 4, "uint8": 5, "bfloat16": 7, "int64": 8}
REPLAYS = 20
COLUMNS = ("floor", "ours", "tuned", "torch", "compile")


def make(folder: Path, architecture: str, names: Sequence[str], trials: int, jobs: int) -> None:
    """For each case a model of one node and its plugin; with trials also the plugin as tuning makes it.

    Tuning runs on the GPU here, one case after another, and keeps its records in `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(jobs) as pool:
        futures = {name: pool.submit(_make, folder, architecture, name, 0) for name in names}
        made = {name: future.result() for name, future in futures.items()}
    for name in names if trials else ():
        if not made[name]:
            _make(folder, architecture, name, trials)
    (folder / "trials.json").write_text(json.dumps(trials))
    (folder / "skipped.json").write_text(json.dumps({name: error for name, error in made.items() if error}))


def _make(folder: Path, architecture: str, name: str, trials: int) -> str:
    """One case; gives the error that stopped it, or nothing."""
    import onnx

    from plugin_autogen import generate
    from plugin_autogen.tuning import Tuning

    variant = f"{name}{TUNED}" if trials else name
    start = time.monotonic()
    onnx.save(_model(CASES[name]), folder / f"{name}.onnx")
    try:
        result = generate(
            folder / f"{name}.onnx",
            folder / f"{variant}_tpat.onnx",
            node_names=[name],
            tensorrt="rtx",
            architectures=[architecture],
            plugin_dir=folder / "plugins",
            library=f"{LIBRARY}_{variant}",
            check="off",
            tuning=Tuning(trials, folder / "tuning") if trials else None,
        )
    except Exception as error:
        print(f"{variant}: {error}", file=sys.stderr)
        return str(error) or type(error).__name__
    borders = _borders(folder / f"{variant}_tpat.onnx", name)
    borders["plugin"] = result.plugins[0].name
    (folder / f"{variant}.json").write_text(json.dumps(borders))
    print(f"{variant}: {time.monotonic() - start:.1f} s, {result.plugins[0].tuned} tuned", flush=True)
    return ""


def _model(case: Case) -> Any:
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    inputs, initializers, names = [], [], []
    changing = iter(case.inputs)
    for position in range(len(case.inputs) + len(case.constants)):
        name = f"x{position}"
        names.append(name)
        if position in case.constants:
            value = np.asarray(case.constants[position])
            if value.size == 0:
                names[-1] = ""
            else:
                initializers.append(numpy_helper.from_array(value, name))
        else:
            tensor = next(changing)
            dtype = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
            inputs.append(helper.make_tensor_value_info(name, dtype, tensor.shape))
    node = helper.make_node(case.operator, names, case.outputs, case.name, domain=case.domain, **case.attributes)
    opsets = [helper.make_opsetid("", case.opset)]
    outputs = [onnx.ValueInfoProto(name=name) for name in case.outputs]
    graph = helper.make_graph([node], case.name, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    return inferred


def _borders(path: Path, name: str) -> dict[str, Any]:
    """The plugin's inputs and outputs as (type, shape), and which graph input feeds each."""
    import onnx
    from onnx import helper

    model = onnx.load(path)
    known = {v.name: v for v in [*model.graph.input, *model.graph.output, *model.graph.value_info]}
    (node,) = (n for n in model.graph.node if n.name == name)

    def tensor(value: str) -> list[Any]:
        tensor_type = known[value].type.tensor_type
        dtype = helper.tensor_dtype_to_np_dtype(tensor_type.elem_type).name
        return [dtype, [d.dim_value for d in tensor_type.shape.dim]]

    positions = [v.name for v in model.graph.input]
    return {
        "inputs": [tensor(v) for v in node.input],
        "sources": [positions.index(v) for v in node.input],
        "outputs": [tensor(v) for v in node.output],
    }


def run(folder: Path, out: Path, names: Sequence[str], compiled: bool, seconds: float) -> None:
    """Measures what `make` left in `folder`."""
    import torch

    torch.backends.cudnn.allow_tf32 = False  # ours computes in float32
    driver = _driver(folder)
    bandwidth = _bandwidth(torch)
    results: dict[str, Any] = {}
    report = {
        "device": torch.cuda.get_device_name(),
        "driver": _nvidia_driver(),
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
        "bandwidth": bandwidth,
        "trials": json.loads((folder / "trials.json").read_text()),
        "cases": results,
    }
    skipped = json.loads((folder / "skipped.json").read_text())
    start = time.monotonic()
    for name in names:
        if time.monotonic() - start > seconds:
            break
        results[name] = (
            {"error": skipped[name]} if name in skipped else _measure(torch, driver, folder, CASES[name], compiled)
        )
        results[name]["floor"] = _moved(folder, CASES[name]) / bandwidth * 1e6
        print(name, {k: round(v, 2) if isinstance(v, float) else v for k, v in results[name].items()}, flush=True)
        (out / "kernels.json").write_text(json.dumps(report, indent=1))


def _moved(folder: Path, case: Case) -> int:
    if case.moved is not None:
        return case.moved
    path = folder / f"{case.name}.json"
    tensors = [(i.dtype, i.shape) for i in case.inputs]
    if path.exists():
        borders = json.loads(path.read_text())
        tensors += borders["outputs"]
    sizes = {"float16": 2, "bool": 1, "int8": 1, "uint8": 1, "int32": 4, "float32": 4, "int64": 8}
    return sum(math.prod(shape) * sizes[dtype] for dtype, shape in tensors)


def _measure(torch: Any, driver: Any, folder: Path, case: Case, compiled: bool) -> dict[str, Any]:
    result: dict[str, Any] = {}
    torch.manual_seed(0)
    inputs = [_random(torch, tensor) for tensor in case.inputs]
    try:
        call, outputs = _plugin(torch, driver, folder, case, case.name, inputs)
        result["ours"] = _time(torch, call)
        if (folder / f"{case.name}{TUNED}.json").exists():
            tuned, _ = _plugin(torch, driver, folder, case, f"{case.name}{TUNED}", inputs)
            result["tuned"] = _time(torch, tuned)
    except Exception as error:
        return {"error": str(error)}
    theirs = case.torch
    if theirs is not None:
        try:
            expected = theirs(*inputs)
            result["difference"] = _difference(torch, outputs, expected)
            result["torch"] = _time(torch, lambda: theirs(*inputs), case.capture)
        except Exception as error:
            result["torch_error"] = f"{type(error).__name__}: {error}"[:300]
        if compiled:
            try:
                torch._dynamo.reset()
                function = torch.compile(theirs, dynamic=False)
                result["compile"] = _time(torch, lambda: function(*inputs), case.capture)
            except Exception as error:
                result["compile_error"] = f"{type(error).__name__}: {error}"[:300]
    torch.cuda.empty_cache()
    return result


def _random(torch: Any, tensor: Any) -> Any:
    dtype = getattr(torch, tensor.dtype)
    if tensor.below:
        return torch.randint(0, tensor.below, tensor.shape, device="cuda").to(dtype)
    if dtype.is_floating_point:
        return (torch.randn(tensor.shape, device="cuda") * tensor.scale).to(dtype)
    return torch.randint(-8, 8, tensor.shape, device="cuda").to(dtype)


def _plugin(
    torch: Any, driver: Any, folder: Path, case: Case, variant: str, inputs: Sequence[Any]
) -> tuple[Callable[[], None], list[Any]]:
    borders = json.loads((folder / f"{variant}.json").read_text())
    tensors = [*borders["inputs"], *borders["outputs"]]
    dims = [d for _, shape in tensors for d in shape]
    handle = driver.plugin_open(
        str(folder / "plugins" / "lib" / f"{LIBRARY}_{variant}.so").encode(),
        borders["plugin"].encode(),
        len(borders["inputs"]),
        len(borders["outputs"]),
        (ctypes.c_int32 * len(tensors))(*(_TENSORRT_TYPES[dtype] for dtype, _ in tensors)),
        (ctypes.c_int32 * len(tensors))(*(len(shape) for _, shape in tensors)),
        (ctypes.c_int64 * max(1, len(dims)))(*dims),
    )
    if not handle:
        raise RuntimeError("the plugin refuses")
    fed = [
        inputs[i].to(getattr(torch, dtype)) for i, (dtype, _) in zip(borders["sources"], borders["inputs"], strict=True)
    ]
    outputs = [torch.empty(shape, dtype=getattr(torch, dtype), device="cuda") for dtype, shape in borders["outputs"]]
    workspace = torch.empty(max(1, driver.plugin_workspace(handle)), dtype=torch.uint8, device="cuda")
    sources = (ctypes.c_void_p * len(fed))(*(t.data_ptr() for t in fed))
    targets = (ctypes.c_void_p * len(outputs))(*(t.data_ptr() for t in outputs))

    def call() -> None:
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        status = driver.plugin_enqueue(handle, sources, targets, ctypes.c_void_p(workspace.data_ptr()), stream)
        if status != 0:
            raise RuntimeError(f"enqueue returned {status}")

    call.keep = (fed, workspace)  # type: ignore[attr-defined]
    call()
    torch.cuda.synchronize()
    return call, outputs


def _difference(torch: Any, outputs: Sequence[Any], expected: Any) -> float:
    """The largest difference of the first output, relative to its largest value."""
    first = expected[0] if isinstance(expected, (tuple, list)) else expected
    mine, theirs = outputs[0].double().reshape(-1), first.double().reshape(-1)
    return float((mine - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))


def _time(torch: Any, call: Callable[[], Any], capture: bool = True) -> float:
    """Microseconds of one call."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    once = _events(torch, call)
    calls = max(1, min(200, int(2000 / max(once, 1))))
    if not capture:
        return statistics.median(_events(torch, call) for _ in range(REPLAYS))
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            call()
    graph.replay()
    torch.cuda.synchronize()
    return statistics.median(_events(torch, graph.replay) for _ in range(REPLAYS)) / calls


def _events(torch: Any, call: Callable[[], Any]) -> float:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) * 1000


def _bandwidth(torch: Any) -> float:
    """Bytes a second of a large copy, read and written."""
    source = torch.empty(1 << 31, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / _time(torch, lambda: target.copy_(source)) * 1e6


def _driver(folder: Path) -> Any:
    """The C interface to plugins, compiled where it runs."""
    from plugin_autogen import resources

    library = folder / "driver.so"
    source = Path(__file__).with_name("plugin_driver.cpp")
    include = f"-I{resources.interface_include()}"
    command = [
        "nvcc",
        "-std=c++17",
        "-O2",
        "-shared",
        "-Xcompiler",
        "-fPIC",
        include,
        str(source),
        "-ldl",
        "-o",
        str(library),
    ]
    subprocess.run(command, check=True)
    driver = ctypes.CDLL(str(library))
    driver.plugin_open.restype = ctypes.c_void_p
    driver.plugin_workspace.restype = ctypes.c_int64
    driver.plugin_workspace.argtypes = [ctypes.c_void_p]
    driver.plugin_enqueue.argtypes = [ctypes.c_void_p] * 5
    return driver


def _nvidia_driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]


def report(out: Path) -> None:
    """Writes the page."""
    data = json.loads((out / "kernels.json").read_text())
    lines = [
        "# Performance",
        "",
        "Made by `python -m benchmarks.kernels`; do not edit. Microseconds of one call in a CUDA graph, medians; the",
        "floor: the bytes that must move over the measured copy bandwidth (tensors that fit the L2 cache can beat it).",
        "Default and tuned are the generated plugin's `enqueue`, with the schedules of our rules and with those that",
        f"`--tune {data['trials']}` found on the same GPU; the ratio is the faster of torch's over the faster of ours.",
        "",
        f"{data['device']}, driver {data['driver']}, PyTorch {data['torch']}, "
        f"{data['bandwidth'] / 1e12:.2f} TB/s, {data['date']}.",
    ]
    for title, cases in (("The nine cases", list(FACTS)), ("More", [c for c in CASES.values() if c not in FACTS])):
        found = {case.title: data["cases"][case.name] for case in cases if case.name in data["cases"]}
        lines += ["", f"## {title}", "", "| kernel | floor | default | tuned | torch | torch.compile | torch / ours |"]
        lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for name, times in found.items():
            cells = [f"{t:.1f}" if (t := times.get(kind)) else "–" for kind in COLUMNS]
            lines.append(f"| {name} | {' | '.join(cells)} | {f'{r:.2f}' if (r := _ratio(times)) else '–'} |")
        lines += ["", _mean("torch / ours", [r for times in found.values() if (r := _ratio(times))])]
        gains = [times["ours"] / times["tuned"] for times in found.values() if "tuned" in times]
        if gains:
            lines.append(_mean("default / tuned", gains))
    PAGE.write_text("\n".join(lines) + "\n")
    print(f"written: {PAGE.name}")


def _ratio(times: Mapping[str, float]) -> float | None:
    theirs = [times[kind] for kind in ("torch", "compile") if kind in times]
    ours = [times[kind] for kind in ("ours", "tuned") if kind in times]
    return min(theirs) / min(ours) if theirs and ours else None


def _mean(what: str, ratios: Sequence[float]) -> str:
    if not ratios:
        return f"No case has {what}."
    return f"Geometric mean of {what}: {statistics.geometric_mean(ratios):.2f} over {len(ratios)} cases."


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("command", choices=("make", "run", "report"))
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("out", type=Path, metavar="OUT", nargs="?")
    parser.add_argument("--arch", default="sm_90", help="GPU to compile for (default sm_90)")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES), metavar="NAME")
    parser.add_argument("--tune", type=int, default=0, metavar="TRIALS", help="make: also tuned plugins, on this GPU")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="make: cases at once (default: all CPUs)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no case after this time")
    args = parser.parse_args(arguments)
    if args.command == "make":
        make(args.folder, args.arch, args.cases, args.tune, args.jobs)
    elif args.command == "report":
        report(args.folder)
    else:
        if args.out is None:
            parser.error("run needs DIR and OUT")
        args.out.mkdir(parents=True, exist_ok=True)
        run(args.folder.resolve(), args.out.resolve(), args.cases, not args.no_compile, args.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
