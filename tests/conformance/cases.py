"""ONNX's node tests as cases: a standalone model with constants baked in, inputs, and the expected outputs."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.shape_inference

from plugin_autogen import dtypes
from plugin_autogen.errors import UnsupportedError
from plugin_autogen.graph.constant_inputs import constant_inputs, run_time_shape
from plugin_autogen.graph.subgraph import BorderTensor, Subgraph

TRAINING_DOMAIN = "ai.onnx.preview.training"
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
"""Their tests compare only shapes, or expect what numpy's generator gives."""


DATA_DECIDE = {"Compress", "NonMaxSuppression", "NonZero", "Unique"}
"""Operators with outputs whose size the data decide."""


@dataclass(frozen=True)
class Case:
    """One node test. `reason` says why it cannot be a TensorRT plugin, None where it can.

    `shapes` are the inputs whose values TensorRT tells the plugin as shapes.
    """

    name: str
    operator: str
    model: onnx.ModelProto
    inputs: dict[str, np.ndarray]
    outputs: list[np.ndarray]
    rtol: float
    atol: float
    reason: str | None
    shapes: frozenset[str] = frozenset()


@functools.cache
def node_tests() -> dict[str, Any]:
    """ONNX's node tests by name, as `onnx.backend` builds them."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in collect_testcases(None)}


def load(name: str, real_sizes: bool = True) -> Case:
    """The case of this name, with inputs that must be constant turned into initializers.

    Args:
        real_sizes: leave sizes of outputs open that the data decide, as models have them, and shapes that may be known
            at run time only are no constants; else the test's data state them, as plugins of TensorRT 8 need it.
    """
    test = node_tests()[name]
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    values, expected = test.data_sets[0]
    operator = operator_of(name, model)
    reason = _not_expressible(model, operator, [*values, *expected])
    inputs: dict[str, np.ndarray] = {}
    outputs: list[np.ndarray] = []
    shapes: frozenset[str] = frozenset()
    if reason is None:
        inputs = {i.name: _array(v) for i, v in zip(model.graph.input, values, strict=True)}
        outputs = [_array(v) for v in expected]
        constants = _constant_names(name, model)
        if real_sizes and _original(name) is None:
            shapes = _run_time_shapes(model, inputs, constants)
        _bake(model, inputs, constants - shapes)
        if real_sizes and operator in DATA_DECIDE:
            _open_shapes(model)
        else:
            _state_shapes(model, outputs)
    return Case(name, operator, model, inputs, outputs, test.rtol, test.atol, reason, shapes)


def operator_of(name: str, model: onnx.ModelProto) -> str:
    """The operator that a test is about: for `…_expanded` tests, whose nodes are a function body, the original's."""
    original = _original(name)
    operator: str = (model if original is None else original).graph.node[0].op_type
    return operator


def _original(name: str) -> onnx.ModelProto | None:
    """The model of the test whose function body an `…_expanded` test is."""
    tests = node_tests()
    original = name.removesuffix("_ver18").split("_expanded")[0]
    if "_expanded" not in name or original not in tests:
        return None
    model: onnx.ModelProto = tests[original].model
    return model


def subgraph(case: Case) -> Subgraph:
    """All nodes of the case as one plugin, borders in ONNX's own types, shapes as the model and the data have them."""

    def border(info: onnx.ValueInfoProto, value: np.ndarray) -> BorderTensor:
        dtype = dtypes.from_name(value.dtype.name)
        dims = info.type.tensor_type.shape.dim
        is_open = has_open_shapes(case) and len(dims) == value.ndim
        shape = tuple(
            f"{info.name}_{i}" if is_open and not dims[i].HasField("dim_value") else size
            for i, size in enumerate(value.shape)
        )
        return BorderTensor(info.name, dtype, shape, dtype, is_shape=info.name in case.shapes)

    return Subgraph(
        name=f"tpat_{case.name}"[:120],
        model=case.model,
        inputs=tuple(border(i, case.inputs[i.name]) for i in case.model.graph.input),
        outputs=tuple(border(o, v) for o, v in zip(case.model.graph.output, case.outputs, strict=True)),
        node_names=tuple(n.name for n in case.model.graph.node),
        op_types=tuple(n.op_type for n in case.model.graph.node),
    )


def _array(value: object) -> np.ndarray:
    return np.asarray(onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value)


def _constant_names(name: str, model: onnx.ModelProto) -> set[str]:
    """Inputs that must be constant: of the test's nodes and, for a function body, of the operator that it expands."""
    models = [model]
    if (original := _original(name)) is not None:
        models.append(original)
    return {
        node.input[index]
        for m in models
        for node in m.graph.node
        for index in constant_inputs(node)
        if index < len(node.input)
    }


def _run_time_shapes(
    model: onnx.ModelProto, inputs: dict[str, np.ndarray], constants: Container[str]
) -> frozenset[str]:
    """Of the inputs that are usually constant, those that a plugin can take as shapes at run time."""
    return frozenset(
        name
        for node in model.graph.node
        if (place := run_time_shape(node, constants)) is not None and place < len(node.input)
        for name in [node.input[place]]
        if name in inputs and inputs[name].dtype == np.int64 and inputs[name].ndim == 1 and len(inputs[name]) > 0
    )


def _bake(model: onnx.ModelProto, inputs: dict[str, np.ndarray], names: set[str]) -> None:
    """Inputs that decide shapes become initializers, as they are in the models that users have."""
    for name in sorted(names & set(inputs)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(inputs.pop(name), name))
    kept = [i for i in model.graph.input if i.name in inputs]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _state_shapes(model: onnx.ModelProto, outputs: list[np.ndarray]) -> None:
    """Dimensions that a test leaves open, since the data decide them (Unique's), are stated: they bound the result."""
    for info, value in zip(model.graph.output, outputs, strict=True):
        shape = info.type.tensor_type.shape
        if any(not (d.HasField("dim_value") or d.dim_param) for d in shape.dim) and len(shape.dim) == value.ndim:
            for dim, size in zip(shape.dim, value.shape, strict=True):
                dim.dim_value = size


def _open_shapes(model: onnx.ModelProto) -> None:
    """Dimensions of outputs that do not follow from the inputs' shapes are left open."""
    unstated = onnx.ModelProto()
    unstated.CopyFrom(model)
    for info in unstated.graph.output:
        info.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(unstated)
    for info, found in zip(model.graph.output, inferred.graph.output, strict=True):
        for dim, known in zip(info.type.tensor_type.shape.dim, found.type.tensor_type.shape.dim, strict=True):
            if not known.HasField("dim_value"):
                dim.Clear()


def has_open_shapes(case: Case) -> bool:
    """Whether the model leaves a size of an output to the data."""
    return any(not d.HasField("dim_value") for o in case.model.graph.output for d in o.type.tensor_type.shape.dim)


def _not_expressible(model: onnx.ModelProto, operator: str, values: list[object]) -> str | None:
    """One of the short list of reasons why a test is no tensor computation that a plugin border could carry."""
    if any(n.domain == TRAINING_DOMAIN for n in model.graph.node):
        return "training operator"
    if operator == "ImageDecoder":
        return "image decoding"
    if operator in RANDOM:
        return "random without seed"
    for info in (*model.graph.input, *model.graph.output):
        kind = info.type.WhichOneof("value")
        if kind == "sequence_type":
            return "sequence"
        if kind == "optional_type":
            return "optional"
        if kind == "tensor_type" and info.type.tensor_type.elem_type == onnx.TensorProto.STRING:
            return "string"
        if kind == "tensor_type":
            try:
                dtypes.from_onnx(info.type.tensor_type.elem_type)
            except UnsupportedError:
                return "element type that no plugin border has (float4, float8, complex, 2-bit)"
    if any(value is None for value in values):
        return "optional"
    return None
