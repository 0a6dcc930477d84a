"""What is written for a board builds there with make or CMake; here, as far as this machine's compilers go."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from plugin_autogen import generate
from plugin_autogen.build import targets
from plugin_autogen.cli import main, onnx_to_plugin_main
from plugin_autogen.engine.build import build_engine
from plugin_autogen.errors import ToolchainError
from plugin_autogen.graph.shapes import parse_shapes
from tests.boards import bundles
from tests.models import FLOAT, model, node

USUAL = {
    "jetson-nano": ("8.2", (10, 2), "53"),
    "jetson-tx2": ("8.2", (10, 2), "62"),
    "jetson-xavier": ("8.5", (11, 4), "72"),
    "jetson-orin": ("10.3", (12, 6), "87"),
    "jetson-thor": ("10.13", (13, 0), "110"),
}
"""TensorRT, CUDA and GPU of each board with its usual JetPack."""


@pytest.mark.parametrize("name", USUAL)
def test_every_board_gets_a_bundle_whose_host_part_compiles(name: str, tmp_path: Path) -> None:
    result = bundles.bundle(name, tmp_path)
    tensorrt, cuda, architecture = USUAL[name]
    assert (targets.target(name).tensorrt, targets.target(name).cuda) == (tensorrt, cuda)
    assert result.release == tensorrt.split(".")[0] and result.libraries == ()
    assert not (tmp_path / "plugins" / "lib").exists()
    folder = bundles.library_folder(result)
    assert f"ARCHITECTURES ?= {architecture}\n" in (folder / "Makefile").read_text()
    assert f'set(ARCHITECTURES "{architecture}" CACHE' in (folder / "CMakeLists.txt").read_text()
    if name in ("jetson-nano", "jetson-thor"):  # one of each interface; .ci/run compiles for all five
        objects = bundles.compile_host_part(folder, "g++")
        assert len(objects) == 4  # library.cpp, two plugin.cpp, one constants.S
    assert result.command[0] == targets.TRTEXEC and f"{folder}/build/tpat_plugins.so" in result.command[-1]


def test_make_and_cmake_build_the_library(tmp_path: Path) -> None:
    """In a folder with a blank in its name, as a user may copy it to."""
    result = bundles.bundle("jetson-orin", tmp_path / "copied here")
    folder = bundles.library_folder(result)
    by_cmake = bundles.cmake(folder, tmp_path / "cmake build")
    by_make = bundles.make(folder)
    assert bundles.exports(by_make) == bundles.exports(by_cmake) == ["getCreators", "setLoggerFinder"]
    shapes = parse_shapes("x:16x5", "--optShapes")
    profile = {name: (shape, shape, shape) for name, shape in shapes.items()}
    report = build_engine(result.model, None, [by_make], profile=profile)
    assert {use.op_type for use in report.plugins} == {"tpat_softmax", "tpat_scale"}


def test_every_release_of_every_board_is_known() -> None:
    from plugin_autogen import releases
    from plugin_autogen.build.architectures import NAMES

    everything = targets.targets()
    assert {t.name for t in everything} == set(USUAL) and set(USUAL) <= set(NAMES)
    for target in everything:
        assert releases.release(target.tensorrt).version is not None
        assert targets.target(f"{target.name}:{target.jetpack}") == target
    data = json.loads((Path(targets.__file__).parent / "targets.json").read_text())
    assert set(data["sources"]) == set(data["jetpack"]) == {t.jetpack for t in everything}


@pytest.mark.parametrize("value", ["jetson-nano2", "jetson-nano:5.1", "", "orin; rm -rf /"])
def test_unknown_target_lists_those_that_are_known(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert onnx_to_plugin_main(["-i", "a.onnx", "-o", "b.onnx", "--target", value]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "jetson-nano, jetson-tx2, jetson-xavier[:4.6.1], jetson-orin[" in error


def test_help_lists_the_boards(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        onnx_to_plugin_main(["--help"])
    text = "".join(capsys.readouterr().out.split())
    assert all(name in text for name in USUAL)


def test_inspect_goes_by_the_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(bundles.small_model(), tmp_path / "m.onnx")
    assert main(["inspect", "-i", str(tmp_path / "m.onnx"), "--target", "jetson-nano", "--json"]) == 0
    assert "8.2" in json.loads(capsys.readouterr().out)["judge"]


def test_what_was_asked_for_comes_before_the_target(tmp_path: Path) -> None:
    onnx.save(bundles.small_model(), tmp_path / "m.onnx")
    result = generate(
        tmp_path / "m.onnx",
        tmp_path / "out.onnx",
        node_names=["softmax"],
        target="jetson-orin",
        tensorrt="8.5",
        architectures=["sm_72", "jetson-orin"],
        library="mine",
        check="off",
    )
    assert result.release == "8" and result.build_commands == (("make", "-C", str(tmp_path / "plugins/src/mine")),)
    assert "ARCHITECTURES ?= 72 87\n" in (tmp_path / "plugins/src/mine/Makefile").read_text()


def test_sources_alone_leave_the_architectures_to_the_compiler_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And need no compiler here."""
    onnx.save(bundles.small_model(), tmp_path / "m.onnx")
    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = ["-i", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "out.onnx"), "-n", "softmax", "--check", "off"]
    assert onnx_to_plugin_main([*arguments, "--source_only", "--tensorrt", "10"]) == 0
    folder = tmp_path / "plugins" / "src" / "tpat_plugins"
    assert f"make -C {folder}" in capsys.readouterr().out
    text = (folder / "Makefile").read_text()
    assert "--list-gpu-code" in text and "$$1 >= 75" in text
    monkeypatch.undo()
    listed = subprocess.run(
        ["make", "-n", "build/tpat_softmax-kernels.cu.o"], cwd=folder, capture_output=True, text=True
    )
    assert "-gencode arch=compute_75,code=sm_75" in listed.stdout and listed.returncode == 0


@pytest.mark.parametrize("narrow", [onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT8E4M3FN])
def test_sources_for_cuda_10_include_no_newer_header(narrow: int, tmp_path: Path) -> None:
    """bfloat16 came with CUDA 11.0, float8 with 11.8: where the board is older, integers carry them."""
    nodes = [node("Cast", "x", "n", "narrow", to=narrow), node("Cast", "n", "y", "widen", to=FLOAT)]
    proto = model(nodes, {"x": (FLOAT, [8])}, {"y": (FLOAT, [8])}, opset=19, ir_version=9)
    onnx.save(proto, tmp_path / "m.onnx")
    names = {"narrow,widen": "tpat_round"}
    generate(tmp_path / "m.onnx", tmp_path / "out.onnx", plugin_names=names, target="jetson-nano", check="off")
    text = (tmp_path / "plugins" / "src" / "tpat_round" / "kernels.cuh").read_text()
    # cuda/std is for NVRTC, which has no headers of its own.
    found = {header for header in re.findall(r"#\s*include\s*<([^>]*)>", text) if not header.startswith("cuda/std/")}
    assert found <= bundles.HEADERS_OF_CUDA_10_2, found


def test_an_old_board_and_a_new_compiler(tmp_path: Path) -> None:
    onnx.save(bundles.small_model(), tmp_path / "m.onnx")
    with pytest.raises(ToolchainError, match=r"does not know sm_53.*--source_only"):
        generate(tmp_path / "m.onnx", tmp_path / "out.onnx", node_names=["softmax"], architectures=["sm_53"])


def test_openblas_is_told_the_core_before_numpy_is_there() -> None:
    """Asked in a process of its own, whose machine is said to be a board's."""
    code = (
        "import os, sys, types\n"
        "os.uname = lambda: types.SimpleNamespace(machine=sys.argv[1])\n"
        "from plugin_autogen import cli\n"
        "print(cli._guarded(lambda: print(os.environ.get('OPENBLAS_CORETYPE'), 'numpy' in sys.modules) or 0))\n"
    )

    def run(machine: str, **environment: str) -> str:
        command = [sys.executable, "-c", code, machine]
        clean = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
        return subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=True).stdout

    assert run("aarch64") == "ARMV8 False\n0\n"
    assert run("aarch64", OPENBLAS_CORETYPE="CORTEXA57") == "CORTEXA57 False\n0\n"
    assert run("x86_64") == "None False\n0\n"
