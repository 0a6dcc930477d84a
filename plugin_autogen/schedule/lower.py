"""One scheduled TIR function to its host part and its kernels; nothing but launches may be left on the host."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tvm
    from tvm import tirx
    from tvm.target import Target

MAX_THREADS = 1024
MAX_SHARED_BYTES = 48 * 1024
MAX_GRID_YZ = 65535
MAX_LOCAL_BYTES = 512 * 1024
"""Of one thread (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability")."""
OWN_BARRIERS = "plugin_autogen.own_barriers"
"""Attribute of a function whose schedule has placed every barrier: TVM's placement refuses loops under a condition."""


class NotSchedulable(Exception):
    """A scheduled function that cannot run as CUDA kernels; its text says why. The next schedule rule is tried."""


@dataclass(frozen=True)
class LoweredFunction:
    """A TIR function after host and device were split.

    Attributes:
        host: allocations, loops and `call_ffi_kernel` launches over the function's buffers.
        kernels: device functions by the name that the launches use.
        scheduled: the function as the schedule rule left it.
        rule: the schedule rule that made it.
        narrow: whether indices have 32 bits because symbolic dimensions are limited.
    """

    host: tirx.PrimFunc
    kernels: dict[str, tirx.PrimFunc]
    scheduled: tirx.PrimFunc
    rule: str
    narrow: bool = False


def lower(
    function: tirx.PrimFunc, name: str, rule: str, target: Target, keeps_host_loops: bool = True
) -> LoweredFunction:
    """Runs TVM's CUDA lowering up to the split of host and device.

    The passes are those of `tvm.s_tir.pipeline.default_s_tir_pipeline`, less those that wrap the host function into
    TVM's calling convention: the plan is read from the plain host function.

    Raises:
        NotSchedulable: a loop outside any thread binding that touches device memory, or a limit of CUDA exceeded.
    """
    host, kernels = parts_of(split(function, name, target, keeps_host_loops))
    return LoweredFunction(host, {k: _with_folded_bits(kernel) for k, kernel in kernels.items()}, function, rule)


def split(function: tirx.PrimFunc, name: str, target: Target, keeps_host_loops: bool = False) -> tvm.IRModule:
    """The scheduled function, lowered and split into a host function and kernels.

    Raises:
        NotSchedulable: as `lower`.
    """
    import tvm

    function = function.with_attr("global_symbol", name).with_attr("target", target).with_attr("tirx.noalias", True)
    passes = _passes(OWN_BARRIERS in function.attrs, vectorize=not _holds_bools(function))
    try:
        module: tvm.IRModule = tvm.transform.Sequential(passes)(tvm.IRModule({name: _with_kept_predicates(function)}))
    except Exception as error:  # TVM raises many kinds; the caller tries the next rule
        raise NotSchedulable(str(error).strip().splitlines()[-1]) from error
    host, kernels = parts_of(module)
    for kernel in kernels.values():
        _check_limits(kernel)
    _check_host(host.body, keeps_host_loops)
    return module


def parts_of(module: tvm.IRModule) -> tuple[tirx.PrimFunc, dict[str, tirx.PrimFunc]]:
    """The host function of a module that was split, and its kernels by name."""
    hosts: list[tirx.PrimFunc] = []
    kernels: dict[str, tirx.PrimFunc] = {}
    for variable, part in module.functions.items():
        if int(part.attrs.get("calling_conv", 0)) == 2:  # kDeviceKernelLaunch
            kernels[variable.name_hint] = part
        else:
            hosts.append(part)
    if len(hosts) != 1:
        raise NotSchedulable(f"the function was split into {len(hosts)} host functions")
    return hosts[0], kernels


def _with_kept_predicates(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """The function with every predicate of a block as a conjunction.

    Of a cross-thread reduction's predicate, LowerCrossThreadReduction keeps for the write-back only what it finds as an
    operand of `and`: of a lone `row < rows` nothing, and the last block's threads write behind the output. Said twice
    it is an operand; with `and True` the block would no longer count as a reduction.
    """
    import tvm_ffi
    from tvm import s_tir, tirx

    def keep(realize: s_tir.SBlockRealize) -> s_tir.SBlockRealize:
        if isinstance(realize.predicate, (tirx.And, tirx.IntImm)):
            return realize
        return s_tir.SBlockRealize(realize.iter_values, tirx.And(realize.predicate, realize.predicate), realize.block)

    return function.with_body(tvm_ffi.structural_map(function.body, (s_tir.SBlockRealize, keep)))


def _holds_bools(function: tirx.PrimFunc) -> bool:
    """Whether bools are in memory: TVM prints a vector of them as a vector of shorts, twice as wide as it is."""
    import tvm_ffi
    from tvm import ir, tirx

    found: list[bool] = []
    tvm_ffi.structural_walk(
        function.body,
        [
            (tirx.BufferStore, lambda store: found.append(str(store.buffer.dtype).startswith("bool"))),
            (ir.TensorLoad, lambda load: found.append(str(load.source.dtype).startswith("bool"))),
        ],
    )
    return any(found)


def _with_folded_bits(kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    """The kernel with the bits of float32 constants as integers: TVM prints `*(uint *)(&(-CUDART_INF_F))`."""
    import numpy as np
    import tvm_ffi
    from tvm import ir, tirx

    def fold(call: ir.Call) -> ir.Expr:
        if not call.op.same_as(reinterpret) or not isinstance(call.args[0], tirx.FloatImm):
            return call
        kinds = str(call.args[0].ty.dtype), str(call.ty.dtype)
        if kinds != ("float32", "uint32"):
            return call
        return tirx.const(int(np.float32(call.args[0].value).view(np.uint32)), "uint32")

    reinterpret = ir.Op.get("tirx.reinterpret")
    return kernel.with_body(tvm_ffi.structural_map(kernel.body, (ir.Call, fold)))


def _passes(own_barriers: bool, vectorize: bool) -> list[object]:
    from tvm import s_tir, tirx

    s, t = s_tir.transform, tirx.transform
    return [
        s.CanonicalizeLoop(),
        s.LowerCrossThreadReduction(),
        s.LowerInitBlock(),
        s.PlanAndUpdateBufferAllocationLocation(),
        s.ConvertBlocksToOpaque(),
        s.LiftThreadBinding(),
        s.ManifestSharedMemoryLocalStage(),
        # hand-written kernels allocate what they need, and symbolic sizes would come out as riddles
        *([] if own_barriers else [s.CompactBufferAllocation()]),
        s.LowerAutoCopy(),
        s.UnifyThreadBinding(),
        s.LowerMatchBuffer(),
        s.StmtSimplify(),
        s.InjectPermutedLayout(),
        s.AnnotateIrregularLoop(),
        s.InjectSoftwarePipeline(),
        s.TransformMmaBufferLayout(),
        s.LowerOpaqueBlock(),
        t.FlattenBuffer(),
        t.BF16ComputeLegalize(),
        t.NarrowDataType(32),
        s.LoopPartition(),
        # Lanes of a Select read both its branches; behind `if_then_else` each reads what its condition allows.
        s.RewriteUnsafeSelect(),
        t.VectorizeLoop(vectorize),
        s.InjectVirtualThread(),
        s.InjectDoubleBuffer(),
        t.StorageRewrite(),
        s.HoistIfThenElse(),
        t.UnrollLoop(),
        s.RenormalizeSplitPattern(),
        t.StmtSimplify(),
        t.RemoveNoOp(),
        s.RewriteUnsafeSelect(),
        t.CommonSubexprElim(),
        t.FP8ComputeLegalize(),
        t.VerifyMemory(),
        t.AnnotateEntryFunc(),
        *([] if own_barriers else [s.ThreadSync("shared"), s.ThreadSync("shared.dyn"), s.ThreadSync("warp")]),
        s.InferFragment(),
        s.LowerThreadAllreduce(),
        s.MergeSharedMemoryAllocations(),
        t.SplitHostDevice(),
    ]


def _check_limits(kernel: tirx.PrimFunc) -> None:
    """Threads a block, memory of a block and of a thread, and the grid's second and third dimension."""
    import tvm_ffi
    from tvm import tirx
    from tvm.runtime import DataType

    extents: dict[str, int] = {}
    shared = local = 0

    def visit_attribute(statement: tirx.AttrStmt) -> None:
        if statement.attr_key == "thread_extent" and isinstance(statement.value, tirx.IntImm):
            extents[str(statement.node.thread_tag)] = int(statement.value)

    def visit_allocation(statement: tirx.AllocBuffer) -> None:
        nonlocal shared, local
        buffer = statement.buffer
        scope = str(buffer.scope())
        if scope not in ("shared", "shared.dyn", "local"):
            return
        if not all(isinstance(extent, tirx.IntImm) for extent in buffer.shape):
            raise NotSchedulable(f"{scope} memory of a size known only at run time")
        size = math.prod(int(extent) for extent in buffer.shape) * ((DataType(str(buffer.dtype)).bits + 7) // 8)
        if scope == "local":
            local += size
        else:
            shared += size

    tvm_ffi.structural_walk(kernel.body, [(tirx.AttrStmt, visit_attribute), (tirx.AllocBuffer, visit_allocation)])
    threads = math.prod(extent for tag, extent in extents.items() if tag.startswith("threadIdx"))
    if threads > MAX_THREADS:
        raise NotSchedulable(f"{threads} threads a block, CUDA allows {MAX_THREADS}")
    if shared > MAX_SHARED_BYTES:
        raise NotSchedulable(f"{shared} bytes of shared memory a block, the target allows {MAX_SHARED_BYTES}")
    if local > MAX_LOCAL_BYTES:
        raise NotSchedulable(f"{local} bytes of local memory a thread, CUDA allows {MAX_LOCAL_BYTES}")
    for tag in ("blockIdx.y", "blockIdx.z"):
        if extents.get(tag, 0) > MAX_GRID_YZ:
            raise NotSchedulable(f"{tag} spans {extents[tag]} blocks, CUDA allows {MAX_GRID_YZ}")


def _check_host(body: tirx.Stmt, keeps_host_loops: bool) -> None:
    """No access to a tensor's elements may be left on the host, and no loop around launches that is not meant."""
    import tvm_ffi
    from tvm import ir, tirx

    def visit(_: object) -> None:
        raise NotSchedulable("a loop without thread binding is left on the host")

    nodes = (tirx.BufferStore, ir.TensorLoad) if keeps_host_loops else (tirx.BufferStore, ir.TensorLoad, tirx.For)
    tvm_ffi.structural_walk(body, (nodes, visit))
