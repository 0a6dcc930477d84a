"""ONNX's shape inference behind its shield."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from plugin_autogen.shape_inference import infer_shapes


@pytest.mark.parametrize("step", [-(2**63), -(2**62), 2**62, 2**63 - 1, -2])
@pytest.mark.parametrize("as_node", [False, True])
def test_long_steps_neither_fill_the_memory_nor_change_the_model(step: int, as_node: bool) -> None:
    bounds = (4, -9, 0, step) if step < 0 else (0, 9, 0, step)
    tensors = [numpy_helper.from_array(np.array([v], np.int64), n) for v, n in zip(bounds, "abcd", strict=True)]
    nodes = [helper.make_node("Slice", ["x", "a", "b", "c", "d"], ["y"])]
    if as_node:
        nodes.insert(0, helper.make_node("Constant", [], ["d"], value=tensors.pop()))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [5])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    before = model.SerializeToString()
    inferred = infer_shapes(model)
    assert model.SerializeToString() == before
    assert inferred.graph.node == model.graph.node
    assert inferred.graph.initializer == model.graph.initializer
    (dimension,) = inferred.graph.output[0].type.tensor_type.shape.dim
    assert dimension.dim_value == (3 if step == -2 else 1)
