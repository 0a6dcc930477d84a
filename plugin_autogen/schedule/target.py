"""The CUDA target that code is scheduled for. Nothing is detected: no GPU and no CUDA toolkit is needed."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm.target import Target


COMMON_ARCH = 75
"""Kernels use nothing that newer GPUs alone have: one source serves them all."""


@functools.cache
def cuda_target(oldest_arch: int | None = None) -> Target:
    """A target with the limits that every GPU from sm_53 on has (CUDA C++ Programming Guide, "Compute Capabilities").

    Args:
        oldest_arch: the oldest compute capability (53 for 5.3) that the source is compiled for; None: the default's.
    """
    from tvm.target import Target

    return Target(
        {
            "kind": "cuda",
            "arch": f"sm_{min(oldest_arch or COMMON_ARCH, COMMON_ARCH)}",
            "max_threads_per_block": 1024,
            "max_shared_memory_per_block": 49152,
            "thread_warp_size": 32,
            "max_num_threads": 1024,
        },
        host="llvm",
    )
