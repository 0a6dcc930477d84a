"""Relax operators to fused TensorIR functions fit for a GPU, and `main` to a straight list of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugin_autogen.lowering.importer import RelaxModule

if TYPE_CHECKING:
    import tvm
    from tvm.target import Target


def legalize(relax_module: RelaxModule, target: Target) -> tvm.IRModule:
    """Operators become TIR functions, elementwise neighbours are fused into one function, constants are folded.

    Under a CUDA target sort, top-k and scan get TVM's parallel implementations (`DispatchSortScan`); under LLVM, used
    for the check of numbers, they stay serial.
    """
    import tvm
    from tvm import relax

    with target:
        module: tvm.IRModule = tvm.transform.Sequential(
            [
                relax.transform.DecomposeOpsForInference(),
                relax.transform.CanonicalizeBindings(),
                relax.backend.DispatchSortScan(),
                relax.transform.LegalizeOps(),
                relax.transform.AnnotateTIROpPattern(),
                relax.transform.FoldConstant(),
                relax.transform.DeadCodeElimination(),
                relax.transform.FuseOps(),
                relax.transform.FuseTIR(),
                relax.transform.DeadCodeElimination(),
            ]
        )(relax_module.module)
    return module


def to_calls(module: tvm.IRModule, target: Target) -> tvm.IRModule:
    """`main` as a list of tensor allocations and calls of TIR functions, reshapes as views."""
    import tvm
    from tvm import relax

    with target:
        module = tvm.transform.Sequential(
            [
                relax.transform.RewriteDataflowReshape(),
                relax.transform.ToNonDataflow(),
                relax.transform.RemovePurityChecking(),
                relax.transform.CallTIRRewrite(),
                relax.transform.AttachGlobalSymbol(),
            ]
        )(module)
    return module
