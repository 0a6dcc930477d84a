"""Converters of TVM's own ONNX importer, for operators that the registry and ONNX's function bodies leave open.

The importer is incomplete and sometimes wrong. An operator that has a function body but is better lowered by TVM's
converter is registered through `tvm_converter` in one of the operator families.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plugin_autogen.lowering.registry import Converter, NodeContext


def find(domain: str, operator: str) -> Converter | None:
    """TVM's converter of this operator, or None."""
    from tvm.relax.frontend.onnx import onnx_frontend

    if domain not in ("", "com.microsoft") or operator not in onnx_frontend._get_convert_map():
        return None
    return tvm_converter(operator)


def tvm_converter(operator: str) -> Callable[[NodeContext], Any]:
    """A converter that calls TVM's."""

    def convert(context: NodeContext) -> Any:
        from tvm.relax.frontend.onnx import onnx_frontend

        importer = onnx_frontend.ONNXGraphImporter({}, {})
        attributes = importer._parse_attr(context.node.attribute)
        attributes["tvm_custom"] = {"name": context.node.name, "num_outputs": len(context.node.output)}
        inputs = onnx_frontend.onnx_input(context.inputs)
        opset = context.opset if not context.node.domain else 1
        function = onnx_frontend._get_convert_map()[operator].get_converter(opset)
        return _unpack(context, function(context.builder, inputs, attributes, [{}, {}]))

    return convert


def _unpack(context: NodeContext, result: Any) -> Any:
    """TVM's converters give a tensor, a tuple, or a variable bound to a tuple."""
    from tvm import relax

    if isinstance(result, relax.Tuple):
        return list(result.fields)
    result = context.builder.normalize(result)
    if isinstance(result.ty, relax.TupleType):
        return [context.emit(relax.TupleGetItem(result, i)) for i in range(len(result.ty.fields))]
    return result
