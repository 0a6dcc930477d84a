"""What the subgraph must compute: ONNX Runtime says, or ONNX's reference evaluator where it lacks the operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from plugin_autogen.dtypes import from_onnx
from plugin_autogen.errors import CheckError, shorten
from plugin_autogen.lowering import registry

if TYPE_CHECKING:
    import numpy as np
    import onnx


def reference_outputs(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> tuple[list[np.ndarray], str]:
    """The model's outputs for these inputs, and the name of what computed them.

    Raises:
        CheckError: neither runs the model.
    """
    reasons = []
    for name, run in (("ONNX Runtime", _onnxruntime), ("ONNX reference", _onnx_reference)):
        try:
            return run(model, inputs), name
        except Exception as error:  # both raise many kinds; the next one is tried
            lines = str(error).strip().splitlines() or [type(error).__name__]
            reasons.append(f"{name}: {shorten(lines[0], 200)}")
    raise CheckError(f"no reference computes the subgraph ({'; '.join(reasons)})")


def _onnxruntime(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    import ml_dtypes
    import onnxruntime as ort

    if any(v.dtype.type.__module__ == ml_dtypes.__name__ for v in inputs.values()):
        raise ValueError("ONNX Runtime's Python interface has no such element type")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = [output.type.tensor_type.elem_type for output in model.graph.output]
    return [_restored(value, number) for value, number in zip(session.run(None, dict(inputs)), outputs, strict=True)]


def _restored(value: np.ndarray, number: int) -> np.ndarray:
    """The output in its own type: types that numpy lacks come from ONNX Runtime as integers of the same size.

    `number` is ONNX's element type, 0 where the model does not state it.
    """
    import ml_dtypes

    if not number:
        return value
    dtype = from_onnx(number).numpy
    narrow = dtype.type.__module__ == ml_dtypes.__name__ and value.itemsize == dtype.itemsize
    return value.view(dtype) if narrow else value


def _onnx_reference(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    import onnx.reference

    evaluator = onnx.reference.ReferenceEvaluator(model, new_ops=_operators(model))
    return list(evaluator.run(None, dict(inputs)))


def has_reference(model: onnx.ModelProto) -> bool:
    """Whether something can say what each node computes: not for a user's operator without a reference."""
    functions = {(f.domain, f.name) for f in model.functions}
    opsets = {o.domain: o.version for o in model.opset_import}
    for node in model.graph.node:
        entry = registry.find_entry(node.domain, node.op_type, opsets.get(node.domain, 1))
        known = entry is None or not entry.is_users or entry.reference is not None
        if not known and node.domain not in ("", "ai.onnx") and (node.domain, node.op_type) not in functions:
            return False
    return True


def _operators(model: onnx.ModelProto) -> list[type]:
    """The users' references of the model's foreign operators, as the evaluator takes them."""
    from onnx.reference.op_run import OpRun

    def operator(domain: str, name: str, reference: registry.Reference) -> type:
        def run(self: OpRun, *inputs: np.ndarray, **attributes: object) -> tuple[np.ndarray, ...]:
            given = {a.name for a in self.onnx_node.attribute}
            result = reference(*inputs, **{k: v for k, v in attributes.items() if k in given})
            return result if isinstance(result, tuple) else (result,)

        return type(name, (OpRun,), {"op_domain": domain, "_run": run})

    opsets = {o.domain: o.version for o in model.opset_import}
    found: dict[tuple[str, str], type] = {}
    for node in model.graph.node:
        entry = registry.find_entry(node.domain, node.op_type, opsets.get(node.domain, 1))
        if entry is not None and entry.reference is not None:
            found[node.domain, node.op_type] = operator(node.domain, node.op_type, entry.reference)
    return list(found.values())
