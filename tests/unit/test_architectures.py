"""`--arch` values become code for the right GPUs, each exactly once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin_autogen.build import architectures
from plugin_autogen.build.architectures import Architectures, resolve
from plugin_autogen.build.toolchain import Toolchain
from plugin_autogen.errors import ToolchainError

CUDA_13_0 = (75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121)
CUDA_12_8 = (50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90, 100, 101, 120)
CUDA_10_2 = (30, 32, 35, 37, 50, 52, 53, 60, 61, 62, 70, 72, 75)


def _toolchain(version: tuple[int, int], known: tuple[int, ...]) -> Toolchain:
    path = Path("nvcc")
    return Toolchain(path, version, "", "PATH", path, "", (path,), path, known)


NVCC_13 = _toolchain((13, 0), CUDA_13_0)
NVCC_12 = _toolchain((12, 8), CUDA_12_8)
NVCC_10 = _toolchain((10, 2), CUDA_10_2)


def _codes(options: list[str]) -> dict[str, list[str]]:
    """Front end -> codes, out of nvcc's options."""
    result = {}
    for flag, value in zip(options[::2], options[1::2], strict=True):
        assert flag == "-gencode"
        match = re.fullmatch(r"arch=(compute_\d+),code=\[([a-z0-9_,]+)\]", value)
        assert match, value
        result[match[1]] = match[2].split(",")
    assert len(result) == len(options) // 2
    return result


@pytest.mark.parametrize(
    ("value", "real", "virtual"),
    [
        ("sm_90", (90,), ()),
        ("SM_90", (90,), ()),
        ("90", (90,), ()),
        ("9.0", (90,), ()),
        ("12.1", (121,), ()),
        ("compute_90", (), (90,)),
        ("jetson-orin", (87,), ()),
        ("Jetson Orin", (87,), ()),
        ("jetson_thor", (110,), ()),
        ("ampere", (80, 86, 87), ()),
        ("blackwell", (100, 103, 110, 120, 121), ()),
        ("l4", (89,), ()),
    ],
)
def test_values(value: str, real: tuple[int, ...], virtual: tuple[int, ...]) -> None:
    assert resolve([value], NVCC_13) == Architectures(real, virtual)


def test_thor_has_another_number_in_older_compilers() -> None:
    assert resolve(["jetson-thor"], NVCC_12) == Architectures((101,))


def test_several_values_join() -> None:
    assert resolve(["sm_90", "ampere", "90", "compute_90"], NVCC_13) == Architectures((80, 86, 87, 90), (90,))


@pytest.mark.parametrize(
    ("toolchain", "real", "ptx"),
    [
        (NVCC_13, CUDA_13_0, 100),
        (NVCC_12, (75, 80, 86, 87, 89, 90, 100, 101, 120), 100),
        (NVCC_10, (75,), 75),
    ],
)
def test_default_is_all_from_turing_up_and_ptx(toolchain: Toolchain, real: tuple[int, ...], ptx: int) -> None:
    assert resolve([], toolchain) == resolve(["all"], toolchain) == Architectures(real, (ptx,))


def test_a_generation_shares_a_front_end() -> None:
    assert _codes(resolve([], NVCC_13).gencode()) == {
        "compute_75": ["sm_75"],
        "compute_80": ["sm_80", "sm_86", "sm_87", "sm_88", "sm_89"],
        "compute_90": ["sm_90"],
        "compute_100": ["sm_100", "sm_103", "sm_110", "sm_120", "sm_121", "compute_100"],
    }


def test_fp8_conversions_need_their_own_front_end() -> None:
    codes = _codes(resolve([], NVCC_13).gencode(fp8=True))
    assert codes["compute_80"] == ["sm_80", "sm_86", "sm_87", "sm_88"]
    assert codes["compute_89"] == ["sm_89"]


def test_a_single_gpu_gets_its_own_front_end() -> None:
    assert _codes(resolve(["sm_86"], NVCC_13).gencode()) == {"compute_86": ["sm_86"]}


@given(
    real=st.sets(st.sampled_from(CUDA_12_8)),
    virtual=st.sets(st.sampled_from(CUDA_12_8)),
    fp8=st.booleans(),
)
def test_each_code_once_and_from_no_newer_front_end(real: set[int], virtual: set[int], fp8: bool) -> None:
    chosen = Architectures(tuple(sorted(real)), tuple(sorted(virtual)))
    codes = _codes(chosen.gencode(fp8))
    made = [code for names in codes.values() for code in names]
    assert sorted(made) == sorted([*(f"sm_{n}" for n in real), *(f"compute_{n}" for n in virtual)])
    for front_end, names in codes.items():
        start = int(front_end.removeprefix("compute_"))
        assert start in CUDA_12_8
        for name in names:
            kind, number = name.split("_")
            assert start <= int(number)
            # PTX in the library must be the front end's own.
            assert kind == "sm" or start == int(number)


@pytest.mark.parametrize(
    ("value", "toolchain", "words"),
    [
        ("sm_72", NVCC_13, ("nvcc 13.0", "sm_72", "sm_75 to sm_121", "on the board with its own CUDA 10.2 to 12")),
        ("jetson-xavier", NVCC_13, ("jetson-xavier (sm_72)", "on the board")),
        ("volta", NVCC_13, ("volta (sm_70, sm_72)", "sm_75 to sm_121")),
        ("sm_130", NVCC_13, ("sm_130", "a newer CUDA compiler", "compute_121")),
        ("sm_85", NVCC_13, ("sm_85", "choose one of sm_75, sm_80")),
        ("hopper", NVCC_10, ("nvcc 10.2", "hopper (sm_90)", "a newer CUDA compiler")),
        ("sm_90a", NVCC_13, ("write sm_90",)),
        ("jetson-orrin", NVCC_13, ("did you mean jetson-orin",)),
        ("", NVCC_13, ("--arch", "write sm_90")),
        ("x" * 10_000, NVCC_13, ("write sm_90",)),
        ("sm_90\n;rm", NVCC_13, ("write sm_90",)),
        ("९०", NVCC_13, ("write sm_90",)),
    ],
)
def test_what_cannot_be_says_what_can(value: str, toolchain: Toolchain, words: tuple[str, ...]) -> None:
    with pytest.raises(ToolchainError) as caught:
        resolve([value], toolchain)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 400
    for word in words:
        assert word in text


def test_every_name_is_known_to_some_compiler() -> None:
    known = {*CUDA_13_0, *CUDA_12_8}
    for name, numbers in {**architectures.NAMES, **architectures.FAMILIES}.items():
        assert set(numbers) <= known, name
        assert resolve([name], NVCC_12 if set(numbers) & set(CUDA_12_8) else NVCC_13).real


def test_native_asks_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "_from_driver", lambda: [90, 80, 90])
    assert resolve(["native"], NVCC_13) == Architectures((80, 90))


def test_native_falls_back_to_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf '8.7\\n12.1\\n'\n")
    program.chmod(0o755)
    monkeypatch.setattr(architectures, "_from_driver", list)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert resolve(["native"], NVCC_13) == Architectures((87, 121))


def test_native_without_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(architectures, "_from_driver", list)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match="no NVIDIA GPU found here; name the GPU"):
        resolve(["native"], NVCC_13)


def test_native_gpu_that_the_compiler_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "_from_driver", lambda: [72])
    with pytest.raises(ToolchainError, match=r"this machine's GPU, sm_72"):
        resolve(["native"], NVCC_13)
