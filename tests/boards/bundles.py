"""Source bundles as they are written for boards, and what of them this machine can compile."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from plugin_autogen import GenerationResult, generate
from plugin_autogen.build.toolchain import find_toolchain
from tests.models import FLOAT, FLOAT16, model, node

HEADERS_OF_CUDA_10_2 = frozenset({"cstdint", "type_traits", "cuda.h", "cuda_fp16.h", "math_constants.h"})
"""What generated device code may include on the oldest boards."""

STRICT = "-O0 -Wall -Wextra -pedantic -Werror"
"""Flags for compilers that only judge."""


def small_model() -> onnx.ModelProto:
    """Two plugins: a reduction over a dynamic dimension, and one in float16 with a constant."""
    return model(
        [node("Softmax", "x", "y", "softmax", axis=1), node("Mul", "a weights", "b", "scale")],
        {"x": (FLOAT, [16, "n"]), "a": (FLOAT16, [16, 6])},
        {"y": (FLOAT, [16, "n"]), "b": (FLOAT16, [16, 6])},
        {"weights": np.linspace(-1, 1, 16, dtype=np.float16).reshape(16, 1)},
    )


def bundle(target: str, folder: Path) -> GenerationResult:
    """Generates the small model's plugins for a board, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(small_model(), folder / "model.onnx")
    return generate(
        folder / "model.onnx",
        folder / "model_tpat.onnx",
        node_names=["softmax", "scale"],
        target=target,
        source_only=True,
        check="off",
    )


def library_folder(result: GenerationResult) -> Path:
    """The folder of the bundle's project."""
    (command,) = result.build_commands
    return Path(command[-1])


def compile_host_part(folder: Path, compiler: str) -> list[Path]:
    """Compiles all that needs no nvcc, warnings being errors, and returns the objects.

    The path of CUDA's headers is given because another machine's compiler does not know ours.
    """
    (cuda,) = find_toolchain().include_dirs[:1]
    run(["make", "clean", "host", f"CXX={compiler}", f"CXXFLAGS={STRICT}", f"CUDA_INCLUDE_DIR={cuda}"], folder)
    return sorted((folder / "build").glob("*.o"))


def machine_of(object_file: Path) -> int:
    """The machine of an ELF file: 62 for x86-64, 183 for aarch64."""
    return int.from_bytes(object_file.read_bytes()[18:20], "little")


def make(folder: Path, *arguments: str) -> Path:
    """Builds the library with make."""
    toolchain = find_toolchain()
    library = f"LIBRARY_PATH={toolchain.cudart_static.parent}"
    run(["make", f"NVCC={toolchain.nvcc}", *arguments], folder, library)
    return folder / "build" / f"{folder.name}.so"


def cmake(folder: Path, build: Path, *arguments: str) -> Path:
    """Builds the library with CMake."""
    toolchain = find_toolchain()
    library = f"LIBRARY_PATH={toolchain.cudart_static.parent}"
    command = ["cmake", "-S", str(folder), "-B", str(build), f"-DCMAKE_CUDA_COMPILER={toolchain.nvcc}"]
    run([*command, *arguments], folder, library)
    run(["cmake", "--build", str(build)], folder, library)
    return build / f"{folder.name}.so"


def exports(library: Path) -> list[str]:
    """Names of the functions that a library shows."""
    text = run(["nm", "-D", "--defined-only", str(library)], library.parent)
    return sorted(re.findall(r" T (\w+)", text))


def run(command: Sequence[str], folder: Path, *variables: str) -> str:
    """Runs a command and returns what it prints; its failure is an assertion that shows the end of its output."""
    environment = {**os.environ, "LC_ALL": "C", **dict(variable.split("=", 1) for variable in variables)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout
