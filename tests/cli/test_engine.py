"""`plugin_autogen build`, `compare` and `bench` as far as a machine without a GPU goes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from plugin_autogen.cli import main, onnx_to_plugin_main
from plugin_autogen.engine.build import libraries_of
from plugin_autogen.graph.rewrite import LIBRARIES_KEY
from tests.models import FLOAT, model, node


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with m.onnx, of a plugin-to-be and a node of TensorRT's, and what was generated from it."""
    folder = tmp_path_factory.mktemp("generated")
    nodes = [node("Softmax", "x", "a", "soft"), node("Relu", "a", "y", "relu")]
    onnx.save(model(nodes, {"x": (FLOAT, ["n", 50])}, {"y": (FLOAT, ["n", 50])}), folder / "m.onnx")
    arguments = ["-i", str(folder / "m.onnx"), "-o", str(folder / "out.onnx"), "-n", "soft", "--tensorrt", "rtx"]
    assert onnx_to_plugin_main([*arguments, "--arch", "sm_80", "--check", "off"]) == 0
    return folder


@pytest.fixture
def folder(generated: Path, tmp_path: Path) -> Path:
    """A copy of it elsewhere: what the model names must lie where the model does."""
    shutil.copytree(generated, tmp_path / "copy")
    return tmp_path / "copy"


def _fails(arguments: Sequence[object], capsys: pytest.CaptureFixture[str], *words: str) -> None:
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line, line
    assert not captured.out


def _rename_libraries(path: Path, text: str) -> None:
    proto = onnx.load(path)
    (entry,) = (e for e in proto.metadata_props if e.key == LIBRARIES_KEY)
    entry.value = text
    onnx.save(proto, path)


def test_the_model_names_its_libraries(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert libraries_of(folder / "out.onnx") == [folder / "plugins" / "lib" / "tpat_soft.so"]
    assert libraries_of(folder / "m.onnx") == []
    capsys.readouterr()
    shapes = ["--minShapes", "x:0x50", "--optShapes=x:4x50", "--maxShapes=x:9x50"]
    extras = [
        "--workspace",
        "64M",
        "--tacticSources",
        "none",
        "--timingCacheFile",
        str(folder / "timing"),
        "--stronglyTyped",
    ]
    arguments = ["build", "-i", str(folder / "out.onnx"), "-o", str(folder / "e.engine"), "--json", *shapes, *extras]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    (plugin,) = report["plugins"]
    assert plugin["library"] == str(folder / "plugins" / "lib" / "tpat_soft.so")
    assert report["layers"] == 2
    assert (folder / "e.engine").stat().st_size == report["bytes"]
    assert (folder / "timing").stat().st_size > 0


def test_libraries_that_are_given_count_instead(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.move(folder / "plugins" / "lib", folder.parent / "elsewhere")
    _fails(
        ["build", "-i", folder / "out.onnx"],
        capsys,
        "plugin library plugins/lib/tpat_soft.so is not beside it",
        "--plugins",
    )
    library = folder.parent / "elsewhere" / "tpat_soft.so"
    for option in (["--plugins", str(library)], [f"--staticPlugins={library}"]):
        assert main(["build", "-i", str(folder / "out.onnx"), *option]) == 0
    assert "tpat_soft.so" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["../elsewhere/x.so", "/tmp/x.so", "plugins/../../x.so"])
def test_a_model_cannot_name_libraries_elsewhere(place: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _rename_libraries(folder / "out.onnx", json.dumps([place]))
    _fails(["build", "-i", folder / "out.onnx"], capsys, "lies outside the model's folder", "--plugins")


def test_a_link_cannot_lead_elsewhere(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = folder / "plugins" / "lib" / "tpat_soft.so"
    shutil.move(library, folder.parent / "soft.so")
    library.symlink_to(folder.parent / "soft.so")
    _fails(["build", "-i", folder / "out.onnx"], capsys, "lies outside the model's folder", "--plugins")


def test_metadata_that_is_broken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("[", "7"):
        _rename_libraries(folder / "out.onnx", text)
        _fails(["build", "-i", folder / "out.onnx"], capsys, "metadata", "is broken")


def test_precisions_that_the_installed_release_lacks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = folder / "e.engine"
    _fails(
        ["build", "-i", folder / "out.onnx", "-o", target, "--precision", "fp16"],
        capsys,
        "TensorRT-RTX 1.7",
        "convert the model to float16",
    )
    assert not target.exists()
    np.savez(folder / "set.npz", x=np.ones((1, 50), np.float32))
    calibrated = ["--precision", "int8", "--inputs", folder / "set.npz", "--calib", folder / "c"]
    _fails(["build", "-i", folder / "out.onnx", *calibrated], capsys, "quantize the model")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "--precision", "fp4"], "invalid choice: 'fp4'"),
        (["build", "--workspace", "much"], "'much' is not a number of bytes such as 512M or 1G"),
        (["build", "--workspace", "0"], "is not a number of bytes"),
        (["build", "--precision", "fp16", "--stronglyTyped"], "give one of them"),
        (["build", "--calib", "c"], "calibration is for --precision int8"),
        (["build", "--inputs", "a.npz", "--data_loader", "d.py"], "both name the inputs"),
        (["build", "--precision", "int8", "--inputs", "none.npz"], "no such file of inputs: none.npz"),
        (["build", "--precision", "int8", "--data_loader", "none.py:load"], "no such file of inputs: none.py"),
        (["build", "--hardwareCompatibilityLevel", "hopper+"], "invalid choice: 'hopper+'"),
        (["build", "--timingCacheFile", "nowhere/t"], "no such folder: nowhere"),
        (["build", "--optShapes", "x:1y"], "is no shape"),
        (["build", "--builder", "tensorrt"], "TensorRT is not installed"),
        (["compare"], "required: --original"),
        (["compare", "--original", "none.onnx"], "no such model: none.onnx"),
        (["compare", "--original", "m.onnx", "--rtol", "-1"], "'-1' is not a number from 0 up"),
        (["compare", "--original", "m.onnx", "--atol", "nan"], "'nan' is not a number from 0 up"),
        (["compare", "--original", "m.onnx", "--sets", "0"], "'0' is not a positive number"),
        (["compare", "--original", "m.onnx", "--shapes", "x"], "--shapes: 'x' is no shape"),
        (["compare", "--original", "m.onnx", "-e", "none.engine"], "no such engine: none.engine"),
        (["compare", "--original", "m.onnx"], "no NVIDIA GPU found here, and comparing runs the engine"),
        (["bench", "--original", "m.onnx"], "no NVIDIA GPU found here, and measuring runs the engine"),
        (["bench", "--duration", "long"], "'long' is not a number from 0 up"),
    ],
)
def test_arguments_that_make_no_sense(
    arguments: list[str],
    words: str,
    generated: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(generated)
    monkeypatch.setattr("plugin_autogen.build.architectures._from_driver", list)
    monkeypatch.setattr("plugin_autogen.build.architectures._from_nvidia_smi", list)
    files = sorted(generated.iterdir())
    command, *rest = arguments
    _fails([command, "-i", "out.onnx", *rest], capsys, words)
    assert sorted(generated.iterdir()) == files


def test_comparing_needs_the_original_to_run_in_onnx_runtime(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a GPU is said to be, the worker goes as far as the engine, which it cannot load without one."""
    monkeypatch.setattr("plugin_autogen.engine.compare.require_gpu", lambda what: None)
    _fails(["compare", "-i", folder / "out.onnx", "--original", folder / "m.onnx"], capsys, "TensorRT-RTX")
