"""The command that is printed at the end is one that builds the engine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plugin_autogen import dtypes
from plugin_autogen.dtypes import ElementType
from plugin_autogen.pipeline import _engine_command
from plugin_autogen.releases import release


def _command(key: str, borders: list[ElementType], precision: ElementType | None = None, target: object = None) -> str:
    options: Any = SimpleNamespace(release=release(key), precision=precision, target=target)
    subgraph: Any = SimpleNamespace(
        inputs=[SimpleNamespace(border_dtype=dtypes.FLOAT32)],
        outputs=[SimpleNamespace(border_dtype=border) for border in borders],
    )
    return " ".join(_engine_command(Path("m.onnx"), [Path("a.so"), Path("b.so")], options, {}, [subgraph]))


OURS = "plugin_autogen build -i m.onnx -o m.engine --plugins a.so b.so"


@pytest.mark.parametrize(
    ("key", "borders", "precision", "expected"),
    [
        ("8", [dtypes.FLOAT32], None, "trtexec --onnx=m.onnx --saveEngine=m.engine --plugins=a.so --plugins=b.so"),
        ("8.6", [dtypes.FLOAT32, dtypes.INT8], None, OURS),
        ("8.6", [dtypes.INT8], dtypes.FLOAT16, f"{OURS} --precision fp16"),
        ("rtx", [dtypes.FLOAT32], None, OURS),
        ("rtx", [dtypes.INT8], dtypes.FLOAT16, OURS),
        (
            "10",
            [dtypes.INT8],
            None,
            "trtexec --onnx=m.onnx --saveEngine=m.engine --staticPlugins=a.so --staticPlugins=b.so",
        ),
    ],
)
def test_trtexec_where_it_can_build_the_engine(
    key: str, borders: list[ElementType], precision: ElementType | None, expected: str
) -> None:
    assert _command(key, borders, precision) == expected


def test_boards_have_trtexec_alone() -> None:
    assert "trtexec --onnx=" in _command("8", [dtypes.INT8], target="jetson-xavier")
