"""A picture of a line of text to the model's input, and the model's output to text."""

from __future__ import annotations

from pathlib import Path

import numpy as np

HEIGHT, WIDTH = 48, 320


def load_line(path: Path) -> np.ndarray:
    """The picture as the recognition model wants it: (1, 3, 48, 320) float32, blue first, in [-1, 1], padded with 0."""
    from PIL import Image

    picture = Image.open(path).convert("RGB")
    width = min(WIDTH, picture.width * HEIGHT // picture.height)
    pixels = np.asarray(picture.resize((width, HEIGHT), Image.Resampling.BILINEAR), np.float32)[:, :, ::-1]
    line = np.zeros((1, 3, HEIGHT, WIDTH), np.float32)
    line[0, :, :, :width] = ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)
    return line


def alphabet(model: Path) -> list[str]:
    """The characters behind the model's classes, which its metadata holds; class 0 is "no character"."""
    import onnx

    metadata = {entry.key: entry.value for entry in onnx.load(model, load_external_data=False).metadata_props}
    return ["", *metadata["character"].splitlines(), " "]


def decode(probabilities: np.ndarray, characters: list[str]) -> str:
    """Greedy CTC decoding of (1, steps, classes): repeats merged, then blanks dropped."""
    best = probabilities[0].argmax(-1)
    kept = best[np.insert(best[1:] != best[:-1], 0, True)]
    return "".join(characters[i] for i in kept if i)
