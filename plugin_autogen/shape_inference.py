"""ONNX's shape inference with data propagation, shielded from a model that would fill the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

LARGEST_STEP = 2**31 - 1


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes that ONNX infers.

    ONNX keeps a Slice's step in 32 bits where it follows values, and nothing is left of -2^63: it adds 0 until the
    memory is full. While shapes are inferred such a step is one of 31 bits, which is as good: no axis is longer.

    Raises:
        What `onnx.shape_inference.infer_shapes` raises, of several kinds.
    """
    import numpy as np
    import onnx.shape_inference
    from onnx import numpy_helper

    steps = _steps(model)
    originals = [type(tensor).FromString(tensor.SerializeToString()) for tensor in steps]
    try:
        for tensor in steps:
            bounded = np.clip(numpy_helper.to_array(tensor), -LARGEST_STEP, LARGEST_STEP)
            tensor.CopyFrom(numpy_helper.from_array(bounded, tensor.name))
        inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(model, data_prop=True)
    finally:
        for tensor, original in zip(steps, originals, strict=True):
            tensor.CopyFrom(original)
    for tensor, original in zip(_steps(inferred), originals, strict=True):
        tensor.CopyFrom(original)
    return inferred


def _steps(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The constants of the main graph, of 64 bits, that a Slice has as its steps."""
    from onnx import TensorProto

    names = {node.input[4] for node in model.graph.node if node.op_type == "Slice" and len(node.input) > 4}
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in names]
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] in names:
            tensors += [attribute.t for attribute in node.attribute if attribute.name == "value"]
    return [t for t in tensors if t.data_type == TensorProto.INT64 and not t.external_data]
