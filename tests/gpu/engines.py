"""`plugin_autogen build`, `compare` and `bench` on a GPU, under the TensorRT or TensorRT-RTX that is installed there.

    python -m tests.gpu.engines prepare --tensorrt 8.6 --out .gpu/engines    # where plugin_autogen is installed
    python -m tests.gpu.engines run --in .gpu/engines [-- --tacticSources …] # on the GPU machine

`prepare` makes models and their plugins: a Conv and a Relu around a GridSample (for TensorRT-RTX a GridSample and a
Softmax, plugins both), and for TensorRT RapidOCR's recognition model, quantized. `run` needs neither TVM nor a
compiler; it prints each command with its output, and its exit code is 1 when one does not end as it must. What stands
behind `--` goes to every command.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "quantized_ocr"
SHAPES = (
    "--minShapes=x:1x64x128x128,grid:1x128x128x2",
    "--optShapes=x:8x64x128x128,grid:8x128x128x2",
    "--maxShapes=x:8x64x128x128,grid:8x128x128x2",
)


def load_data() -> object:
    """Four sets of inputs of the sampling model, to calibrate int8 with."""
    rng = np.random.default_rng(0)
    for _ in range(4):
        yield {
            "x": rng.random((8, 64, 128, 128), np.float32),
            "grid": rng.random((8, 128, 128, 2), np.float32),
        }


def write_sampling_model(path: Path, plugins_alone: bool) -> None:
    """Conv, GridSample and Relu; or GridSample and Softmax, which become plugins both."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def value(name: str, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    weights = np.random.default_rng(0).standard_normal((64, 64, 3, 3)).astype(np.float32) / 24
    conv = helper.make_node("Conv", ["x", "w"], ["a"], name="conv", pads=[1] * 4)
    relu = helper.make_node("Relu", ["b"], ["y"], name="relu")
    softmax = helper.make_node("Softmax", ["b"], ["y"], name="softmax", axis=-1)
    source = "x" if plugins_alone else "a"
    sample = helper.make_node("GridSample", [source, "grid"], ["b"], name="sample", mode="bilinear")
    graph = helper.make_graph(
        [sample, softmax] if plugins_alone else [conv, sample, relu],
        "sampling",
        [value("x", "n", 64, 128, 128), value("grid", "n", 128, 128, 2)],
        [value("y", "n", 64, 128, 128)],
        [] if plugins_alone else [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def prepare(folder: Path, release: str, arch: str) -> None:
    """Writes `sampling/` and, for TensorRT, `recognition/`: model.onnx, model_tpat.onnx, plugins."""
    from plugin_autogen import api
    from plugin_autogen.graph.shapes import ShapeRanges, parse_shapes, shape_ranges

    sampling = folder / "sampling"
    sampling.mkdir(parents=True)
    write_sampling_model(sampling / "model.onnx", release == "rtx")
    given = [parse_shapes(option.partition("=")[2], option) for option in SHAPES]
    api.generate(
        sampling / "model.onnx",
        sampling / "model_tpat.onnx",
        node_types=["GridSample", "Softmax"] if release == "rtx" else ["GridSample"],
        tensorrt=release,
        architectures=[arch],
        shapes=ShapeRanges(shape_ranges(*given)),
    )
    if release != "rtx":
        sys.path.insert(0, str(EXAMPLE))
        import prepare as example

        _, quantized = example.prepare(folder / "recognition")
        quantized.rename(quantized.with_name("model.onnx"))
        api.generate(
            folder / "recognition" / "model.onnx",
            folder / "recognition" / "model_tpat.onnx",
            auto=True,
            tensorrt=release,
            architectures=[arch],
            library="ocr_plugins",
            check="off",
        )
    (folder / "trial.json").write_text(json.dumps({"tensorrt": release, "arch": arch}) + "\n")


def commands(release: str) -> list[tuple[str, int, list[str]]]:
    """(folder, exit code, arguments): what is run, in this order. Lines of Python stand for themselves."""
    model = ["-i", "model_tpat.onnx"]
    original = [*model, "--original", "model.onnx"]
    engine = [*original, "-e", "model.engine"]
    timing = ["--timingCacheFile", "timing"]
    found: list[tuple[str, int, list[str]]] = [
        ("sampling", 0, ["build", *model, "-o", "model.engine", *SHAPES, "--workspace", "1G", *timing]),
        ("sampling", 0, ["compare", *engine, "--sets", "2"]),
        ("sampling", 0, ["compare", *original, *SHAPES, *timing, "--first-differing-node"]),
        ("sampling", 0, ["bench", *engine, *SHAPES, *timing, "--duration", "1"]),
        ("sampling", 0, ["bench", *engine, *SHAPES, *timing, "--duration", "1", "--useCudaGraph"]),
    ]
    if release == "rtx":
        return [*found[:4], ("sampling", 1, ["build", *model, *SHAPES, "--precision", "fp16"])]
    data = str(Path(__file__).resolve())
    int8 = ["--precision", "int8", "fp16", "--data_loader", data, "--calib", "calibration"]
    pictures = ["--data_loader", str(EXAMPLE / "pictures.py")]
    return [
        *found,
        ("sampling", 0, ["compare", *original, *SHAPES, *timing, "--precision", "fp16"]),
        ("sampling", 0, ["build", *model, "-o", "int8.engine", *SHAPES, *timing, *int8]),
        ("sampling", 0, ["compare", *original, "-e", "int8.engine", "--precision", "int8", "--data_loader", data]),
        ("recognition", 0, ["build", *model, "-o", "model.engine", *timing]),
        ("recognition", 0, ["compare", *engine, *pictures, "--save_outputs", "outputs", "--atol", "0.05"]),
        ("recognition", 0, [str(EXAMPLE / "pictures.py"), "model.onnx", "outputs"]),
        ("recognition", 0, ["bench", *engine, "--duration", "1"]),
        ("recognition", 0, ["compare", *engine, *timing, *pictures, "--atol", "0.05", "--first-differing-node"]),
    ]


def run(folder: Path, more: Sequence[str]) -> int:
    """Runs the commands and prints them; the number of those that did not end as they must."""
    trial = json.loads((folder / "trial.json").read_text())
    wrong = 0
    for place, expected, arguments in commands(trial["tensorrt"]):
        script = arguments[0].endswith(".py")
        command = [sys.executable, *([] if script else ["-m", "plugin_autogen"]), *arguments, *([] if script else more)]
        start = time.monotonic()
        done = subprocess.run(command, cwd=folder / place, capture_output=True, text=True, check=False)
        shown = ["python", *arguments] if script else ["plugin_autogen", *arguments, *more]
        print(f"{place}$ {shlex.join(shown)}")
        print("\n".join(f"    {line.rstrip()}" for line in (done.stdout + done.stderr).splitlines() if line.strip()))
        verdict = "" if done.returncode == expected else f", which should be {expected}"
        print(f"exit code {done.returncode}{verdict}, {time.monotonic() - start:.1f} s\n", flush=True)
        wrong += done.returncode != expected
    return wrong


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    making = steps.add_parser("prepare")
    making.add_argument("--out", type=Path, required=True)
    making.add_argument("--tensorrt", default="8.6", help="8.5 …, or rtx (default: 8.6)")
    making.add_argument("--arch", default="sm_90", help="GPU of the trial (default: sm_90)")
    running = steps.add_parser("run")
    running.add_argument("--in", type=Path, required=True, dest="folder")
    running.add_argument("more", nargs="*", help="behind --: for every command")
    options = parser.parse_args(arguments)
    if options.step == "prepare":
        prepare(options.out, options.tensorrt, options.arch)
        return 0
    return 1 if run(options.folder.resolve(), options.more) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
