"""Generated device code through the run-time compiler of an old CUDA release, which has the front end of its nvcc.

NVRTC has no headers of the host's. What the code includes of them is given as text, and `__CUDACC_RTC__`, by which the
code asks for libcu++ instead (which CUDA 10.2 lacks), is renamed, so that it reads what nvcc reads.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx

from plugin_autogen import generate
from plugin_autogen.build.toolchain import find_toolchain
from plugin_autogen.errors import PluginAutogenError

CSTDINT = b"""
typedef signed char int8_t; typedef short int16_t; typedef int int32_t; typedef long long int64_t;
typedef unsigned char uint8_t; typedef unsigned short uint16_t; typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
"""
TYPE_TRAITS = b"""
namespace std {
template <bool V> struct constant { static constexpr bool value = V; };
template <class A, class B> struct is_same : constant<false> {};
template <class A> struct is_same<A, A> : constant<true> {};
template <bool C, class T = void> struct enable_if {};
template <class T> struct enable_if<true, T> { typedef T type; };
template <bool C, class A, class B> struct conditional { typedef A type; };
template <class A, class B> struct conditional<false, A, B> { typedef B type; };
}
"""


class Nvrtc:
    """A run-time compiler.

    Args:
        library: libnvrtc.so of any release; its libnvrtc-builtins must be on the loader's path.
        headers: folder of that release's cuda_fp16.h.
    """

    def __init__(self, library: Path, headers: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._headers = headers
        math = find_toolchain().include_dirs[0] / "math_constants.h"  # numbers, the same in every release
        self._files = {
            b"cstdint": CSTDINT,
            b"type_traits": TYPE_TRAITS,
            b"cuda.h": b"",
            b"math_constants.h": math.read_bytes(),
        }

    @property
    def release(self) -> str:
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        return f"{major.value}.{minor.value}"

    def errors(self, source: str, architecture: int) -> str:
        """The compiler's errors as C++14 for this compute capability; empty when there is none."""
        program = ctypes.c_void_p()
        count = len(self._files)
        names, texts = ((ctypes.c_char_p * count)(*values) for values in (self._files, self._files.values()))
        text = source.replace("__CUDACC_RTC__", "__NOT_HERE__").encode()
        self._library.nvrtcCreateProgram(ctypes.byref(program), text, b"kernels.cu", count, texts, names)
        arguments = [f"--gpu-architecture=compute_{architecture}", "-std=c++14", f"-I{self._headers}"]
        options = (ctypes.c_char_p * len(arguments))(*(a.encode() for a in arguments))
        failed = self._library.nvrtcCompileProgram(program, len(arguments), options)
        size = ctypes.c_size_t()
        self._library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        self._library.nvrtcGetProgramLog(program, log)
        self._library.nvrtcDestroyProgram(ctypes.byref(program))
        lines = [line for line in log.value.decode(errors="replace").splitlines() if "error" in line]
        return "; ".join(lines[:3]) or f"NVRTC's error {failed}" if failed else ""


def acceptance_kernels(target: str) -> Iterator[tuple[str, str]]:
    """Name and device code of each operator of the acceptance list, as generated for a board."""
    from tests.acceptance_cases import CASES

    for name, make in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            onnx.save(make(), path / "m.onnx")
            generate(path / "m.onnx", path / "out.onnx", node_names=["n"], target=target, source_only=True, check="off")
            yield name, (path / "plugins" / "src" / "tpat_n" / "kernels.cuh").read_text()


def conformance_kernels(oldest_arch: int) -> Iterator[tuple[str, str]]:
    """Name and device code of each of ONNX's node tests that becomes a plugin, for TensorRT 8."""
    from plugin_autogen.pipeline import Check, build_plugin_plan
    from plugin_autogen.releases import release
    from tests.conformance import cases, stages

    for name in sorted(cases.node_tests()):
        case = cases.load(name)
        if case.reason is not None:
            continue
        try:
            with tempfile.TemporaryDirectory() as folder:
                (subgraph,) = stages.extract_whole(case, release("8"), Path(folder)).subgraphs
                plan, _ = build_plugin_plan(subgraph, Check.OFF, oldest_arch)
        except (PluginAutogenError, RuntimeError, ValueError):
            continue  # `python -m tests.conformance` counts these
        yield name, plan.default.source
