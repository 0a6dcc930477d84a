"""`plugin_autogen inspect`: the nodes of a model, what the target TensorRT takes, and what could be generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plugin_autogen import dtypes
from plugin_autogen.errors import UnsupportedError
from plugin_autogen.graph.model import Model, is_default_domain
from plugin_autogen.releases import Release

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class NodeReport:
    """One node of the main graph.

    Attributes:
        name: as `-n` and `-p` take it.
        operator: `Softmax`, or `domain::Operator`.
        inputs: each as `float32 1x3x?`; "" for one that is left out.
        outputs: likewise.
        supported: whether the target TensorRT imports it.
        reason: why not; None where it does.
        lowered_by: what a plugin of it would be generated from (`converter`, `function body`, …); None: nothing.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    supported: bool
    reason: str | None
    lowered_by: str | None


@dataclass(frozen=True)
class Inspection:
    """What `inspect` tells.

    Attributes:
        model: the file.
        opsets: version of each domain, ONNX's own as "".
        judge: who says what is supported: a parser or a table.
        nodes: in the graph's order.
        warnings: one line each.
    """

    model: Path
    opsets: dict[str, int]
    judge: str
    nodes: tuple[NodeReport, ...]
    warnings: tuple[str, ...]


def inspect(path: Path, release: Release, converters: Sequence[Path] = ()) -> Inspection:
    """Looks at a model; generates nothing.

    Args:
        path: the model.
        release: the TensorRT that is asked or looked up.
        converters: the user's Python files of converters.

    Raises:
        ModelError: the file is no model.
        ConverterError: a file of converters is missing or fails.
    """
    from plugin_autogen.lowering import custom

    with custom.converters(converters) as functions:
        return _inspect(path, release, functions)


def _inspect(path: Path, release: Release, functions: Sequence[onnx.FunctionProto]) -> Inspection:
    from plugin_autogen.graph.model import load_model
    from plugin_autogen.graph.support import find_support
    from plugin_autogen.lowering.custom import output_types
    from plugin_autogen.lowering.importer import lowered_by

    model = load_model(path, functions, output_types)
    support = find_support(model, release)
    nodes = []
    for key, node in zip(model.node_keys, model.proto.graph.node, strict=True):
        nodes.append(
            NodeReport(
                name=key,
                operator=node.op_type if is_default_domain(node.domain) else f"{node.domain}::{node.op_type}",
                inputs=_shown(model, node.input),
                outputs=_shown(model, node.output),
                supported=key not in support.refused,
                reason=support.refused.get(key),
                lowered_by=lowered_by(node, model.opsets, model.proto.functions),
            )
        )
    return Inspection(path, dict(model.opsets), support.judge, tuple(nodes), tuple(model.warnings))


def _shown(model: Model, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(_tensor(model, name) if name else "" for name in names)


def _tensor(model: Model, name: str) -> str:
    value = model.value(name)
    if value.kind != "tensor":
        return value.kind
    try:
        dtype = dtypes.from_onnx(value.dtype).name if value.dtype else "?"
    except UnsupportedError:
        dtype = _onnx_name(value.dtype)
    if value.shape is None:
        return f"{dtype} of unknown rank"
    return f"{dtype} {'x'.join('?' if d is None else str(d) for d in value.shape) or 'scalar'}"


def _onnx_name(dtype: int) -> str:
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(dtype)).lower() if dtype in TensorProto.DataType.values() else "?"
