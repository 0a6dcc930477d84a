"""Relax operators to fused TensorIR functions fit for a GPU, and `main` to a straight list of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugin_autogen.errors import UnsupportedError
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
    return _in_order(module) if relax_module.sizes else module


def _in_order(module: tvm.IRModule) -> tvm.IRModule:
    """The module with each binding of `main` behind those that define the dimensions in it.

    FuseOps sorts bindings by the tensors that they take, and a dimension that the data decide is none.
    """
    import tvm_ffi
    from tvm import ir, relax

    def variables(node: object) -> set[object]:
        found: set[object] = set()
        tvm_ffi.structural_walk(node, (ir.Var, lambda v: found.add(v)))
        return found

    main = module["main"]
    blocks = []
    for block in main.body.blocks:
        made = {b: {b.var} | (variables(b.ty) if isinstance(b, relax.MatchCast) else set()) for b in block.bindings}
        waiting = [(b, (variables(b.value) | variables(b.var.ty)) - made[b]) for b in block.bindings]
        missing = set().union(*made.values())
        ordered: list[object] = []
        while waiting:
            ready = next((i for i, (_, needs) in enumerate(waiting) if not needs & missing), None)
            if ready is None:
                raise UnsupportedError("nodes were fused across a size that the data decide: make them several plugins")
            binding, _ = waiting.pop(ready)
            missing -= made[binding]
            ordered.append(binding)
        blocks.append(type(block)(ordered))
    body = relax.SeqExpr(blocks, main.body.body)
    changed = relax.Function(main.params, body, main.ret_ty, main.is_pure, main.attrs)
    module = module.clone()
    module.update_func(module.get_global_var("main"), changed)
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
