"""Sources that are compiled elsewhere: what the oldest GPU of a release lacks is not in them."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from plugin_autogen.cli import onnx_to_plugin_main
from tests.models import model, node

HALF = onnx.TensorProto.FLOAT16


@pytest.mark.parametrize(("release", "tensor_cores"), [("8", False), ("rtx", True)])
def test_sources_for_jetson_nano_hold_no_tensor_cores(release: str, tensor_cores: bool, tmp_path: Path) -> None:
    proto = model(
        [node("MatMul", "a b", "y", "product")],
        {"a": (HALF, [64, 64]), "b": (HALF, [64, 64])},
        {"y": (HALF, [64, 64])},
    )
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    arguments = ["-i", str(path), "-o", str(tmp_path / "out.onnx"), "-n", "product", "--tensorrt", release]
    assert onnx_to_plugin_main([*arguments, "--arch", "sm_90", "--check", "off"]) in (0, None)
    source = "".join(p.read_text() for p in (tmp_path / "plugins" / "src" / "tpat_product").glob("kernels.cu*"))
    assert ("wmma" in source) == tensor_cores
