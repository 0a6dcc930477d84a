"""The emulated device computes what CUDA computes, and finds what CUDA forbids."""

from __future__ import annotations

import dataclasses
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from plugin_autogen import dtypes
from plugin_autogen.codegen import expr as ex
from plugin_autogen.codegen.expr import Const
from plugin_autogen.codegen.plan import BufferRef, Kernel, KernelPlan, Launch, PluginPlan, Space, TensorSpec
from plugin_autogen.dtypes import ElementType
from plugin_autogen.releases import release
from tests import plans
from tests.cpu_cuda.runner import (
    CompileError,
    CpuLibrary,
    CpuPlugin,
    KernelFault,
    PluginFailure,
    Profile,
    Sanitizer,
    Unstable,
    run_program,
)

V3, V2 = release("10"), release("8")
ALL_SANITIZERS = list(Sanitizer)
Array = np.ndarray[Any, Any]


def kernel_plan(
    source: str,
    inputs: list[tuple[ElementType, tuple[int, ...]]],
    outputs: list[tuple[ElementType, tuple[int, ...]]],
    grid: tuple[int, int, int] = (1, 1, 1),
    block: tuple[int, int, int] = (1, 1, 1),
    shared: int = 0,
) -> PluginPlan:
    """One kernel `k` that takes the outputs, then the inputs."""

    def specs(tensors: list[tuple[ElementType, tuple[int, ...]]]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(f"t{i}", d, tuple(Const(n) for n in s)) for i, (d, s) in enumerate(tensors))

    arguments = [BufferRef(Space.OUTPUT, i) for i in range(len(outputs))]
    arguments += [BufferRef(Space.INPUT, i) for i in range(len(inputs))]

    def three(sizes: tuple[int, int, int]) -> tuple[ex.Expr, ex.Expr, ex.Expr]:
        return Const(sizes[0]), Const(sizes[1]), Const(sizes[2])

    plan = KernelPlan(
        inputs=specs(inputs),
        outputs=specs(outputs),
        dimensions=(),
        constants=(),
        workspace=ex.ZERO,
        kernels=(Kernel("k", ("pointer",) * len(arguments)),),
        steps=(Launch("k", three(grid), three(block), tuple(arguments), Const(shared)),),
        source=source,
    )
    return PluginPlan("tpat_k", (plan,))


F32, I32 = dtypes.FLOAT32, dtypes.INT32


# --- threads of a block -----------------------------------------------------------------------------------------------

# As TVM writes a reduction across threads: shuffles under __activemask, then a staging buffer.
REDUCTION = """
extern "C" __global__ void __launch_bounds__(256) k(float* __restrict__ y, float* __restrict__ x) {
  __shared__ alignas(64) float staging[8];
  __shared__ alignas(64) volatile float result[1];
  float sum[1];
  float t0[1];
  uint32_t mask[1];
  sum[0] = 0.0f;
  if (((int)threadIdx.x) < 200) {
    sum[0] = x[((((int)blockIdx.x) * 200) + ((int)threadIdx.x))];
  }
  mask[0] = __activemask();
  for (int delta = 16; delta > 0; delta >>= 1) {
    t0[0] = __shfl_down_sync(mask[0], sum[0], delta, 32);
    sum[0] = (sum[0] + t0[0]);
  }
  if ((((int)threadIdx.x) % 32) == 0) {
    staging[(((int)threadIdx.x) >> 5)] = sum[0];
  }
  __syncthreads();
  if (((int)threadIdx.x) < 8) {
    sum[0] = staging[((int)threadIdx.x)];
  }
  mask[0] = __activemask();
  for (int delta = 4; delta > 0; delta >>= 1) {
    t0[0] = __shfl_down_sync(mask[0], sum[0], delta, 32);
    sum[0] = (sum[0] + t0[0]);
  }
  if (((int)threadIdx.x) == 0) {
    ((volatile float*)result)[0] = sum[0];
  }
  __syncthreads();
  if (((int)threadIdx.x) == 255) {
    y[((int)blockIdx.x)] = ((volatile float*)result)[0];
  }
}
"""


@pytest.mark.parametrize("sanitizer", ALL_SANITIZERS)
def test_block_reduction_with_shuffles(tmp_path: Path, sanitizer: Sanitizer) -> None:
    plan = kernel_plan(REDUCTION, [(F32, (5, 200))], [(F32, (5,))], grid=(5, 1, 1), block=(256, 1, 1))
    x = np.random.default_rng(0).integers(-1000, 1000, (5, 200)).astype(np.float32)
    (y,) = CpuPlugin.from_plan(plan, V3, tmp_path, sanitizer).run([x], seeds=range(4))
    np.testing.assert_array_equal(y, x.sum(axis=1))


TRANSPOSE = """
extern "C" __global__ void k(float* __restrict__ y, float* __restrict__ x) {
  __shared__ float tile[32][33];
  int column = blockIdx.x * 32 + threadIdx.x;
  for (int i = threadIdx.y; i < 32; i += 8) tile[i][threadIdx.x] = x[(blockIdx.y * 32 + i) * 96 + column];
  BARRIER
  int row = blockIdx.x * 32;
  for (int i = threadIdx.y; i < 32; i += 8) y[(row + i) * 64 + blockIdx.y * 32 + threadIdx.x] = tile[threadIdx.x][i];
}
"""


def transpose(barrier: str) -> PluginPlan:
    source = TRANSPOSE.replace("BARRIER", barrier)
    return kernel_plan(source, [(F32, (64, 96))], [(F32, (96, 64))], grid=(3, 2, 1), block=(32, 8, 1))


@pytest.mark.parametrize("sanitizer", ALL_SANITIZERS)
def test_transpose_through_shared_memory(tmp_path: Path, sanitizer: Sanitizer) -> None:
    x = np.arange(64 * 96, dtype=np.float32).reshape(64, 96)
    (y,) = CpuPlugin.from_plan(transpose("__syncthreads();"), V3, tmp_path, sanitizer).run([x])
    np.testing.assert_array_equal(y, x.T)


@pytest.mark.parametrize("barrier", ["", "__syncwarp();"])
def test_missing_barrier_is_found(tmp_path: Path, barrier: str) -> None:
    x = np.arange(64 * 96, dtype=np.float32).reshape(64, 96)
    with pytest.raises(KernelFault, match=r"kernel k\w*, block .*race, (read|write) of 4 bytes"):
        CpuPlugin.from_plan(transpose(barrier), V3, tmp_path / "check", Sanitizer.CHECK).run([x])
    plugin = CpuPlugin.from_plan(transpose(barrier), V3, tmp_path / "plain")
    with pytest.raises(Unstable, match="differs between runs"):
        plugin.run([x])
    assert not np.array_equal(plugin.run([x], seeds=[1]), [x.T])


def test_write_after_read_without_barrier_is_found(tmp_path: Path) -> None:
    # The tile is filled anew while other threads still read it.
    source = """
extern "C" __global__ void k(float* __restrict__ y, float* __restrict__ x) {
  __shared__ float tile[64];
  for (int round = 0; round < 4; ++round) {
    tile[threadIdx.x] = x[round * 64 + threadIdx.x];
    __syncthreads();
    y[round * 64 + threadIdx.x] = tile[63 - threadIdx.x];
    BARRIER
  }
}
"""
    x = np.arange(256, dtype=np.float32).reshape(4, 64)
    tensors: list[tuple[ElementType, tuple[int, ...]]] = [(F32, (4, 64))]
    right = kernel_plan(source.replace("BARRIER", "__syncthreads();"), tensors, tensors, block=(64, 1, 1))
    wrong = kernel_plan(source.replace("BARRIER", ""), tensors, tensors, block=(64, 1, 1))
    (y,) = CpuPlugin.from_plan(right, V3, tmp_path / "right", Sanitizer.CHECK).run([x])
    np.testing.assert_array_equal(y, x[:, ::-1])
    with pytest.raises(KernelFault, match=r"race, (read|write) of 4 bytes .* of block 0"):
        CpuPlugin.from_plan(wrong, V3, tmp_path / "wrong", Sanitizer.CHECK).run([x])
    with pytest.raises(Unstable):
        CpuPlugin.from_plan(wrong, V3, tmp_path / "plain").run([x])


def test_race_between_blocks_is_found(tmp_path: Path) -> None:
    source = """
extern "C" __global__ void k(int* __restrict__ y, int* __restrict__ x) {
  y[blockIdx.x] = x[blockIdx.x];
  if (blockIdx.x > 0) y[blockIdx.x] += y[blockIdx.x - 1];
}
"""
    plan = kernel_plan(source, [(I32, (8,))], [(I32, (8,))], grid=(8, 1, 1))
    with pytest.raises(KernelFault, match=r"race, (read|write) of 4 bytes .* of block"):
        CpuPlugin.from_plan(plan, V3, tmp_path, Sanitizer.CHECK).run([np.ones(8, np.int32)])


def test_equal_writes_and_atomics_are_no_race(tmp_path: Path) -> None:
    source = """
extern "C" __global__ void k(int* __restrict__ y, int* __restrict__ x) {
  __shared__ int flag[1];
  if (threadIdx.x == 0) y[1 + blockIdx.x] = 0;
  flag[0] = 7;
  __syncthreads();
  y[0] = flag[0];
  atomicAdd(&y[1 + blockIdx.x], x[threadIdx.x]);
}
"""
    plan = kernel_plan(source, [(I32, (96,))], [(I32, (4,))], grid=(3, 1, 1), block=(96, 1, 1))
    (y,) = CpuPlugin.from_plan(plan, V3, tmp_path, Sanitizer.CHECK).run([np.arange(96, dtype=np.int32)])
    assert y.tolist() == [7, 4560, 4560, 4560]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("if (threadIdx.x < 40) __syncthreads();", "threads have ended without reaching it"),
        ("if (threadIdx.x < 40) __syncthreads();\n else __syncthreads();", "divergent __syncthreads"),
        ("if (threadIdx.x < 40) { __syncthreads(); } else { __shfl_sync(~0u, 1, 0); }", "deadlock"),
        ("if (threadIdx.x < 5) __shfl_sync(0x0fu, 1, 0);", "lacks the caller's own lane 4"),
        ("if (threadIdx.x < 5) __syncwarp(0x1fu); else __shfl_sync(~0u, 1, 0);", "(different warp functions|deadlock)"),
        ("__shfl_sync(~0u, 1, 0, 12);", "no power of two"),
        ("assert(threadIdx.x < 60);", "assertion `threadIdx.x < 60` failed|assertion .* failed"),
        ("if (threadIdx.x == 63) __trap();", r"thread \(63, 0, 0\): __trap"),
    ],
)
def test_wrong_synchronization_is_found(tmp_path: Path, body: str, message: str) -> None:
    source = f"""
extern "C" __global__ void k() {{
  {body}
}}
extern "C" int run() {{
  return cudaLaunchKernel(k, dim3(2), dim3(64), nullptr);
}}
"""
    with pytest.raises(KernelFault, match=message):
        run_program(source, tmp_path)


def test_warp_functions(tmp_path: Path) -> None:
    source = """
#define ROW(expression) y[row++ * 40 + threadIdx.x] = static_cast<int>(expression)
extern "C" __global__ void k(int* __restrict__ y) {
  int row = 0;
  int lane = threadIdx.x % 32;
  int id = threadIdx.x;
  unsigned mask = threadIdx.x < 32 ? ~0u : 0xffu;
  ROW(__shfl_sync(mask, id, 3));
  ROW(__shfl_sync(mask, id, 9, 8));
  ROW(__shfl_up_sync(mask, id, 2, 8));
  ROW(__shfl_down_sync(mask, id, 3, 8));
  ROW(__shfl_xor_sync(mask, id, 5));
  ROW(__ballot_sync(mask, lane % 3 == 0));
  ROW(__any_sync(mask, lane == 7));
  ROW(__all_sync(mask, lane < 8));
  ROW(__match_any_sync(mask, lane % 4));
  ROW(__syncthreads_count(id % 2));
  ROW(__syncthreads_and(id < 39));
  ROW(__syncthreads_or(id == 39));
  ROW(__shfl_sync(mask, 1.5 * id, 1) * 2);
  unsigned active = 0;
  if (lane % 2) active = __activemask();
  ROW(active);
}
"""
    plan = kernel_plan(source, [], [(I32, (14, 40))], block=(40, 1, 1))
    (y,) = CpuPlugin.from_plan(plan, V3, tmp_path).run([], seeds=range(3))
    ids = np.arange(40)
    base, lane = ids // 32 * 32, ids % 32
    segment = ids // 8 * 8
    expected = [
        base + 3,
        segment + 1,
        np.where(ids - segment >= 2, ids - 2, ids),
        np.where(ids - segment < 5, ids + 3, ids),
        base + (lane ^ 5),
        np.where(base == 0, np.int64(0x49249249), 0x49),
        np.ones(40),
        np.where(base == 0, 0, 1),
        np.where(base == 0, 0x11111111, 0x11) << (lane % 4),
        np.full(40, 20),
        np.zeros(40),
        np.ones(40),
        (base + 1) * 3,
        np.where(lane % 2 == 1, np.where(base == 0, 0xAAAAAAAA, 0xAA), 0),
    ]
    np.testing.assert_array_equal(y, np.array(expected, np.int64).astype(np.int32))


@pytest.mark.parametrize("sanitizer", ALL_SANITIZERS)
def test_warp_matrix_functions(tmp_path: Path, sanitizer: Sanitizer) -> None:
    # y = a @ b.T, 32 x 32 in four tiles, one a warp; a and b through shared memory.
    source = """
#include <cuda_fp16.h>
#include <mma.h>
extern "C" __global__ void k(float* __restrict__ y, half* __restrict__ a, half* __restrict__ b) {
  extern __shared__ __align__(64) unsigned char buf_dyn_shmem[];
  half* staged = (half*)buf_dyn_shmem;
  int thread = threadIdx.y * 32 + threadIdx.x;
  for (int i = thread; i < 2048; i += 128) staged[i / 32 * 40 + i % 32] = i < 1024 ? a[i] : b[i - 1024];
  __syncthreads();
  int row = threadIdx.y / 2 * 16, column = threadIdx.y % 2 * 16;
  nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> sum;
  nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, half, nvcuda::wmma::row_major> left;
  nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, half, nvcuda::wmma::col_major> right;
  nvcuda::wmma::fill_fragment(sum, 0.000000000e+00f);
  for (int k = 0; k < 32; k += 16) {
    nvcuda::wmma::load_matrix_sync(left, (&(staged[row * 40 + k])), 40);
    nvcuda::wmma::load_matrix_sync(right, (&(staged[(32 + column) * 40 + k])), 40);
    nvcuda::wmma::mma_sync(sum, left, right, sum);
  }
  nvcuda::wmma::store_matrix_sync(&y[row * 32 + column], sum, 32, nvcuda::wmma::mem_row_major);
}
"""
    shape = (32, 32)
    half = (dtypes.FLOAT16, shape)
    plan = kernel_plan(source, [half, half], [(F32, shape)], block=(32, 4, 1), shared=64 * 40 * 2)
    a, b = np.random.default_rng(8).integers(-20, 20, (2, *shape)).astype(np.float16)
    (y,) = CpuPlugin.from_plan(plan, V3, tmp_path, sanitizer).run([a, b], seeds=range(3))
    np.testing.assert_array_equal(y, a.astype(np.float32) @ b.astype(np.float32).T)


def test_shuffle_from_an_absent_lane_is_undefined(tmp_path: Path) -> None:
    source = """
extern "C" __global__ void k(int* __restrict__ y) {
  y[threadIdx.x] = threadIdx.x < 8 ? __shfl_down_sync(0xffu, (int)threadIdx.x, 4) : 0;
}
"""
    plan = kernel_plan(source, [], [(I32, (32,))], block=(32, 1, 1))
    plugin = CpuPlugin.from_plan(plan, V3, tmp_path)
    assert plugin.run([], seeds=[1])[0][:4].tolist() == [4, 5, 6, 7]
    with pytest.raises(Unstable):
        plugin.run([], seeds=range(8))


def test_index_variables_and_dynamic_shared_memory(tmp_path: Path) -> None:
    source = """
extern "C" __global__ void k(int* __restrict__ y) {
  extern __shared__ alignas(1024) uchar buf_dyn_shmem[];
  int* values = (int*)(buf_dyn_shmem + 0);
  int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  int threads = blockDim.x * blockDim.y * blockDim.z;
  int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  values[thread] = block * 1000 + thread;
  __syncthreads();
  y[block * threads + thread] = values[threads - 1 - thread];
}
"""
    source = "#define uchar unsigned char\n" + source
    plan = kernel_plan(source, [], [(I32, (24, 60))], grid=(2, 3, 4), block=(5, 4, 3), shared=240)
    (y,) = CpuPlugin.from_plan(plan, V2, tmp_path, Sanitizer.CHECK).run([])
    np.testing.assert_array_equal(y, np.arange(24)[:, None] * 1000 + np.arange(59, -1, -1)[None, :])


def test_thousand_threads_with_many_barriers(tmp_path: Path) -> None:
    # An inclusive scan by doubling: two barriers a step.
    source = """
extern "C" __global__ void k(int* __restrict__ y, int* __restrict__ x) {
  __shared__ int s[1024];
  s[threadIdx.x] = x[blockIdx.x * 1024 + threadIdx.x];
  __syncthreads();
  for (int offset = 1; offset < 1024; offset *= 2) {
    int value = threadIdx.x >= offset ? s[threadIdx.x - offset] : 0;
    __syncthreads();
    s[threadIdx.x] += value;
    __syncthreads();
  }
  y[blockIdx.x * 1024 + threadIdx.x] = s[threadIdx.x];
}
"""
    plan = kernel_plan(source, [(I32, (20, 1024))], [(I32, (20, 1024))], grid=(20, 1, 1), block=(1024, 1, 1))
    x = np.random.default_rng(0).integers(-100, 100, (20, 1024), np.int32)
    (y,) = CpuPlugin.from_plan(plan, V3, tmp_path).run([x])
    np.testing.assert_array_equal(y, np.cumsum(x, axis=1))


# --- memory -----------------------------------------------------------------------------------------------------------


def out_of_bounds(statement: str) -> PluginPlan:
    source = f"""
extern "C" __global__ void k(float* __restrict__ y, float* __restrict__ x) {{
  __shared__ float tile[64];
  int i = threadIdx.x;
  tile[i] = x[i];
  __syncthreads();
  y[i] = tile[i];
  {statement}
}}
"""
    return kernel_plan(source, [(F32, (61,))], [(F32, (61,))], block=(61, 1, 1))


@pytest.mark.parametrize("sanitizer", ALL_SANITIZERS)
@pytest.mark.parametrize(
    "statement", ["y[i + 1] = 1.0f;", "y[i - 1] = 1.0f;", "y[i + 4096] = 1.0f;", "y[i] += x[i + 64];"]
)
def test_out_of_bounds_access_is_found(tmp_path: Path, sanitizer: Sanitizer, statement: str) -> None:
    plugin = CpuPlugin.from_plan(out_of_bounds(statement), V3, tmp_path, sanitizer)
    with pytest.raises(KernelFault, match=r"out-of-bounds|heap-buffer-overflow|race"):
        plugin.run([np.ones(61, np.float32)])


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "y[i] += x[i + 1];",
            r"out-of-bounds read of 4 bytes, 0 bytes behind an input \(244 bytes\) \(kernels.cuh, line 8\)",
        ),
        ("y[i] += tile[i + 4];", "out-of-bounds read of 4 bytes"),
        ("if (i == 60) ((float4*)y)[15] = float4{};", "out-of-bounds write of 16 bytes across the end"),
        ("y[i] += *(float*)nullptr;", "a null pointer"),
    ],
)
def test_every_access_is_checked(tmp_path: Path, statement: str, message: str) -> None:
    plugin = CpuPlugin.from_plan(out_of_bounds(statement), V3, tmp_path, Sanitizer.CHECK)
    with pytest.raises(KernelFault, match=message):
        plugin.run([np.ones(61, np.float32)])


def test_fault_names_kernel_block_and_thread(tmp_path: Path) -> None:
    source = """
extern "C" __global__ void k(float* __restrict__ y) {
  y[threadIdx.x] = blockIdx.y == 2 && threadIdx.x == 5 ? ((float*)16)[0] : 1.0f;
}
"""
    plan = kernel_plan(source, [], [(F32, (8,))], grid=(1, 3, 1), block=(8, 1, 1))
    with pytest.raises(KernelFault, match=r"kernel k\w*, block \(0, 2, 0\), thread \(5, 0, 0\): out-of-bounds access"):
        CpuPlugin.from_plan(plan, V3, tmp_path).run([])


def test_kernel_that_writes_to_an_input_is_found(tmp_path: Path) -> None:
    source = 'extern "C" __global__ void k(float* y, float* x) { y[0] = x[0]; x[0] = 5.0f; }'
    plan = kernel_plan(source, [(F32, (1,))], [(F32, (1,))])
    with pytest.raises(PluginFailure, match="enqueue changed input 0"):
        CpuPlugin.from_plan(plan, V3, tmp_path).run([np.ones(1, np.float32)])


def test_uninitialized_shared_memory_shows(tmp_path: Path) -> None:
    source = """
extern "C" __global__ void k(float* y) {
  __shared__ float s[32];
  if (threadIdx.x < 31) s[threadIdx.x] = 1.0f;
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x];
}
"""
    plan = kernel_plan(source, [], [(F32, (32,))], block=(32, 1, 1))
    with pytest.raises(Unstable, match="element 31"):
        CpuPlugin.from_plan(plan, V3, tmp_path).run([], seeds=range(8))


def test_bool_outputs_are_zero_or_one(tmp_path: Path) -> None:
    source = 'extern "C" __global__ void k(signed char* y) { y[threadIdx.x] = threadIdx.x; }'
    plan = kernel_plan(source, [], [(dtypes.BOOL, (2,))], block=(2, 1, 1))
    assert CpuPlugin.from_plan(plan, V3, tmp_path / "right").run([])[0].tolist() == [False, True]
    plan = kernel_plan(source, [], [(dtypes.BOOL, (3,))], block=(3, 1, 1))
    with pytest.raises(PluginFailure, match="neither 0 nor 1"):
        CpuPlugin.from_plan(plan, V3, tmp_path / "wrong").run([])


# --- launches and the host's interface --------------------------------------------------------------------------------


def test_launch_limits(tmp_path: Path) -> None:
    source = """
extern "C" __global__ void plain() {}
extern "C" __global__ void big(int* y) {
  __shared__ int tile[48 * 256 + 1];
  tile[threadIdx.x] = 1;
  __syncthreads();
  y[0] = tile[y[0]];
}
extern "C" __global__ void dynamic(int* y) {
  extern __shared__ int scratch[];
  scratch[threadIdx.x] = 1;
  y[0] = scratch[0];
}
#define EXPECT(status, call) if ((got = (call)) != status) { printf("%s: %d\\n", #call, (int)got); return 0; }
extern "C" int run() {
  cudaError_t got;
  EXPECT(cudaSuccess, cudaLaunchKernel(plain, dim3(1), dim3(1024), nullptr));
  EXPECT(cudaSuccess, cudaLaunchKernel(plain, dim3(1, 3, 65535), dim3(1, 1, 64), nullptr));
  EXPECT(cudaErrorInvalidConfiguration, cudaLaunchKernel(plain, dim3(1, 65536), dim3(1), nullptr));
  EXPECT(cudaErrorInvalidConfiguration, cudaLaunchKernel(plain, dim3(1, 1, 65536), dim3(1), nullptr));
  EXPECT(cudaErrorInvalidConfiguration, cudaLaunchKernel(plain, dim3(0), dim3(1), nullptr));
  EXPECT(cudaErrorInvalidConfiguration, cudaLaunchKernel(plain, dim3(0x80000000u), dim3(1), nullptr));
  EXPECT(cudaErrorInvalidConfiguration, cudaLaunchKernel(plain, dim3(1), dim3(1025), nullptr));
  EXPECT(cudaErrorInvalidConfiguration, cudaLaunchKernel(plain, dim3(1), dim3(33, 32), nullptr));
  EXPECT(cudaErrorInvalidConfiguration, cudaLaunchKernel(plain, dim3(1), dim3(1, 1, 65), nullptr));
  EXPECT(cudaErrorInvalidConfiguration, cudaGetLastError());
  EXPECT(cudaSuccess, cudaGetLastError());
  int* y;
  if (cudaMalloc(&y, 4) != cudaSuccess) return 1;
  void* arguments[] = {&y};
  EXPECT(cudaErrorInvalidConfiguration, cudaLaunchKernel(big, dim3(1), dim3(1), arguments));
  EXPECT(cudaSuccess, cudaLaunchKernel(dynamic, dim3(1), dim3(64), arguments, 49152));
  EXPECT(cudaErrorInvalidValue, cudaLaunchKernel(dynamic, dim3(1), dim3(64), arguments, 49153));
  EXPECT(cudaErrorInvalidValue, cudaFuncSetAttribute(dynamic, cudaFuncAttributeMaxDynamicSharedMemorySize, 65537));
  EXPECT(cudaSuccess, cudaFuncSetAttribute(dynamic, cudaFuncAttributeMaxDynamicSharedMemorySize, 65536));
  EXPECT(cudaSuccess, cudaLaunchKernel(dynamic, dim3(1), dim3(64), arguments, 65536));
  EXPECT(cudaSuccess, cudaFree(y));
  EXPECT(cudaErrorInvalidValue, cudaFree(y));
  printf("passed");
  return 0;
}
"""
    assert run_program(source, tmp_path) == "passed"


def test_shared_memory_of_newer_devices(tmp_path: Path) -> None:
    source = """
extern "C" __global__ void k(int* y) {
  extern __shared__ int buf_dyn_shmem[];
  buf_dyn_shmem[threadIdx.x * 24000] = 5;
  y[threadIdx.x] = buf_dyn_shmem[threadIdx.x * 24000];
}
"""
    plan = kernel_plan(source, [], [(I32, (2,))], block=(2, 1, 1), shared=96004)
    plugin = CpuPlugin.from_plan(plan, V3, tmp_path)
    assert plugin.run([], shared_limit=99 * 1024)[0].tolist() == [5, 5]
    with pytest.raises(PluginFailure, match="cannot prepare kernels"):
        plugin.run([])


def test_write_behind_dynamic_shared_memory_is_found(tmp_path: Path) -> None:
    source = """
extern "C" __global__ void k() {
  extern __shared__ int scratch[];
  scratch[threadIdx.x] = 1;
}
extern "C" int run() { return cudaLaunchKernel(k, dim3(1), dim3(65), nullptr, 256); }
"""
    with pytest.raises(KernelFault, match="out-of-bounds write 0 bytes behind the 256 bytes of dynamic shared memory"):
        run_program(source, tmp_path / "plain")
    with pytest.raises(KernelFault, match="out-of-bounds write of 4 bytes"):
        run_program(source, tmp_path / "check", Sanitizer.CHECK)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("char host[8]; cudaMemcpy(y, host, 9, cudaMemcpyHostToDevice);", "copy of 9 bytes to"),
        ("char host[8]; cudaMemcpy(host, host, 8, cudaMemcpyDeviceToHost);", "copy of 8 bytes from"),
        ("cudaMemset(y, 0, 9);", "memset of 9 bytes"),
        ("y[8] = 1; cudaFree(y);", "out-of-bounds write: 0 bytes behind a buffer of cudaMalloc"),
        ("__syncthreads();", "called by host code"),
    ],
)
def test_wrong_use_by_the_host_is_found(tmp_path: Path, code: str, message: str) -> None:
    source = f'extern "C" int run() {{ char* y; cudaMalloc(&y, 8); {code} return 0; }}'
    with pytest.raises(KernelFault, match=message):
        run_program(source, tmp_path)


def test_what_nvcc_would_refuse_does_not_compile(tmp_path: Path) -> None:
    plan = kernel_plan('extern "C" __global__ void k(float* y) { y[0] = hnearbyint(1); }', [], [(F32, (1,))])
    with pytest.raises(CompileError, match="hnearbyint"):
        CpuPlugin.from_plan(plan, V3, tmp_path)


# --- the plugin's interface -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rel", [V3, V2], ids=["V3", "V2"])
@pytest.mark.parametrize("sanitizer", ALL_SANITIZERS)
def test_host_loop_with_symbolic_shapes(tmp_path: Path, rel: Any, sanitizer: Sanitizer) -> None:
    plugin = CpuPlugin.from_plan(plans.scan(), rel, tmp_path, sanitizer)
    columns = plans.SCAN_COLUMNS
    profile = Profile((1, columns), (8, columns), (200, columns))
    for rows in (1, 37, 200):
        x = np.random.default_rng(rows).integers(-9, 9, (rows, columns)).astype(np.float32)
        result = plugin.run_result([x], profiles=[profile], contexts=2)
        for got, expected in zip(result.outputs, plans.scan_reference(x), strict=True):
            np.testing.assert_array_equal(got, expected)
        assert result.launches == columns


@pytest.mark.parametrize("rel", [V3, V2], ids=["V3", "V2"])
@pytest.mark.parametrize("sanitizer", ALL_SANITIZERS)
def test_workspace_and_constants(tmp_path: Path, rel: Any, sanitizer: Sanitizer) -> None:
    plan = plans.weighted_row_sum()
    shape = [ex.evaluate(d, {}) for d in plan.default.inputs[0].shape]
    x = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    result = CpuPlugin.from_plan(plan, rel, tmp_path, sanitizer).run_result([x], contexts=3)
    np.testing.assert_allclose(result.outputs[0], plans.weighted_row_sum_reference(x), rtol=1e-5, atol=1e-4)
    assert result.workspace >= ex.evaluate(plan.default.workspace, {}) > 0


def test_several_plugins_in_one_library_and_variants(tmp_path: Path) -> None:
    library = CpuLibrary.from_plans("tpat_all", [make() for make in plans.ALL], V3, tmp_path)
    x, y = np.random.default_rng(2).standard_normal((2, 4, 100))
    for dtype in (np.float32, np.float16):
        a, b = x.astype(dtype), y.astype(dtype)
        spec = CpuPlugin("tpat_add_two_types", library, plans.two_types())
        np.testing.assert_array_equal(spec.run([a, b])[0], a + b)
    with pytest.raises(PluginFailure, match="the library has no plugin tpat_none"):
        library.run("tpat_none", [], [])


def test_wrong_expectations_are_refused(tmp_path: Path) -> None:
    from tests.cpu_cuda.runner import OutputSpec

    plugin = CpuPlugin.from_plan(plans.add(), V3, tmp_path)
    x = np.zeros((4, 100), np.float32)
    with pytest.raises(PluginFailure, match="output 0 has type 0, expected 1"):
        plugin.run([x, x], [OutputSpec(dtypes.FLOAT16, (4, 100))])
    with pytest.raises(PluginFailure, match="dimension 1 of output 0 is 100, expected 99"):
        plugin.run([x, x], [OutputSpec(dtypes.FLOAT32, (4, 99))])
    with pytest.raises(PluginFailure, match="the plugin has 1 outputs, expected 2"):
        plugin.run([x, x], [OutputSpec(dtypes.FLOAT32, (4, 100))] * 2)
    with pytest.raises(PluginFailure, match="refuses to make the plugin"):
        plugin.run([x, x], fingerprint="0123456789abcdef")


def test_grid_one_block_too_small_is_found(tmp_path: Path) -> None:
    plan = plans.add()
    (launch,) = plan.default.steps
    assert isinstance(launch, Launch)
    short = dataclasses.replace(launch, grid=(Const(3), ex.ONE, ex.ONE))
    broken = PluginPlan(plan.name, (dataclasses.replace(plan.default, steps=(short,)),))
    x = np.zeros((4, 100), np.float32)
    with pytest.raises(Unstable, match="first at element 384"):
        CpuPlugin.from_plan(broken, V3, tmp_path).run([x, x])


def test_launch_beyond_the_limits_makes_enqueue_fail(tmp_path: Path) -> None:
    plan = kernel_plan('extern "C" __global__ void k(float* y) { y[0] = 1.0f; }', [], [(F32, (1,))], grid=(1, 65536, 1))
    with pytest.raises(PluginFailure, match="enqueue returned"):
        CpuPlugin.from_plan(plan, V3, tmp_path).run([])


# --- arithmetic -------------------------------------------------------------------------------------------------------

NARROW = {
    "half": (np.dtype(np.float16), dtypes.FLOAT16),
    "nv_bfloat16": (np.dtype(ml_dtypes.bfloat16), dtypes.BFLOAT16),
}


def operands(dtype: np.dtype[Any], count: int) -> Array:
    """Random bit patterns, special values first."""
    bits = np.random.default_rng(3).integers(0, 2**16, count, np.uint16)
    special = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 65504, -65504, 6e-8, 0.1, 0.5, 1.5, 2.5, -0.5])
    values = np.concatenate([special.astype(dtype), bits.view(dtype)])
    return values[:count]


def assert_same(got: Array, expected: Array, what: str) -> None:
    """Equal bits, any NaN for NaN."""
    with np.errstate(invalid="ignore"):  # ml_dtypes warns of NaN
        same = (got.view(np.uint16) == expected.view(np.uint16)) | (np.isnan(got) & np.isnan(expected))
    assert same.all(), f"{what}: {np.flatnonzero(~same)[:5]}, {got[~same][:5]} instead of {expected[~same][:5]}"


@pytest.mark.parametrize("name", NARROW)
def test_narrow_arithmetic_is_numpys(tmp_path: Path, name: str) -> None:
    dtype, element = NARROW[name]
    n = 4096
    source = """
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#define OUT(expression) y[row++ * 4096 + i] = (expression)
extern "C" __global__ void k(T* __restrict__ y, T* __restrict__ a, T* __restrict__ b, float* __restrict__ f) {
  int i = blockIdx.x * 128 + threadIdx.x;
  int row = 0;
  OUT(a[i] + b[i]);
  OUT(__hsub(a[i], b[i]));
  OUT(a[i] * b[i]);
  OUT(__hdiv(a[i], b[i]));
  OUT(-a[i]);
  OUT(__habs(a[i]));
  OUT(hsqrt(a[i]));
  OUT(hfloor(a[i]));
  OUT(hceil(a[i]));
  OUT(htrunc(a[i]));
  OUT(hrint(a[i]));
  OUT(__hmax(a[i], b[i]));
  OUT(__hmin(a[i], b[i]));
  OUT(T(f[i]));
  OUT(T((double)f[i]));
  OUT(T((int)(i * 524287 - 1000000000)));
  OUT(T(a[i] < b[i] ? 1.0f : 0.0f));
  OUT(T(a[i] == b[i] ? 1.0f : 0.0f));
  OUT(T(__hneu(a[i], b[i]) ? 1.0f : 0.0f));
  OUT(T(__hisnan(a[i]) ? 1.0f : 0.0f));
  OUT(T((float)a[i] * 2.0f));
}
""".replace("T*", f"{name}*").replace("T(", f"{name}(")
    rows = 21
    plan = kernel_plan(
        source, [(element, (n,)), (element, (n,)), (F32, (n,))], [(element, (rows, n))], (32, 1, 1), (128, 1, 1)
    )
    a, b = operands(dtype, n), operands(dtype, n)[::-1].copy()
    f = np.random.default_rng(4).standard_normal(n).astype(np.float32)
    f *= np.float32(2.0) ** np.random.default_rng(5).integers(-30, 20, n).astype(np.float32)
    (y,) = CpuPlugin.from_plan(plan, V3, tmp_path).run([a, b, f])
    with np.errstate(all="ignore"):
        wide_a, wide_b = a.astype(np.float32), b.astype(np.float32)
        expected = {
            "+": a + b, "-": a - b, "*": a * b, "/": a / b, "neg": -a, "abs": np.abs(a),
            "sqrt": np.sqrt(a), "floor": np.floor(a), "ceil": np.ceil(a), "trunc": np.trunc(a), "rint": np.rint(a),
            "max": np.fmax(wide_a, wide_b).astype(dtype), "min": np.fmin(wide_a, wide_b).astype(dtype),
            "float": f.astype(dtype), "double": f.astype(dtype),
            "int": (np.arange(n, dtype=np.int64) * 524287 - 1000000000).astype(np.float64).astype(dtype),
            "<": (a < b).astype(dtype), "==": (a == b).astype(dtype), "neu": (a != b).astype(dtype),
            "isnan": np.isnan(a).astype(dtype), "* 2": (wide_a * 2).astype(dtype),
        }  # fmt: skip
    for row, (what, values) in enumerate(expected.items()):
        if what in ("max", "min"):  # of +0 and -0 either may win in numpy
            zeros = (wide_a == 0) & (wide_b == 0)
            y[row][zeros], values[zeros] = 0, 0
        assert_same(y[row], values, what)


def rounded(value: Fraction, digits: int, least: int) -> Fraction:
    """To the nearest multiple of the last place, ties to even; `least` is the exponent of the smallest subnormal."""
    if value == 0:
        return value
    exponent = 0
    magnitude = abs(value)
    while magnitude >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while magnitude < Fraction(2) ** exponent:
        exponent -= 1
    step = Fraction(2) ** max(exponent - digits + 1, least)
    return round(value / step) * step


@pytest.mark.parametrize(("name", "digits", "least"), [("half", 11, -24), ("nv_bfloat16", 8, -133)])
def test_narrow_fma_rounds_once(tmp_path: Path, name: str, digits: int, least: int) -> None:
    dtype, element = NARROW[name]
    n = 3000
    source = f"""
#include <cuda_bf16.h>
extern "C" __global__ void k({name}* y, {name}* a, {name}* b, {name}* c) {{
  int i = blockIdx.x * 100 + threadIdx.x;
  y[i] = __hfma(a[i], b[i], c[i]);
}}
"""
    plan = kernel_plan(source, [(element, (n,))] * 3, [(element, (n,))], (30, 1, 1), (100, 1, 1))
    rng = np.random.default_rng(6)
    # Addends far below the product, so that a second rounding would show where the first one made a tie.
    a, b = (1 + rng.integers(0, 2 ** (digits - 1), (2, n)) / 2 ** (digits - 1)).astype(dtype)
    c = (rng.choice([-1.0, 1.0], n) * 2.0 ** rng.integers(-20 if digits == 11 else -60, 2, n)).astype(dtype)
    (y,) = CpuPlugin.from_plan(plan, V3, tmp_path).run([a, b, c])
    for i in range(n):
        exact = Fraction(float(a[i])) * Fraction(float(b[i])) + Fraction(float(c[i]))
        assert Fraction(float(y[i])) == rounded(exact, digits, least), (a[i], b[i], c[i])


def test_all_halves_convert_to_integers_with_saturation(tmp_path: Path) -> None:
    source = """
#include <cuda_fp16.h>
extern "C" __global__ void k(int* y, half* x) {
  int i = blockIdx.x * 1024 + threadIdx.x;
  y[i] = (int)x[i];
  y[65536 + i] = (signed char)x[i];
  y[2 * 65536 + i] = __half2int_rn(x[i]);
  y[3 * 65536 + i] = __half_as_ushort(__float2half(__half2float(x[i])));
}
"""
    plan = kernel_plan(source, [(dtypes.FLOAT16, (65536,))], [(I32, (4, 65536))], (64, 1, 1), (1024, 1, 1))
    bits = np.arange(65536, dtype=np.uint16)
    x = bits.view(np.float16)
    (y,) = CpuPlugin.from_plan(plan, V3, tmp_path).run([x])
    wide = np.nan_to_num(x.astype(np.float64), nan=0.0)
    np.testing.assert_array_equal(y[0], np.clip(np.trunc(wide), -(2.0**31), 2.0**31 - 1).astype(np.int64))
    np.testing.assert_array_equal(y[1], np.clip(np.trunc(wide), -128, 127).astype(np.int64))
    np.testing.assert_array_equal(y[2], np.clip(np.rint(wide), -(2.0**31), 2.0**31 - 1).astype(np.int64))
    np.testing.assert_array_equal(y[3][~np.isnan(x)], bits[~np.isnan(x)])


def test_atomics_of_all_types(tmp_path: Path) -> None:
    source = """
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#define INIT(type, value) if (block == 0 && t == 0) *(type*)(y + 2 * row) = value; row++
#define SLOT(type) ((type*)(y + 2 * row++))
extern "C" __global__ void k(int* y, int* x) {
  int block = 0;
  int t = threadIdx.x;
  int row = 0;
  int v = x[t];
  if (t < 32) y[t] = 0;
  __syncthreads();
  atomicAdd(SLOT(int), v);
  atomicAdd(SLOT(unsigned long long), (unsigned long long)(long long)v);
  atomicAdd(SLOT(float), (float)v);
  atomicAdd(SLOT(double), (double)v);
  atomicAdd(SLOT(half), __float2half(1.0f));
  atomicAdd(SLOT(nv_bfloat16), __float2bfloat16(1.0f));
  atomicMax(SLOT(int), v);
  atomicMin(SLOT(int), v);
  atomicOr(SLOT(unsigned), 1u << (t % 32));
  atomicXor(SLOT(unsigned), 5u);
  atomicInc(SLOT(unsigned), 6u);
  atomicSub(SLOT(int), 3);
  unsigned* slot = SLOT(unsigned);
  unsigned old = *(volatile unsigned*)slot, seen;
  do {
    seen = old;
    old = atomicCAS(slot, seen, seen + 2u);
  } while (old != seen);
  atomicExch(SLOT(float), 2.5f);
}
"""
    plan = kernel_plan(source, [(I32, (100,))], [(I32, (32,))], block=(100, 1, 1))
    v = np.random.default_rng(7).integers(-50, 50, 100, np.int32)
    (y,) = CpuPlugin.from_plan(plan, V3, tmp_path).run([v])
    row = y.reshape(16, 2)

    def value(index: int, code: str) -> Any:
        return struct.unpack_from("<" + code, row[index].tobytes())[0]

    assert value(0, "i") == value(1, "q") == value(2, "f") == value(3, "d") == v.sum()
    assert value(4, "e") == 100
    assert np.frombuffer(row[5].tobytes(), ml_dtypes.bfloat16)[0] == 100
    assert (value(6, "i"), value(7, "i")) == (max(0, v.max()), min(0, v.min()))
    assert (value(8, "I"), value(9, "I"), value(10, "I")) == (0xFFFFFFFF, 0, 100 % 7)
    assert (value(11, "i"), value(12, "I"), value(13, "f")) == (-300, 200, 2.5)


def test_intrinsics(tmp_path: Path) -> None:
    cases = {
        "max(NAN, 1.0f)": "1", "max(1.0f, NAN)": "1", "min(NAN, -2.0)": "-2",
        "max(3, 5u)": "5",
        "1.0f / max(-0.0f, 0.0f)": "inf", "1.0f / min(0.0f, -0.0f)": "-inf", "max(-5L, 3L)": "3",
        "min(-5LL, 3LL)": "-5",
        "__clz(1)": "31", "__clz(0)": "32", "__clzll(1LL)": "63", "__popc(0xf0u)": "4",
        "__ffs(8)": "4", "__ffs(0)": "0",
        "__brev(1u)": str(2**31),
        "__brevll(2ull) == 1ull << 62": "1",
        "__byte_perm(0x03020100u, 0x07060504u, 0x7531u)": str(0x07050301),
        "__byte_perm(0x80u, 0u, 0x8888u)": str(2**32 - 1),
        "__mulhi(-2147483647 - 1, 2)": "-1", "__umulhi(4294967295u, 2u)": "1",

        "__mul64hi(-1LL, 2LL)": "-1", "__umul64hi(~0ull, 4ull)": "3",
        "__dp4a(0x01ff02fe, 0x01010101, 10)": str(10 + 1 - 1 + 2 - 2),
        "__dp4a(0xffu, 2u, 1u)": "511",
        "__dp4a(0xffu, -1, 0)": str(-255), "__dp4a(-1, 0xffu, 0)": str(-255),
        "__funnelshift_l(0x80000000u, 1u, 1u)": "3", "__funnelshift_r(1u, 2u, 1u)": "0",
        "__float2int_rn(2.5f)": "2", "__float2int_rn(-3.5f)": "-4", "__float2int_rz(1e20f)": str(2**31 - 1),
        "__float2int_rz(NAN)": "0", "__float2uint_rz(-1.0f)": "0", "__double2ll_rd(-1.5)": "-2",
        "__float2ll_ru(1e30f) == 9223372036854775807LL": "1", "__float_as_int(1.0f)": str(0x3F800000),
        "__int_as_float(0x40000000)": "2", "__double_as_longlong(1.0) == 0x3ff0000000000000LL": "1",
        "__saturatef(NAN)": "0", "__saturatef(2.0f)": "1", "rsqrtf(4.0f)": "0.5", "__fdividef(1.0f, 4.0f)": "0.25",
        "__expf(0.0f)": "1", "exp10f(2.0f)": "100", "__ldg(&table[2])": "30", "warpSize": "32",
        "sizeof(float3) * 100 + sizeof(float4)": "1216", "alignof(float4) * 100 + alignof(int2)": "1608",
        "make_uchar4(1, 2, 3, 250).w": "250", "CUDART_INF_F": "inf", "clock64() < clock64()": "1",
    }  # fmt: skip
    lines = "\n".join(f"  y[{i}] = (double)({code});" for i, code in enumerate(cases))
    source = f"""
#include <math_constants.h>
#include <sm_61_intrinsics.h>
__constant__ int table[3] = {{10, 20, 30}};
extern "C" __global__ void k(double* y) {{
{lines}
}}
extern "C" int run() {{
  double* y;
  cudaMalloc(&y, {len(cases)} * 8);
  void* arguments[] = {{&y}};
  if (cudaLaunchKernel(k, dim3(1), dim3(1), arguments) != cudaSuccess) return 1;
  double host[{len(cases)}];
  cudaMemcpy(host, y, sizeof host, cudaMemcpyDeviceToHost);
  for (double value : host) printf("%.17g\\n", value);
  return 0;
}}
"""
    got = run_program(source, tmp_path, Sanitizer.CHECK).split()
    assert dict(zip(cases, got, strict=True)) == cases
