"""Types of command-line arguments that several commands take."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plugin_autogen.graph.shapes import ShapeRange


def positive(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def not_negative(text: str) -> float:
    """A number from 0 up."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 up")
    return value


def size(text: str) -> int:
    """Bytes: `1073741824`, `512M` or `1G`."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    number, unit = (text[:-1], units[text[-1]]) if text and text[-1] in units else (text, 1)
    if not number.isdecimal() or not 0 < int(number) * unit < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes such as 512M or 1G")
    return int(number) * unit


def tensor_ranges(arguments: argparse.Namespace) -> dict[str, ShapeRange]:
    """What `--minShapes`, `--optShapes` and `--maxShapes` say. Raises `SelectionError`."""
    from plugin_autogen.graph.shapes import parse_shapes, shape_ranges

    given = [
        {} if text is None else parse_shapes(text, option)
        for option, text in (
            ("--minShapes", arguments.minShapes),
            ("--optShapes", arguments.optShapes),
            ("--maxShapes", arguments.maxShapes),
        )
    ]
    return shape_ranges(*given)
