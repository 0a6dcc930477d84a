"""Element types at the borders, from the command line to the builder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from plugin_autogen.cli import main, onnx_to_plugin_main
from tests.models import BOOL, DOUBLE, FLOAT, FLOAT16, INT64, UINT8, model, node

BFLOAT16, FLOAT8 = onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT8E4M3FN
SHAPE = [8, 33]


def _run(proto: onnx.ModelProto, release: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> dict:
    onnx.save(proto, folder / "m.onnx")
    options = f"-i {folder}/m.onnx -o {folder}/out.onnx -n n --tensorrt {release} --arch sm_90 --json".split()
    assert onnx_to_plugin_main(options) == 0, capsys.readouterr().err
    result: dict = json.loads(capsys.readouterr().out)
    if release == "rtx":
        assert main(["build", "-i", f"{folder}/out.onnx", "--plugins", f"{folder}/plugins/lib"]) == 0
    return result


def _one(operator: str, source: int, target: int | None = None, **attributes: int) -> onnx.ModelProto:
    inputs = "x x" if operator in ("And", "Mul") else "x"
    return model(
        [node(operator, inputs, "y", "n", **attributes)],
        {"x": (source, SHAPE)},
        {"y": (source if target is None else target, SHAPE)},
        opset=19,
        ir_version=9,
    )


@pytest.mark.parametrize(
    ("proto", "border"),
    [
        (_one("Softmax", FLOAT), ("float32", "float32")),
        (_one("Softmax", FLOAT16), ("float16", "float16")),
        (_one("Softmax", BFLOAT16), ("bfloat16", "bfloat16")),
        (_one("Neg", INT64), ("int64", "int64")),
        (_one("And", BOOL), ("bool", "bool")),
        (_one("Cast", FLOAT, FLOAT8, to=FLOAT8), ("float32", "float8_e4m3fn")),
        (_one("Mul", DOUBLE), ("float32", "float32")),
        (_one("Identity", UINT8), ("int32", "int32")),
    ],
    ids=["float32", "float16", "bfloat16", "int64", "bool", "float8", "double", "uint8"],
)
def test_v3_borders(
    proto: onnx.ModelProto, border: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = _run(proto, "rtx", tmp_path, capsys)
    plugin = result["plugins"][0]
    assert (*plugin["input_types"], *plugin["output_types"]) == border
    assert plugin["check"] is not None
    narrowed = "float64" in str(result["warnings"])
    assert narrowed == (proto.graph.input[0].type.tensor_type.elem_type == DOUBLE)


@pytest.mark.parametrize(("dtype", "operator"), [(INT64, "Neg"), (BOOL, "And")])
def test_v2_has_neither_int64_nor_bool(
    dtype: int, operator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = _run(_one(operator, dtype), "8", tmp_path, capsys)
    assert result["plugins"][0]["input_types"] == ["int32"]
    rewritten = onnx.load(tmp_path / "out.onnx")
    assert [n.op_type for n in rewritten.graph.node].count("Cast") == 2
    assert ("2^31" in str(result["warnings"])) == (dtype == INT64)


def test_uint8_travels_as_the_same_bits_between_two_plugins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proto = model(
        [node("DynamicQuantizeLinear", "x", "q s z", "a"), node("MatMulInteger", "q w z", "y", "b")],
        {"x": (FLOAT, [4, 8])},
        {"y": (onnx.TensorProto.INT32, [4, 3]), "s": (FLOAT, [])},
        {"w": np.arange(24, dtype=np.uint8).reshape(8, 3)},
    )
    onnx.save(proto, tmp_path / "m.onnx")
    options = f"-i {tmp_path}/m.onnx -o {tmp_path}/out.onnx -n a b --tensorrt rtx --arch sm_90 --json".split()
    assert onnx_to_plugin_main(options) == 0
    first, second = json.loads(capsys.readouterr().out)["plugins"]
    assert first["output_types"] == ["int8", "float32", "int8"]
    assert second["input_types"] == ["int8", "int8"]
    assert second["kernels"] == 1, "the bits need no conversion"
    assert not [n for n in onnx.load(tmp_path / "out.onnx").graph.node if n.op_type == "Cast"]
