"""examples/cpp against a TensorRT that runs on the host: the old interface, the one with names, and the registry's."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "cpp"
HOST_TENSORRT = Path(__file__).parent / "host_tensorrt"

Program = Callable[..., "subprocess.CompletedProcess[str]"]


def compile_for(release: str, *arguments: str) -> None:
    major, minor = release.split(".")
    command = ["g++", "-std=c++14", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{HOST_TENSORRT}"]
    command += [f"-DNV_TENSORRT_MAJOR={major}", f"-DNV_TENSORRT_MINOR={minor}", str(EXAMPLE / "run_engine.cpp")]
    subprocess.run([*command, *arguments], check=True)


@pytest.mark.parametrize("release", ["8.5", "8.6", "11.1"])
def test_it_compiles_for_the_releases_between(release: str) -> None:
    compile_for(release, "-fsyntax-only")


@pytest.fixture(scope="module", params=["8.2", "10.3"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The example for a release, which says whether it leaves memory behind."""
    folder = tmp_path_factory.mktemp("cpp")
    compile_for(request.param, "-fsanitize=address", "-o", str(folder / "run_engine"), "-ldl")
    empty = folder / "empty.cpp"
    empty.write_text("")
    subprocess.run(["g++", "-shared", "-fPIC", str(empty), "-o", str(folder / "plugin.so")], check=True)
    (folder / "m.engine").write_text("doubles")
    np.arange(6, dtype=np.float32).tofile(folder / "x.bin")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(folder / "run_engine"), *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True)

    return run


def test_an_engine_runs(program: Program, tmp_path: Path) -> None:
    done = program(
        "m.engine", "--plugin=plugin.so", "--shape=x:2x3", "--input=x:x.bin", f"--output=y:{tmp_path / 'y.bin'}"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("input  x 2x3\noutput y 2x3\ntook ") and done.stderr == "on the host\n"
    assert np.fromfile(tmp_path / "y.bin", np.float32).tolist() == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: run_engine ENGINE"),
        (["m.engine", "--shape=x:2x3", "--input=x:nothing.bin"], "cannot read nothing.bin"),
        (["m.engine", "--shape=x:4x3", "--input=x:x.bin"], "x needs 48 bytes, not 24"),
        (["m.engine", "--shape=x:2x4"], "x takes no shape 2x4"),
        (["m.engine", "--shape=z:2x3"], "z takes no shape 2x3"),
        (["m.engine", "--input=x:x.bin"], "a dimension is still open"),
        (["m.engine", "--shape=x"], "write NAME:VALUE instead of x"),
        (["x.bin"], "x.bin is no engine for this GPU and TensorRT"),
        (["m.engine", "--plugin=x.bin"], "x.bin"),
        (["m.engine", "--fast"], "unknown argument --fast"),
    ],
)
def test_what_is_wrong_is_one_line(program: Program, arguments: list[str], message: str) -> None:
    done = program(*arguments)
    lines = [line for line in done.stderr.splitlines() if line != "on the host"]
    assert done.returncode == 1 and len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ") and message in lines[0]


def test_cmake_builds_it(tmp_path: Path) -> None:
    """Against libraries that are found in the folders named."""
    for folder, library in (("tensorrt/lib", "nvinfer"), ("cuda/lib64", "cudart")):
        (tmp_path / folder).mkdir(parents=True)
        path = tmp_path / folder / f"lib{library}.so"
        subprocess.run(["g++", "-shared", "-x", "c++", "/dev/null", "-o", str(path)], check=True)
    for home in ("tensorrt", "cuda"):
        (tmp_path / home / "include").symlink_to(HOST_TENSORRT)
    homes = [f"-DTENSORRT_HOME={tmp_path / 'tensorrt'}", f"-DCUDA_HOME={tmp_path / 'cuda'}"]
    release = "-DCMAKE_CXX_FLAGS=-O0 -DNV_TENSORRT_MAJOR=10 -DNV_TENSORRT_MINOR=13"
    subprocess.run(["cmake", "-S", str(EXAMPLE), "-B", str(tmp_path / "build"), *homes, release], check=True)
    subprocess.run(["cmake", "--build", str(tmp_path / "build")], check=True)
    assert (tmp_path / "build" / "run_engine").is_file()
