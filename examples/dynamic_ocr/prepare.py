"""Makes the example's models: RapidOCR's text detection and recognition with the dynamic axes that they come with.

    python examples/dynamic_ocr/prepare.py DIR

writes `DIR/detection_int8.onnx` (batch, height and width dynamic) and `DIR/recognition_int8.onnx` (batch and width),
both quantized by `onnxruntime.quantization.quantize_dynamic`.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from types import ModuleType


def _fixed_example() -> ModuleType:
    """`examples/quantized_ocr/prepare.py`, which downloads and quantizes."""
    path = Path(__file__).resolve().parents[1] / "quantized_ocr" / "prepare.py"
    spec = importlib.util.spec_from_file_location("quantized_ocr_prepare", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prepare(folder: Path) -> dict[str, Path]:
    """The quantized models by name."""
    fixed = _fixed_example()
    folder = folder.resolve()
    models = {}
    for name, member in (("detection", fixed.DETECTION), ("recognition", fixed.RECOGNITION)):
        models[name] = folder / f"{name}_int8.onnx"
        if not models[name].exists():
            fixed.quantize(fixed.fetch(member, folder), models[name])
    return models


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    for path in prepare(parser.parse_args().folder).values():
        print(path)
