"""Compilers and headers are found where users have them, and what is missing ends in a line that says what to do."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from plugin_autogen import resources
from plugin_autogen.build import toolchain
from plugin_autogen.errors import ToolchainError
from plugin_autogen.releases import release


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CUDA_HOME", "CUDA_PATH", "CXX", "TENSORRT_HOME"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def hide_nvcc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Leaves a PATH with nothing but the host compiler on it, and no toolkit; `wheels=False` hides the wheels too."""

    def hide(wheels: bool = True) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in ("g++", "gcc", "sh", "as", "ld"):
            found = shutil.which(name)
            if found:
                (folder / name).symlink_to(found)
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setattr(toolchain, "STANDARD_HOME", tmp_path / "none")
        if not wheels:
            monkeypatch.setattr(toolchain, "_wheel_compilers", list)
        return folder

    return hide


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_what_is_found_is_complete() -> None:
    found = toolchain.find_toolchain()
    assert found.version >= (10, 2)
    assert found.title == f"nvcc {found.version[0]}.{found.version[1]}"
    assert found.cudart_static.name == "libcudart_static.a"
    assert any((folder / "cuda_runtime_api.h").is_file() for folder in found.include_dirs)
    assert 80 in found.architectures
    assert list(found.architectures) == sorted(found.architectures)


def test_wheels_serve_where_no_toolkit_is_installed(hide_nvcc: Callable[..., Path]) -> None:
    hide_nvcc()
    found = toolchain.find_toolchain()
    assert found.origin == "wheels"
    assert found.nvcc.parts[-4:-2] == ("nvidia", f"cu{found.version[0]}")
    assert found.cudart_static.parent.name == "lib"


def test_cuda_home_comes_first(hide_nvcc: Callable[..., Path]) -> None:
    hide_nvcc()
    home = toolchain.find_toolchain().nvcc.parent.parent
    found = toolchain.find_toolchain(home)
    assert (found.origin, found.nvcc) == ("--cuda_home", home / "bin" / "nvcc")


def test_variables_come_before_path(hide_nvcc: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    hide_nvcc()
    home = toolchain.find_toolchain().nvcc.parent.parent
    monkeypatch.setenv("CUDA_HOME", "/nowhere/cuda")
    monkeypatch.setenv("CUDA_PATH", str(home))
    found = toolchain.find_toolchain()
    assert found.origin == "CUDA_PATH"
    assert found.notes == ("CUDA_HOME=/nowhere/cuda: no nvcc there",)


def test_cuda_home_without_nvcc(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"^--cuda_home .*: no executable nvcc there"):
        toolchain.find_toolchain(tmp_path)


def test_no_compiler_at_all(hide_nvcc: Callable[..., Path]) -> None:
    hide_nvcc(wheels=False)
    with pytest.raises(ToolchainError) as caught:
        toolchain.find_toolchain()
    text = str(caught.value)
    assert "\n" not in text
    assert 'pip install "plugin_autogen[nvcc]"' in text
    assert "--cuda_home" in text


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("exit 3", "--version fails"),
        ("echo something else", "does not tell its release"),
        ('echo "Cuda compilation tools, release 9.2, V9.2.148"', "older than the 10.2"),
    ],
)
def test_unusable_nvcc_on_path_is_passed_over(hide_nvcc: Callable[..., Path], script: str, cause: str) -> None:
    folder = hide_nvcc()
    _program(folder / "nvcc", script)
    found = toolchain.find_toolchain()
    assert found.origin == "wheels"
    assert len(found.notes) == 1
    assert found.notes[0].startswith("PATH: ") and cause in found.notes[0]


def test_unusable_nvcc_that_the_user_named_is_an_error(tmp_path: Path) -> None:
    _program(tmp_path / "bin" / "nvcc", "exit 3")
    with pytest.raises(ToolchainError, match="--version fails"):
        toolchain.find_toolchain(tmp_path)


def test_incomplete_wheels_name_the_missing_one(hide_nvcc: Callable[..., Path], tmp_path: Path) -> None:
    hide_nvcc()
    home = toolchain.find_toolchain().nvcc.parent.parent
    copy = tmp_path / "cuda"
    shutil.copytree(home / "bin", copy / "bin")
    (copy / "nvvm").symlink_to(home / "nvvm")
    with pytest.raises(ToolchainError, match="nvidia-cuda-runtime"):
        toolchain.find_toolchain(copy)
    (copy / "include").symlink_to(home / "include")
    with pytest.raises(ToolchainError, match=r"libcudart_static\.a"):
        toolchain.find_toolchain(copy)
    (copy / "lib").symlink_to(home / "lib")
    assert toolchain.find_toolchain(copy).version[0] >= 13


def test_no_host_compiler(hide_nvcc: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(hide_nvcc().parent))
    with pytest.raises(ToolchainError, match=r"no C\+\+ compiler found: install g\+\+"):
        toolchain.find_toolchain()


def test_host_compiler_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ToolchainError, match=r"^CXX=no-such-compiler is no executable"):
        toolchain.find_toolchain()
    named = shutil.which("g++")
    assert named is not None
    monkeypatch.setenv("CXX", named)
    assert toolchain.find_toolchain().host_compiler == Path(named)


# TensorRT's headers


def _headers(folder: Path, major: str, minor: str = "1", indirect: bool = False) -> Path:
    folder.mkdir(parents=True)
    (folder / "NvInfer.h").write_text("// TensorRT\n")
    values = {"MAJOR": major, "MINOR": minor, "PATCH": "0"}
    lines = []
    for part, value in values.items():
        if indirect:  # as TensorRT 10.13 and newer write it
            lines.append(f"#define TRT_{part}_ENTERPRISE {value}")
            value = f"TRT_{part}_ENTERPRISE"
        lines.append(f"#define NV_TENSORRT_{part} {value} //!< TensorRT {part.lower()} version.")
    (folder / "NvInferVersion.h").write_text("\n".join(lines))
    return folder


@pytest.fixture
def no_system_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT's headers in the system's folders, where there are any, are not what these tests are about."""
    monkeypatch.setattr(toolchain, "SYSTEM_INCLUDE_DIRS", ())


@pytest.mark.usefixtures("no_system_headers")
@pytest.mark.parametrize("key", ["8", "10", "11", "rtx"])
def test_ours_where_there_are_none(key: str) -> None:
    headers = toolchain.find_tensorrt_headers(release(key))
    assert not headers.official
    assert headers.include_dir == resources.interface_include()
    assert (headers.include_dir / "nvinfer_interface.h").is_file()
    assert headers.note == ""


@pytest.mark.usefixtures("no_system_headers")
@pytest.mark.parametrize(
    ("key", "major", "indirect", "fits"),
    [
        ("8", "8", False, True),
        ("8", "10", False, False),
        ("10", "10", False, True),
        ("10", "8", False, False),
        ("11", "10", True, True),
        ("rtx", "11", True, True),
    ],
)
def test_installed_headers_serve_if_they_fit(
    key: str, major: str, indirect: bool, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _headers(tmp_path / "include", major, "6", indirect)
    monkeypatch.setenv("TENSORRT_HOME", str(tmp_path))
    headers = toolchain.find_tensorrt_headers(release(key))
    if fits:
        assert (headers.include_dir, headers.version, headers.note) == (folder, (int(major), 6, 0), "")
    else:
        assert not headers.official
        assert f"its headers are TensorRT {major}.6.0" in headers.note
    # The folder that the user names must fit.
    if fits:
        assert toolchain.find_tensorrt_headers(release(key), tmp_path).include_dir == folder
    else:
        with pytest.raises(ToolchainError, match=rf"^--tensorrt_home .*TensorRT {major}\.6\.0"):
            toolchain.find_tensorrt_headers(release(key), tmp_path)


def test_tensorrt_home_without_headers(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"no NvInfer\.h there"):
        toolchain.find_tensorrt_headers(release("10"), tmp_path)


@pytest.mark.usefixtures("no_system_headers")
def test_headers_of_tensorrt_rtx_give_way_to_ours(tmp_path: Path) -> None:
    _headers(tmp_path / "include", "1", "7")
    headers = toolchain.find_tensorrt_headers(release("rtx"), tmp_path)
    assert not headers.official
    assert "TensorRT-RTX 1.7.0" in headers.note


def test_headers_in_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _headers(tmp_path / f"{os.uname().machine}-linux-gnu", "10")
    monkeypatch.setattr(toolchain, "SYSTEM_INCLUDE_DIRS", (str(tmp_path), str(folder)))
    assert toolchain.find_tensorrt_headers(release("10")).include_dir == folder
