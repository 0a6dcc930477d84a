"""The trial of the engine commands, as far as a machine without a GPU goes."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from plugin_autogen.cli import main
from tests.gpu import engines


def test_the_models_can_be_read(tmp_path: Path) -> None:
    for plugins_alone, operators in ((False, ["Conv", "GridSample", "Relu"]), (True, ["GridSample", "Softmax"])):
        engines.write_sampling_model(tmp_path / "m.onnx", plugins_alone)
        proto = onnx.load(tmp_path / "m.onnx")
        onnx.checker.check_model(proto, full_check=True)
        assert [node.op_type for node in proto.graph.node] == operators


@pytest.mark.parametrize("release", ["8.6", "rtx"])
def test_the_commands_are_ones_that_exist(
    release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each gets past its arguments, to the first thing that is missing here."""
    monkeypatch.chdir(tmp_path)
    for _, _, arguments in engines.commands(release):
        if not arguments[0].endswith(".py"):
            assert main(arguments) == 1
            assert capsys.readouterr().err == "error: no such model: model_tpat.onnx\n"


def test_a_command_that_fails_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sampling").mkdir()
    (tmp_path / "trial.json").write_text(json.dumps({"tensorrt": "rtx"}))
    # All fail for want of a model; the last one is meant to.
    assert engines.run(tmp_path, ["--json"]) == 4
    out = capsys.readouterr().out
    assert out.count("exit code 1, which should be 0") == 4
    assert out.count("error: no such model") == 5
    assert "sampling$ plugin_autogen build -i model_tpat.onnx -o model.engine" in out
