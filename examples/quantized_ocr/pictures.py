"""Three pictures of text for `plugin_autogen compare`, and what the model reads in them on both sides.

    plugin_autogen compare -i work/recognition_tpat.onnx --original work/recognition_int8.onnx \\
        --data_loader examples/quantized_ocr/pictures.py --save_outputs work/outputs
    python examples/quantized_ocr/pictures.py work/recognition_int8.onnx work/outputs

The second command prints the texts, and fails where one of the six is not the one in its picture.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

from reading import alphabet, decode, load_line  # noqa: E402

TEXTS = {"line.png": "Custom plugins 8.6", "line_2.png": "Engine 2026", "line_3.png": "quick brown fox"}


def load_data() -> Iterator[dict[str, np.ndarray]]:
    """The model's input for each picture."""
    for name in TEXTS:
        yield {"x": load_line(FOLDER / name)}


def texts(model: Path, outputs: Path) -> list[tuple[str, str, str, str]]:
    """(picture, its text, what ONNX Runtime read, what the engine read) for what `compare --save_outputs` wrote."""
    characters = alphabet(model)

    def read(number: int, side: str) -> str:
        with np.load(outputs / f"{number}.{side}.npz") as arrays:
            (probabilities,) = arrays.values()
        return decode(probabilities, characters)

    return [(name, text, read(i, "reference"), read(i, "engine")) for i, (name, text) in enumerate(TEXTS.items())]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="the model, whose metadata holds its alphabet")
    parser.add_argument("outputs", type=Path, help="what compare --save_outputs wrote")
    options = parser.parse_args()
    found = texts(options.model, options.outputs)
    for name, _, theirs, ours in found:
        print(f"{name:12}ONNX Runtime {theirs!r:22}TensorRT {ours!r}")
    return 0 if all(text == theirs == ours for _, text, theirs, ours in found) else 1


if __name__ == "__main__":
    sys.exit(main())
