"""Runs a rewritten model without a GPU: ONNX Runtime for what stayed, the generated plugins for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper

from plugin_autogen.codegen.plan import PluginPlan
from plugin_autogen.graph.extract import Extraction
from plugin_autogen.graph.rewrite import DOMAIN
from tests.cpu_cuda.runner import CpuLibrary, output_specs

Run = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]


def cpu_plugins(extraction: Extraction, plans: dict[str, PluginPlan], scratch: Path) -> dict[str, Run]:
    """Every plugin compiled for the CPU in one library, each behind a function."""
    library = CpuLibrary.from_plans("plugins", list(plans.values()), extraction.release, scratch)

    def runner(plan: PluginPlan) -> Run:
        return lambda inputs: (
            library.run(plan.name, inputs, output_specs(plan, inputs), fingerprint=plan.fingerprint).outputs
        )

    return {name: runner(plan) for name, plan in plans.items()}


def run_chain(
    model: onnx.ModelProto, plugins: Mapping[str, Run], inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Outputs of the rewritten model by name.

    Args:
        model: what `rewrite` made; its nodes are in topological order.
        plugins: plugin name → what computes it from arrays in border types.
        inputs: the graph's inputs by name.
    """
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer} | dict(inputs)
    outputs = [o.name for o in model.graph.output]
    remaining = list(_segments(model))
    for i, segment in enumerate(remaining):
        if segment[0].domain == DOMAIN:
            node = segment[0]
            results = plugins[node.op_type]([values[name] for name in node.input])
            values.update(zip(node.output, results, strict=True))
        else:
            later = {name for nodes in remaining[i + 1 :] for node in nodes for name in node.input}
            values.update(_run_segment(model, segment, values, later | set(outputs)))
    return {name: values[name] for name in outputs}


def _segments(model: onnx.ModelProto) -> Iterator[list[onnx.NodeProto]]:
    """Each plugin's node alone, and what lies between them together."""
    native: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.domain != DOMAIN:
            native.append(node)
            continue
        if native:
            yield native
        native = []
        yield [node]
    if native:
        yield native


def _run_segment(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], values: Mapping[str, np.ndarray], wanted: set[str]
) -> dict[str, np.ndarray]:
    import onnxruntime as ort

    made = {name for node in nodes for name in node.output if name}
    read = {name for node in nodes for name in node.input if name and name not in made}
    results = sorted(made & wanted)

    def info(name: str, array: np.ndarray | None) -> onnx.ValueInfoProto:
        if array is None:
            return onnx.helper.make_empty_tensor_value_info(name)
        return onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), list(array.shape)
        )

    graph = onnx.helper.make_graph(
        list(nodes), "segment", [info(n, values[n]) for n in sorted(read)], [info(n, None) for n in results]
    )
    segment = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    session = ort.InferenceSession(segment.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(results, session.run(results, {n: values[n] for n in read}), strict=True))
