"""Small plans made by hand, for tests of everything on the plan's right: templates, compilation, execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from plugin_autogen import dtypes
from plugin_autogen.codegen import expr as ex
from plugin_autogen.codegen.expr import Binary, Const, Symbol
from plugin_autogen.codegen.plan import (
    Branch,
    BufferRef,
    Constant,
    Copy,
    Dimension,
    Kernel,
    KernelPlan,
    Launch,
    Loop,
    PluginPlan,
    Space,
    TensorSpec,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

X, Y = BufferRef(Space.INPUT, 0), BufferRef(Space.INPUT, 1)


def _extent(x: ex.Expr | int) -> tuple[ex.Expr, ex.Expr, ex.Expr]:
    return (Const(x) if isinstance(x, int) else x, ex.ONE, ex.ONE)


def _tensor(name: str, *shape: ex.Expr | int, dtype: dtypes.ElementType = dtypes.FLOAT32) -> TensorSpec:
    return TensorSpec(name, dtype, tuple(Const(d) if isinstance(d, int) else d for d in shape))


def add(name: str = "tpat_add", dtype: dtypes.ElementType = dtypes.FLOAT32) -> PluginPlan:
    """z = x + y, [4, 100] each, one kernel. `dtype`: float32 or float16."""
    c_type = {"float32": "float", "float16": "half"}[dtype.name]
    source = """
#include <cuda_fp16.h>
// As TVM's preamble has them: functions with external linkage, in every plugin of this type.
__device__ half max(half a, half b)
{
  return __hgt(__half(a), __half(b)) ? a : b;
}
__host__ __device__ half2 make_half2_pair(half x, half y) {
  return half2(x, y);
}
extern "C" __global__ void __launch_bounds__(128) add_kernel(TYPE* __restrict__ z, TYPE* __restrict__ x,
                                                             TYPE* __restrict__ y);
extern "C" __global__ void __launch_bounds__(128) add_kernel(TYPE* __restrict__ z, TYPE* __restrict__ x,
                                                             TYPE* __restrict__ y) {
  int i = ((int)blockIdx.x) * 128 + ((int)threadIdx.x);
  if (i < 400) {
    z[i] = x[i] + y[i];
  }
}
""".replace("TYPE", c_type)
    plan = KernelPlan(
        inputs=(_tensor("x", 4, 100, dtype=dtype), _tensor("y", 4, 100, dtype=dtype)),
        outputs=(_tensor("z", 4, 100, dtype=dtype),),
        dimensions=(),
        constants=(),
        workspace=ex.ZERO,
        kernels=(Kernel("add_kernel", ("pointer", "pointer", "pointer")),),
        steps=(Launch("add_kernel", _extent(4), _extent(128), (BufferRef(Space.OUTPUT), X, Y)),),
        source=source,
    )
    return PluginPlan(name, (plan,))


def two_types(name: str = "tpat_add_two_types") -> PluginPlan:
    """`add` in two variants, float32 and float16."""
    return PluginPlan(name, add(dtype=dtypes.FLOAT32).variants + add(dtype=dtypes.FLOAT16).variants)


def weights() -> NDArray[np.float32]:
    """The constant of `weighted_row_sum`, [128]."""
    w: NDArray[np.float32] = np.linspace(-1, 1, 128).astype(np.float32)
    return w


def weighted_row_sum(name: str = "tpat_weighted_row_sum") -> PluginPlan:
    """y[r] = sum over c of x[r, c] * w[c], plus a bias of 0.5, [8, 128] -> [8].

    Two kernels with the products between them in the workspace at byte 256, two constants.
    """
    source = """
extern "C" __global__ void multiply_kernel(float* __restrict__ products, float* __restrict__ w, float* __restrict__ x) {
  int i = ((int)blockIdx.x) * 128 + ((int)threadIdx.x);
  products[i] = x[i] * w[((int)threadIdx.x)];
}
extern "C" __global__ void sum_kernel(float* __restrict__ bias, float* __restrict__ products, float* __restrict__ y,
                                      int columns) {
  float total = bias[0];
  for (int c = 0; c < columns; ++c) {
    total = total + products[((int)threadIdx.x) * columns + c];
  }
  y[((int)threadIdx.x)] = total;
}
"""
    products = BufferRef(Space.WORKSPACE, 0, Const(256))
    plan = KernelPlan(
        inputs=(_tensor("x", 8, 128),),
        outputs=(_tensor("y", 8),),
        dimensions=(),
        constants=(
            Constant("bias", dtypes.FLOAT32, (1,), np.float32(0.5).tobytes()),
            Constant("w", dtypes.FLOAT32, (128,), weights().tobytes()),
        ),
        workspace=Const(256 + 8 * 128 * 4),
        kernels=(
            Kernel("multiply_kernel", ("pointer", "pointer", "pointer")),
            Kernel("sum_kernel", ("pointer", "pointer", "pointer", "int32")),
        ),
        steps=(
            Launch("multiply_kernel", _extent(8), _extent(128), (products, BufferRef(Space.CONSTANT, 1), X)),
            Launch(
                "sum_kernel",
                _extent(1),
                _extent(8),
                (BufferRef(Space.CONSTANT, 0), products, BufferRef(Space.OUTPUT), Const(128)),
            ),
        ),
        source=source,
    )
    return PluginPlan(name, (plan,))


def weighted_row_sum_reference(x: NDArray[np.float32]) -> NDArray[np.float32]:
    y: NDArray[np.float32] = (x @ weights() + np.float32(0.5)).astype(np.float32)
    return y


SCAN_COLUMNS = 16


def scan(name: str = "tpat_scan") -> PluginPlan:
    """Input x of shape [n, 16]; outputs:

    - running sums of the rows, [n, 16]: a first copy, then a host loop over the columns;
    - a copy of x, [2 * n, 8];
    - `ceil(n / 2)` elements that are 1 where n is even and -1 where it is odd: a branch.
    """
    n = Symbol("n")
    pairs = ex.binary("//", ex.add(n, Const(1)), Const(2))
    blocks = ex.binary("//", ex.add(n, Const(31)), Const(32))
    source = """
extern "C" __global__ void scan_step_kernel(float* __restrict__ y, int64_t n, int column) {
  int row = ((int)blockIdx.x) * 32 + ((int)threadIdx.x);
  if (row < n) {
    y[row * 16 + column] = y[row * 16 + column] + y[row * 16 + column - 1];
  }
}
extern "C" __global__ void fill_kernel(float* __restrict__ z, int64_t count, int value) {
  extern __shared__ float scratch[];
  scratch[((int)threadIdx.x)] = (float)value;
  int i = ((int)blockIdx.x) * 32 + ((int)threadIdx.x);
  if (i < count) {
    z[i] = scratch[((int)threadIdx.x)];
  }
}
"""
    y, copy, sign = (BufferRef(Space.OUTPUT, i) for i in range(3))
    size = ex.mul(n, Const(SCAN_COLUMNS * 4))
    column = Symbol('the loop\'s "variable"; */')

    def fill(value: int) -> tuple[Launch]:
        return (Launch("fill_kernel", _extent(blocks), _extent(32), (sign, pairs, Const(value)), Const(32 * 4)),)

    plan = KernelPlan(
        inputs=(_tensor("x", n, SCAN_COLUMNS),),
        outputs=(
            _tensor("y", n, SCAN_COLUMNS),
            _tensor("copy", ex.mul(Const(2), n), SCAN_COLUMNS // 2),
            _tensor('sign"; */', pairs),
        ),
        dimensions=(Dimension("n", 0, 0),),
        constants=(),
        workspace=ex.ZERO,
        kernels=(
            Kernel("scan_step_kernel", ("pointer", "int64", "int32")),
            Kernel("fill_kernel", ("pointer", "int64", "int32")),
        ),
        steps=(
            Copy(y, X, size),
            Copy(copy, X, size),
            Loop(
                column.name,
                Const(SCAN_COLUMNS - 1),
                (Launch("scan_step_kernel", _extent(blocks), _extent(32), (y, n, ex.add(column, Const(1)))),),
            ),
            Branch(Binary("==", Binary("%", n, Const(2)), ex.ZERO), fill(1), fill(-1)),
        ),
        source=source,
    )
    return PluginPlan(name, (plan,))


def scan_reference(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    n = x.shape[0]
    sign = np.full((n + 1) // 2, 1 if n % 2 == 0 else -1, np.float32)
    return np.cumsum(x, axis=1, dtype=np.float32), x.reshape(2 * n, SCAN_COLUMNS // 2), sign


ALL = (add, two_types, weighted_row_sum, scan)
