"""Nodes that depend on constants alone, computed while the subgraph is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import onnx

MAX_ELEMENTS = 4096
"""Larger results are left to a kernel: a constant takes room in the library, a kernel does not."""

_EVALUATED = frozenset({
    "Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape", "Cos", "CumSum",
    "Div", "Equal", "Exp", "Expand", "EyeLike", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Greater",
    "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg", "NonZero", "Not",
    "OneHot", "OptionalHasElement", "Or", "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "Relu", "Reshape", "Round", "ScatterElements", "ScatterND", "Shape", "Sign", "Sin",
    "Size", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where",
    "Xor",
})  # fmt: skip
"""Operators that compute shapes, axes and small tables. The reference evaluator is not trusted with heavier ones (its
LRN, for one, is wrong); converters make those, and TVM folds them."""


def evaluate(
    node: onnx.NodeProto, opsets: Mapping[str, int], inputs: Sequence[np.ndarray | None]
) -> list[np.ndarray] | None:
    """The node's outputs as ONNX's reference evaluator computes them; None where they are better lowered.

    ONNX's function bodies compute axes and shapes from constants and from the shapes of tensors, which become constants
    only during the import; operators newer than ONNX Runtime are folded here too.

    Args:
        node: of ONNX's own domain.
        opsets: domain → version.
        inputs: values in the node's order, None for a missing optional input.
    """
    import numpy as np
    import onnx.helper
    import onnx.reference

    if node.domain not in ("", "ai.onnx") or node.op_type not in _EVALUATED:
        return None
    if any(v is not None and v.size > MAX_ELEMENTS for v in inputs):
        return None
    feeds = {name: value for name, value in zip(node.input, inputs, strict=True) if value is not None}
    kept = [name for name in node.output if name]
    graph = onnx.helper.make_graph(
        [node],
        "constant",
        [onnx.helper.make_empty_tensor_value_info(name) for name in feeds],
        [onnx.helper.make_empty_tensor_value_info(name) for name in kept],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(d, v) for d, v in opsets.items()])
    try:
        results = onnx.reference.ReferenceEvaluator(model).run(None, feeds)
    except Exception:  # the evaluator lacks an operator or a type: a converter may have it
        return None
    arrays = [np.asarray(r) for r in results if isinstance(r, (np.ndarray, np.generic))]
    if len(arrays) != len(kept) or any(a.size > MAX_ELEMENTS for a in arrays):
        return None
    return arrays
