"""`--precision fp16`: one library for float32 and float16, that a real builder takes between tensors of either."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from plugin_autogen.cli import onnx_to_plugin_main
from plugin_autogen.engine.build import build_engine
from tests.models import FLOAT, INT32, model, node

SHAPES = "--specialize --minShapes=x:1x8 --optShapes=x:2x8 --maxShapes=x:4x8"


def _model(path: Path) -> Path:
    nodes = [node("Mish", "x", "y", "float"), node("BitwiseNot", "i", "j", "integer")]
    inputs = {"x": (FLOAT, [4, 8]), "i": (INT32, [4])}
    onnx.save(model(nodes, inputs, {"y": (FLOAT, [4, 8]), "j": (INT32, [4])}, opset=18), path)
    return path


def _generated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str
) -> tuple[Path, dict[str, dict[str, object]], str, str]:
    """The rewritten model, the plugins by the operator they stand for, the next command, and the warnings."""
    output = tmp_path / "out.onnx"
    options = f"-n float integer --library both --arch sm_80 --json {more}"
    code = onnx_to_plugin_main(f"-i {_model(tmp_path / 'in.onnx')} -o {output} {options}".split())
    captured = capsys.readouterr()
    assert code == 0, captured.err
    result = json.loads(captured.out)
    return output, {p["operators"][0]: p for p in result["plugins"]}, result["command"], "\n".join(result["warnings"])


def test_a_real_builder_takes_either_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, plugins, _, warnings = _generated(tmp_path, capsys, "--tensorrt rtx --precision fp16")
    mish, bits = plugins["Mish"], plugins["BitwiseNot"]
    assert (mish["precision"], bits["precision"], bits["narrow_check"]) == ("float16", None, None)
    assert isinstance(mish["narrow_check"], dict) and mish["narrow_check"]["relative"] < 1e-2
    assert 'plugin "tpat_integer" (BitwiseNot) has no float32 at its border' in warnings
    assert "TensorRT-RTX 1.7 leaves types as the model has them" in warnings
    library = [tmp_path / "plugins" / "lib" / "both.so"]
    assert len(build_engine(output, None, library).plugins) == 2
    proto = onnx.load(output)
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(proto, output)
    assert len(build_engine(output, None, library).plugins) == 2


def test_trtexec_is_told_that_it_may_choose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, plugins, command, warnings = _generated(tmp_path, capsys, f"--tensorrt 8 --precision fp16 {SHAPES}")
    assert plugins["Mish"]["precision"] == "float16"
    assert (plugins["Mish"]["optimum"], plugins["BitwiseNot"]["optimum"]) == ([2], None)
    assert "--fp16" in command
    assert "leaves types" not in warnings


def test_tensorrt_8_has_no_bfloat16(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = onnx_to_plugin_main(
        f"-i {_model(tmp_path / 'in.onnx')} -o {tmp_path}/out.onnx -n float --tensorrt 8 --precision bf16".split()
    )
    assert code == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: --precision: plugins of TensorRT 8.2 to 8.6 cannot have bfloat16 at their borders: choose fp16"
    ]
    assert not (tmp_path / "out.onnx").exists()
