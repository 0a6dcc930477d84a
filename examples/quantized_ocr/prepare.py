"""Makes the example's models from RapidOCR's text recognition model, which lies in a wheel of the package index.

    python examples/quantized_ocr/prepare.py DIR

writes `DIR/recognition.onnx` (float, static shapes, 1x3x48x320) and `DIR/recognition_int8.onnx`: the same after
`onnxruntime.quantization.quantize_dynamic`, with 47 DynamicQuantizeLinear, 38 ConvInteger and 9 MatMulInteger nodes,
which no TensorRT imports.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "rapidocr-onnxruntime==1.4.4"
RECOGNITION = "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"
DETECTION = "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"


def fetch(member: str, folder: Path) -> Path:
    """A model of RapidOCR's wheel, downloaded with pip; only this file of the wheel is used, nothing is installed."""
    target = folder / Path(member).name
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, WHEEL]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            os.replace(wheel.extract(member, scratch), target)
    return target


def make_static(source: Path, target: Path, shape: list[int]) -> None:
    """Fixes the shape of the model's only input."""
    import onnx
    from onnxruntime.tools.onnx_model_utils import fix_output_shapes, make_input_shape_fixed

    model = onnx.load(source)
    make_input_shape_fixed(model.graph, model.graph.input[0].name, shape)
    fix_output_shapes(model)
    onnx.save(model, target)


def quantize(source: Path, target: Path) -> None:
    """Dynamic quantization as ONNX Runtime documents it: pre-processing first, then eight-bit weights."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        # The shapes are fixed: symbolic inference, which needs sympy, would find nothing more.
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_dynamic(prepared, target, per_channel=True, weight_type=QuantType.QUInt8)


def prepare(folder: Path) -> tuple[Path, Path]:
    """The float and the quantized recognition model."""
    folder = folder.resolve()
    floating, quantized = folder / "recognition.onnx", folder / "recognition_int8.onnx"
    if not quantized.exists():
        make_static(fetch(RECOGNITION, folder), floating, [1, 3, 48, 320])
        quantize(floating, quantized)
    return floating, quantized


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    for path in prepare(parser.parse_args().folder):
        print(path)
