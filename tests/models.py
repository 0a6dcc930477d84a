"""Small ONNX models for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from plugin_autogen.graph.extract import Extraction
from plugin_autogen.graph.model import Model, load_model
from plugin_autogen.graph.rewrite import DOMAIN

FLOAT, UINT8, INT8, INT32, INT64 = (
    TensorProto.FLOAT,
    TensorProto.UINT8,
    TensorProto.INT8,
    TensorProto.INT32,
    TensorProto.INT64,
)
BOOL, DOUBLE, UINT16, FLOAT16 = TensorProto.BOOL, TensorProto.DOUBLE, TensorProto.UINT16, TensorProto.FLOAT16

Spec = tuple[int, "Sequence[int | str | None] | None"]
"""Element type (`TensorProto.DataType`) and shape of a graph input or output."""


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Spec],
    outputs: Mapping[str, Spec],
    constants: Mapping[str, np.ndarray] | None = None,
    opset: int = 17,
    ir_version: int = 8,
    domains: Mapping[str, int] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """A model of these nodes; `constants` become initializers (and, before IR version 4, graph inputs too)."""
    initializers = [numpy_helper.from_array(np.asarray(a), name) for name, a in (constants or {}).items()]
    infos = [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()]
    if ir_version < 4:
        infos += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in initializers]
    graph = helper.make_graph(
        list(nodes),
        "test",
        infos,
        [helper.make_tensor_value_info(name, *spec) for name, spec in outputs.items()],
        initializers,
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, v) for d, v in (domains or {}).items())]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version, functions=list(functions))


def node(op_type: str, inputs: str, outputs: str, name: str = "", **attributes: Any) -> onnx.NodeProto:
    """A node whose input and output names are given as one string, separated by blanks; `-` omits one."""

    def split(text: str) -> list[str]:
        return ["" if part == "-" else part for part in text.split()]

    return helper.make_node(op_type, split(inputs), split(outputs), name=name, **attributes)


def load(proto: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Model:
    """The model after a round through a file."""
    path = folder / name
    onnx.save(proto, path)
    return load_model(path)


def quantized_pair() -> onnx.ModelProto:
    """DynamicQuantizeLinear -> ConvInteger -> Cast -> Mul, as `quantize_dynamic` writes it."""
    weight = np.random.default_rng(0).integers(-20, 20, (4, 3, 3, 3)).astype(np.int8)
    return model(
        [
            node("DynamicQuantizeLinear", "x", "q scale zero", name="quantize"),
            node("ConvInteger", "q w zero wz", "acc", name="conv", pads=[1, 1, 1, 1]),
            node("Cast", "acc", "accf", name="cast", to=FLOAT),
            node("Mul", "accf scale", "y", name="scale_back"),
        ],
        {"x": (FLOAT, [1, 3, 8, 8])},
        {"y": (FLOAT, [1, 4, 8, 8])},
        {"w": weight, "wz": np.zeros((), np.int8)},
    )


def plugins_as_functions(rewritten: onnx.ModelProto, extraction: Extraction) -> onnx.ModelProto:
    """The rewritten model with each plugin defined as an ONNX function, so that ONNX Runtime runs it.

    A function converts its inputs from the border's types, computes the subgraph, and converts back, as a plugin does.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(rewritten)
    opsets = [o for o in proto.opset_import if o.domain != DOMAIN]
    for subgraph in extraction.subgraphs:
        graph = subgraph.model.graph
        body = [helper.make_node("Constant", [], [t.name], value=t) for t in graph.initializer]
        for inside, tensor in zip(graph.input, subgraph.inputs, strict=True):
            body.append(helper.make_node("Cast", [f"{inside.name}_border"], [inside.name], to=tensor.dtype.onnx))
        body += graph.node
        for inside, tensor in zip(graph.output, subgraph.outputs, strict=True):
            body.append(helper.make_node("Cast", [inside.name], [f"{inside.name}_border"], to=tensor.border_dtype.onnx))
        proto.functions.append(
            helper.make_function(
                DOMAIN,
                subgraph.name,
                [f"{v.name}_border" for v in graph.input],
                [f"{v.name}_border" for v in graph.output],
                body,
                opsets,
                attributes=["plugin_version", "plugin_namespace", "fingerprint"],
            )
        )
    return proto
