"""How a V3 plugin takes the shapes that the runtime hands over: binding.h against descriptors made by hand."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from plugin_autogen import dtypes
from plugin_autogen.codegen import expr as ex
from plugin_autogen.codegen.plan import BufferRef, Copy, KernelPlan, PluginPlan, Space, TensorSpec
from plugin_autogen.codegen.render import render_library, render_plugin
from plugin_autogen.releases import RELEASES
from tests.cpu_cuda import runner

PROGRAM = """
#include "x/plugin.cpp"
extern "C" void plugin_autogen_log(int32_t, char const* message) noexcept { std::fprintf(stderr, "%s\\n", message); }
int32_t x_prepare_0() { return 0; }
int32_t x_enqueue_0(int64_t const*, void const* const*, void* const*, void*, void*, cudaStream_t) { return 0; }
int main() {
  PluginTensorDesc in[1]{}, out[2]{};
  in[0].dims = INPUT;
  out[0].dims = SCALAR;
  out[1].dims = VECTOR;
  return Plugin().onShapeChange(in, 1, out, 2) == 0 ? 0 : 1;
}
"""

# Linked, but never called: comparing shapes needs no CUDA.
CUDA = [
    *("cudaFree", "cudaGetDevice", "cudaGetErrorString", "cudaGetLastError", "cudaMalloc", "cudaMemcpyAsync"),
    *("cudaSetDevice", "cudaStreamCreateWithFlags", "cudaStreamDestroy", "cudaStreamSynchronize"),
    "cudaThreadExchangeStreamCaptureMode",
]


def scalar_and_vector() -> PluginPlan:
    """x [] -> x [], and x as [1]."""
    source = BufferRef(Space.INPUT)
    plan = KernelPlan(
        inputs=(TensorSpec("x", dtypes.FLOAT32, ()),),
        outputs=(TensorSpec("s", dtypes.FLOAT32, ()), TensorSpec("v", dtypes.FLOAT32, (ex.ONE,))),
        dimensions=(),
        constants=(),
        workspace=ex.ZERO,
        kernels=(),
        steps=tuple(Copy(BufferRef(Space.OUTPUT, i), source, ex.Const(4)) for i in range(2)),
        source="",
    )
    return PluginPlan("x", (plan,))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (("{0, {}}", "{0, {}}", "{1, {1}}"), ""),
        (("{0, {}}", "{1, {1}}", "{1, {1}}"), ""),  # as TensorRT-RTX 1.7 describes a scalar that a plugin makes
        (("{1, {1}}", "{0, {}}", "{1, {1}}"), ""),
        (("{0, {}}", "{1, {2}}", "{1, {1}}"), "output 0 has rank 1, the plugin was generated for rank 0"),
        (("{2, {1, 1}}", "{0, {}}", "{1, {1}}"), "input 0 has rank 2, the plugin was generated for rank 0"),
        (("{0, {}}", "{0, {}}", "{0, {}}"), "output 1 has rank 0, the plugin was generated for rank 1"),
        (("{0, {}}", "{0, {}}", "{1, {2}}"), "dimension 0 of output 1 is 2, the plugin was generated for 1"),
    ],
)
def test_scalars(shapes: tuple[str, str, str], message: str, tmp_path: Path) -> None:
    for folder, files in (
        (tmp_path / "x", render_plugin(scalar_and_vector(), RELEASES["rtx"])),
        (tmp_path, render_library("x", ["x"], RELEASES["rtx"])),
    ):
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    program = PROGRAM
    for name, shape in zip(("INPUT", "SCALAR", "VECTOR"), shapes, strict=True):
        program = program.replace(name, f"nvinfer1::Dims{shape}")
    (tmp_path / "main.cpp").write_text(program)
    (tmp_path / "cuda.c").write_text("".join(f"void {name}(void) {{ __builtin_trap(); }}\n" for name in CUDA))
    include = Path(runner.__file__).parent / "include"
    command = ["g++", "-std=c++14", "-o", str(tmp_path / "main"), str(tmp_path / "main.cpp"), "-I", str(tmp_path)]
    command += ["-I", str(include), "-DPLUGIN_AUTOGEN_TENSORRT_HEADERS=0", "-x", "c", str(tmp_path / "cuda.c")]
    subprocess.run(command, check=True)
    result = subprocess.run([str(tmp_path / "main")], capture_output=True, text=True, check=False)
    assert result.returncode == (1 if message else 0), result.stderr
    assert message in result.stderr
