"""Dynamic shapes through the command line: plugins for ranges of shapes, and engines with a profile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from plugin_autogen import onnx2plugin
from plugin_autogen.cli import main, onnx_to_plugin_main
from plugin_autogen.graph.shapes import ShapeRange, profile_options
from tests.dynamic_cases import CASES, model_of
from tests.models import FLOAT, model, node


def _grid_sample(batch: int | str = 1, height: int | str = 16) -> onnx.ModelProto:
    return model(
        [node("GridSample", "x grid", "s", "sample"), node("Relu", "s", "y", "relu")],
        {"x": (FLOAT, [batch, 3, height, 16]), "grid": (FLOAT, [batch, 8, 8, 2])},
        {"y": (FLOAT, [batch, 3, 8, 8])},
    )


def _generate(proto: onnx.ModelProto, folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> Any:
    onnx.save(proto, folder / "model.onnx")
    arguments = f"-i {folder}/model.onnx -o {folder}/out.onnx --tensorrt rtx --arch sm_90 --json".split()
    code = onnx_to_plugin_main([*arguments, *options])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def _dimensions(path: Path) -> list[list[int | str]]:
    inputs = onnx.load(path).graph.input
    return [[d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in inputs]


def test_a_fixed_batch_becomes_dynamic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch = ["-dynamic", "true", "-min", "1", "-max", "512", "-opt", "256"]
    result = _generate(_grid_sample(), tmp_path, capsys, "-n", "sample", *batch)
    assert _dimensions(tmp_path / "out.onnx") == [["batch", 3, 16, 16], ["batch", 8, 8, 2]]
    assert result["command"][-3:] == [
        "--minShapes=x:1x3x16x16,grid:1x8x8x2",
        "--optShapes=x:256x3x16x16,grid:256x8x8x2",
        "--maxShapes=x:512x3x16x16,grid:512x8x8x2",
    ]
    assert result["plugins"][0]["check"]["reference"] == "ONNX Runtime"
    # The command that is printed is the one that works.
    code = main([*result["command"][1:], "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert json.loads(captured.out)["plugins"][0]["layers"]


def test_ranges_as_trtexec_spells_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = ["--minShapes=x:1x3x8x16,grid:1x8x8x2", "--maxShapes=x:4x3x64x16,grid:4x8x8x2"]
    result = _generate(_grid_sample(), tmp_path, capsys, "-n", "sample", *shapes)
    assert result["command"][-3:] == [shapes[0], shapes[1].replace("max", "opt"), shapes[1]]
    code = main([*result["command"][1:], "--json"])
    assert code == 0, capsys.readouterr().err


def test_own_dynamic_axes_need_no_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = _generate(_grid_sample("n", "h"), tmp_path, capsys, "-n", "sample")
    assert _dimensions(tmp_path / "out.onnx")[0] == ["n", 3, "h", 16]
    assert not [word for word in result["command"] if "Shapes" in word]
    assert [w for w in result["warnings"] if "--minShapes" in w and '"x"' in w]
    profile = [
        "--minShapes=x:1x3x4x16,grid:1x8x8x2",
        "--optShapes=x:2x3x32x16,grid:2x8x8x2",
        "--maxShapes=x:8x3x99x16,grid:8x8x8x2",
    ]
    code = main(["build", "-i", f"{tmp_path}/out.onnx", "--plugins", f"{tmp_path}/plugins/lib", "--json", *profile])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert json.loads(captured.out)["plugins"][0]["layers"]


def test_a_profile_that_the_builder_refuses_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(model([node("Relu", "x", "y", "n")], {"x": (FLOAT, ["n"])}, {"y": (FLOAT, ["n"])}), tmp_path / "m.onnx")
    code = main(f"build -i {tmp_path}/m.onnx --minShapes=x:4 --optShapes=x:2 --maxShapes=x:8".split())
    captured = capsys.readouterr()
    assert code == 1
    assert captured.err.count("\n") == 1 and "not in the order min, opt, max" in captured.err


def test_tpats_function_takes_a_batch(tmp_path: Path) -> None:
    weight = np.ones((16, 4), np.float32)
    proto = model([node("MatMul", "x w", "y", "n")], {"x": (FLOAT, [2, 16])}, {"y": (FLOAT, [2, 4])}, {"w": weight})
    onnx.save(proto, tmp_path / "model.onnx")
    names = onnx2plugin(
        tmp_path / "model.onnx", tmp_path / "out.onnx", node_names=["n"], dynamic_bs=True, min_bs=1, max_bs=64, opt_bs=8
    )
    assert names == ["tpat_n"]
    assert _dimensions(tmp_path / "out.onnx") == [["batch", 16]]


@pytest.mark.parametrize("name", ["Add", "Resize_linear", "TopK_symbolic_axis", "Slice_backwards"])
def test_the_builder_takes_a_profile_of_many_shapes(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    result = _generate(model_of(case), tmp_path, capsys, "-n", "n")
    assert result["plugins"][0]["check"]["reference"] == "ONNX Runtime"
    least = case.fit(dict.fromkeys(case.symbols, 1), np.random.default_rng(0))

    def at(size: int, shape: Sequence[int | str]) -> tuple[int, ...]:
        return tuple(d if isinstance(d, int) else max(least[d], size) for d in shape)

    ranges = {name: ShapeRange(at(1, shape), at(8, shape), at(20, shape)) for name, (_, shape) in case.inputs.items()}
    options = [f"{tmp_path}/out.onnx", "--plugins", f"{tmp_path}/plugins/lib", "--json", *profile_options(ranges)]
    code = main(["build", "-i", *options])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert json.loads(captured.out)["plugins"][0]["layers"]
