"""Replaces calls of functions by their bodies: functions local to the model, and ONNX operators defined by others.

An ONNX operator keeps its node where the registry has a converter for it, since a converter knows the operator as a
whole; without one its function body of `onnx.defs` serves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from plugin_autogen.errors import UnsupportedError, shorten
from plugin_autogen.graph.model import subgraphs_of
from plugin_autogen.lowering import registry
from plugin_autogen.lowering.control_flow import expand_control_flow, has_control_flow

if TYPE_CHECKING:
    import onnx


def expand_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without calls of local functions, control flow, and operators that only a function body can lower."""
    import onnx.inliner

    if model.functions:
        kept = [(f.domain, f.name) for f in model.functions if registry.find(f.domain, f.name, _NEWEST) is not None]
        model = _inlined(_with_defaults(model), kept)
    if has_control_flow(model):
        model = expand_control_flow(model)
    while operators := _without_converter(model):
        before = model.SerializeToString()
        model = onnx.inliner.inline_selected_functions(
            _prepared(model, operators), operators, inline_schema_functions=True
        )
        _forget_type(model, "")
        if model.SerializeToString() == before:
            break
        if has_control_flow(model):
            model = expand_control_flow(model)
    return model


_NEWEST = 2**31 - 1


def _inlined(model: onnx.ModelProto, kept: list[tuple[str, str]]) -> onnx.ModelProto:
    """The model with calls of its functions replaced, but for those kept; bodies of other opsets are converted."""
    import onnx.inliner

    versions = {o.domain: o.version for o in model.opset_import}
    expanded = [f for f in model.functions if (f.domain, f.name) not in kept]
    for function in expanded:
        if _means_the_same(function, versions):
            for imported in function.opset_import:
                imported.version = versions.get(imported.domain, imported.version)
    others = [f for f in expanded if any(versions.get(o.domain, o.version) != o.version for o in f.opset_import)]
    if not others:
        return onnx.inliner.inline_selected_functions(model, kept, exclude=True)
    del model.functions[:]
    model.functions.extend(expanded)
    try:
        return onnx.inliner.inline_local_functions(model, convert_version=True)
    except Exception as error:  # of ONNX's version converter, which knows many operators and not all
        names = ", ".join(f"{f.domain}::{f.name}" for f in others)
        raise UnsupportedError(
            f"the functions {shorten(names)} are written for another opset than the model, and ONNX cannot convert "
            f"them ({shorten(error, 160)}): write them for opset {versions.get('', 1)}"
        ) from error


def _means_the_same(function: onnx.FunctionProto, versions: Mapping[str, int]) -> bool:
    """Whether ONNX's operators in the function have the same inputs, outputs and attributes in the model's opset."""
    import onnx.defs

    def signature(operator: str, opset: int, domain: str) -> object:
        if not onnx.defs.has(operator, opset, domain):
            return None
        schema = onnx.defs.get_schema(operator, opset, domain)
        attributes = sorted((n, str(a.type), str(a.default_value)) for n, a in schema.attributes.items())
        return [(p.name, p.option) for p in schema.inputs], [(p.name, p.option) for p in schema.outputs], attributes

    own = {o.domain: o.version for o in function.opset_import}
    stack = list(function.node)
    while stack:
        node = stack.pop()
        stack += [inner for graph in subgraphs_of(node) for inner in graph.node]
        mine, theirs = own.get(node.domain, 1), versions.get(node.domain, 1)
        if mine == theirs or not onnx.defs.has(node.op_type, mine, node.domain):
            continue
        if signature(node.op_type, mine, node.domain) != signature(node.op_type, theirs, node.domain):
            return False
    return True


def _with_defaults(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every call of a function gives all its attributes: the inliner forgets those left at default."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    defaults = {(f.domain, f.name): f.attribute_proto for f in copy.functions}

    def fill(nodes: Iterable[onnx.NodeProto]) -> None:
        for node in nodes:
            given = {a.name for a in node.attribute}
            node.attribute.extend(a for a in defaults.get((node.domain, node.op_type), ()) if a.name not in given)
            for graph in subgraphs_of(node):
                fill(graph.node)

    fill(copy.graph.node)
    for function in copy.functions:
        fill(function.node)
    return copy


def _prepared(model: onnx.ModelProto, operators: list[tuple[str, str]]) -> onnx.ModelProto:
    """A copy of the model that onnx's inliner handles.

    The inliner asks for the types of a node's inputs where the body depends on them, even of inputs that are left out
    (their name is empty), and finds neither inferred types nor those of initializers by itself. It drops references to
    attributes that the node leaves at their default.
    """
    import onnx.defs
    import onnx.helper
    import onnx.shape_inference

    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    with contextlib.suppress(onnx.shape_inference.InferenceError):
        prepared = onnx.shape_inference.infer_shapes(prepared)
    graph = prepared.graph
    typed = {v.name for v in (*graph.input, *graph.value_info)}
    graph.value_info.extend(
        onnx.helper.make_tensor_value_info(i.name, i.data_type, i.dims)
        for i in graph.initializer
        if i.name not in typed
    )
    if any(not name for node in graph.node for name in node.input):
        graph.value_info.append(onnx.helper.make_tensor_value_info("", onnx.TensorProto.FLOAT, None))
    opsets = {o.domain: o.version for o in model.opset_import}
    for node in graph.node:
        opset = opsets.get(node.domain, opsets.get("", 1))
        if (node.domain, node.op_type) not in operators or not onnx.defs.has(node.op_type, opset, node.domain):
            continue
        given = {a.name for a in node.attribute}
        for name, attribute in onnx.defs.get_schema(node.op_type, opset, node.domain).attributes.items():
            if name not in given and attribute.default_value.type != onnx.AttributeProto.UNDEFINED:
                node.attribute.append(attribute.default_value)
    return prepared


def _forget_type(model: onnx.ModelProto, name: str) -> None:
    kept = [v for v in model.graph.value_info if v.name != name]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)


def _without_converter(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """(domain, operator) of the nodes that have a function body and no converter."""
    import onnx.defs

    opsets = {o.domain: o.version for o in model.opset_import}
    found: dict[tuple[str, str], None] = {}
    for node in model.graph.node:
        opset = opsets.get(node.domain, opsets.get("", 1))
        if registry.find(node.domain, node.op_type, opset) is not None:
            continue
        if not onnx.defs.has(node.op_type, opset, node.domain):
            continue
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
        if schema.has_function or schema.has_context_dependent_function:
            found[node.domain, node.op_type] = None
    return list(found)
