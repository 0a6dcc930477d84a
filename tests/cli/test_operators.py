"""From ONNX to a TensorRT-RTX engine through the command line, numbers checked, for each operator of the acceptance."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from plugin_autogen.cli import main, onnx_to_plugin_main
from tests.acceptance_cases import CASES


@pytest.mark.parametrize("operator", CASES)
def test_operator_becomes_a_plugin_that_the_builder_takes(
    operator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(CASES[operator](), tmp_path / "model.onnx")
    options = f"-i {tmp_path}/model.onnx -o {tmp_path}/out.onnx --tensorrt rtx --arch sm_90 --json".split()
    code = onnx_to_plugin_main([*options, "-p", '{"n": "tpat_case"}'])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    plugin = json.loads(captured.out)["plugins"][0]
    assert plugin["name"] == "tpat_case"
    assert plugin["operators"] == [operator]
    assert plugin["check"]["reference"] == "ONNX Runtime"

    code = main(
        f"build -i {tmp_path}/out.onnx -o {tmp_path}/out.engine --plugins {tmp_path}/plugins/lib --json".split()
    )
    captured = capsys.readouterr()
    assert code == 0, captured.err
    report = json.loads(captured.out)
    assert [use["op_type"] for use in report["plugins"]] == ["tpat_case"]
    assert report["plugins"][0]["layers"], "no layer of the network is the plugin"
    assert (tmp_path / "out.engine").stat().st_size > 0
