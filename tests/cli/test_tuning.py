"""The options of tuning, on a machine without a GPU."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from plugin_autogen.cli import onnx_to_plugin_main
from tests.models import FLOAT, model, node


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    path = tmp_path / "in.onnx"
    onnx.save(model([node("Mish", "x", "y", "node")], {"x": (FLOAT, [4])}, {"y": (FLOAT, [4])}, opset=18), path)
    return ["-i", str(path), "-o", str(tmp_path / "out.onnx"), "-n", "node", "--check", "off"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tune"], "no NVIDIA GPU here"),
        (["--tune", "0"], "not a positive number"),
        (["--tuning_db", "{folder}/none"], "does not exist: tune with --tune"),
        (["--rpc_key", "board"], "give --tune too"),
        (["--tune", "--rpc_key", "board"], "both --rpc_tracker and --rpc_key"),
        (["--tune", "--rpc_tracker", "host", "--rpc_key", "board"], "takes HOST:PORT, not 'host'"),
        (["--tune", "--rpc_tracker", "127.0.0.1:9", "--rpc_key", "board"], "no tracker answers"),
    ],
)
def test_what_cannot_be_tuned_ends_in_one_line(
    options: list[str], message: str, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert onnx_to_plugin_main([*arguments, *(option.format(folder=tmp_path) for option in options)]) != 0
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "out.onnx").exists() and not (tmp_path / "plugins").exists()
