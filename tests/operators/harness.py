"""One operator from ONNX to numbers: node → subgraph → Relax → LLVM → CUDA plan → plugin, against a reference.

The lowered module runs under LLVM before it is scheduled; the generated plugin, compiled for the CPU, runs what the
GPU would run, through TensorRT's plugin interface. Element types that TensorRT has not cross the plugin's border as the
same bits under another type's name, so that the kernels see the operator's own types.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from plugin_autogen import dtypes, releases
from plugin_autogen.codegen.plan import KernelPlan, PluginPlan, launches
from plugin_autogen.codegen.plan_builder import build_plan
from plugin_autogen.dtypes import ElementType
from plugin_autogen.graph.subgraph import BorderTensor, Encoding, Subgraph
from plugin_autogen.lowering.importer import import_subgraph
from plugin_autogen.lowering.legalize import legalize, to_calls
from plugin_autogen.releases import Release
from plugin_autogen.schedule.atomics import order_changes_bits
from plugin_autogen.schedule.default import schedule_module
from plugin_autogen.schedule.target import cuda_target
from plugin_autogen.verify.compare import difference
from plugin_autogen.verify.cpu import decode, encode, run_on_cpu
from plugin_autogen.verify.reference import reference_outputs
from tests.cpu_cuda.runner import CpuPlugin, Sanitizer

Array = np.ndarray

sanitizer = Sanitizer.NONE
"""What watches the kernels; set by pytest's option --sanitizer."""

V2_SHARE = 16
"""One case of so many also runs as a plugin of TensorRT 8."""


@dataclass(frozen=True)
class Lowered:
    """What came out: the outputs on the CPU, the plan for CUDA, and the schedule rule of each TIR function."""

    outputs: list[Array]
    plan: KernelPlan
    rules: tuple[str, ...]

    @property
    def kernels(self) -> int:
        """Launches, each counted once even inside a loop."""
        return len(launches(self.plan.steps))


def check(
    operator: str,
    inputs: Sequence[Array | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    constants: Sequence[int] = (),
    outputs: int | Sequence[bool] = 1,
    opset: int = 21,
    domain: str = "",
    expected: Sequence[Array] | Callable[..., Any] | None = None,
    kernels: int | None = None,
    plugin: bool = True,
    open_shapes: bool = False,
) -> Lowered:
    """Lowers one node and compares every output with the reference: under LLVM, and of the generated plugin.

    Args:
        operator: with `attributes`, `opset` and `domain`, the node.
        inputs: values; None for an optional input that is left out.
        constants: positions of inputs that are initializers of the model; the others are plugin inputs.
        outputs: how many, or for each whether it has a name.
        expected: the outputs, or a function that computes them from the inputs; by default ONNX Runtime's, or where it
            lacks the operator ONNX's reference evaluator's.
        kernels: the most launches that the plan may hold; no function may then be left to the serial rule.
        plugin: whether the plugin runs too; no for sizes that take too long in an emulator.
        open_shapes: state no shapes of the outputs, which is how models have what the data decide.
    """
    subgraph, feeds = single_node(
        operator, inputs, attributes, constants, outputs, opset, domain, expected, open_shapes
    )
    wanted = subgraph.expected
    return lower_and_compare(subgraph.subgraph, feeds, wanted, kernels, plugin)


def lower_and_compare(
    subgraph: Subgraph,
    feeds: Mapping[str, Array],
    wanted: Sequence[Array],
    kernels: int | None = None,
    plugin: bool = True,
) -> Lowered:
    """As `check`, for a subgraph of several nodes."""
    module = import_subgraph(subgraph)
    actual = run_on_cpu(subgraph, module, feeds)
    _compare(actual, wanted, "LLVM")
    target = cuda_target()
    calls = to_calls(legalize(module, target), target)
    functions = schedule_module(calls, target)
    plan = build_plan(subgraph, calls, functions, module, target)
    lowered = Lowered(actual, plan, tuple(f.rule for f in functions.values()))
    if kernels is not None:
        assert "serial" not in lowered.rules, f"left to one thread: {lowered.rules}"
        assert lowered.kernels <= kernels, f"{lowered.kernels} launches: {[x.kernel for x in launches(plan.steps)]}"
    if plugin:
        _compare(run_plugin(subgraph, plan, feeds, releases.release("rtx")), wanted, "plugin")
        if _is_in_v2_share(plan):
            older = releases.release("8")
            _compare(run_plugin(subgraph, plan, feeds, older), wanted, f"plugin of {older.title}")
    return lowered


def run_plugin(
    subgraph: Subgraph, plan: KernelPlan, feeds: Mapping[str, Array], release: Release, **options: Any
) -> list[Array]:
    """The outputs of the generated plugin, compiled for the CPU, in ONNX's types.

    Args:
        feeds: the inputs by name in `subgraph.model`.
        options: of `CpuLibrary.run`.

    Raises:
        CpuCudaError: the source does not compile, the plugin breaks TensorRT's rules, or a kernel those of CUDA.
    """
    options.setdefault("stable", not order_changes_bits(plan.source))
    whole = PluginPlan(subgraph.name, (plan,))
    with tempfile.TemporaryDirectory(prefix="operators-") as folder:
        compiled = CpuPlugin.from_plan(whole, release, Path(folder), sanitizer)
        inputs = [
            encode(feeds[info.name], tensor)
            for info, tensor in zip(subgraph.model.graph.input, subgraph.inputs, strict=True)
        ]
        results = compiled.run(inputs, **options)
    return [decode(result, tensor) for result, tensor in zip(results, subgraph.outputs, strict=False)]


def _compare(actual: Sequence[Array], wanted: Sequence[Array], by: str) -> None:
    for i, (mine, theirs) in enumerate(zip(actual, wanted, strict=True)):
        message = difference(mine, theirs).message
        assert message is None, f"output {i} of the {by}: {message}"


def _is_in_v2_share(plan: KernelPlan) -> bool:
    """Chosen by the kernels, so that the same cases are taken in every run."""
    release = releases.release("8")
    types = {t.dtype for t in (*plan.inputs, *plan.outputs)}
    return all(map(release.takes, types)) and zlib.crc32(plan.source.encode()) % V2_SHARE == 0


@dataclass(frozen=True)
class _Node:
    subgraph: Subgraph
    expected: list[Array]


def single_node(
    operator: str,
    inputs: Sequence[Array | None],
    attributes: Mapping[str, Any] | None,
    constants: Sequence[int],
    outputs: int | Sequence[bool],
    opset: int,
    domain: str,
    expected: Sequence[Array] | Callable[..., Any] | None,
    open_shapes: bool = False,
) -> tuple[_Node, dict[str, Array]]:
    """The node as a subgraph, its inputs by name, and the expected outputs."""
    named = [True] * outputs if isinstance(outputs, int) else list(outputs)
    values = [None if v is None else np.asarray(v) for v in inputs]
    names = ["" if v is None else f"x{i}" for i, v in enumerate(values)]
    results = [f"y{i}" if kept else "" for i, kept in enumerate(named)]
    node = onnx.helper.make_node(operator, names, results, name="node", domain=domain, **(attributes or {}))
    present = {i: v for i, v in enumerate(values) if v is not None}
    graph = onnx.helper.make_graph(
        [node],
        "case",
        [_info(names[i], v) for i, v in present.items() if i not in constants],
        [onnx.helper.make_empty_tensor_value_info(r) for r in results if r],
        [onnx.numpy_helper.from_array(v, names[i]) for i, v in present.items() if i in constants],
    )
    opsets = [onnx.helper.make_opsetid("", opset)]
    if domain:
        version = {"ai.onnx.ml": 5 if operator == "TreeEnsemble" else 3}.get(domain, 1)
        opsets.append(onnx.helper.make_opsetid(domain, version))
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    feeds = {names[i]: v for i, v in present.items() if i not in constants}
    if expected is None:
        wanted = [np.asarray(w) for w in reference_outputs(model, feeds)[0]]
    elif callable(expected):
        found = expected(*values)
        wanted = [np.asarray(w) for w in (found if isinstance(found, (list, tuple)) else [found])]
    else:
        wanted = [np.asarray(w) for w in expected]
    named_results = [r for r in results if r]
    shapes: list[list[int | str]] = [
        [f"{r}_dim{axis}" for axis in range(w.ndim)] if open_shapes else list(w.shape)
        for r, w in zip(named_results, wanted, strict=True)
    ]
    types = [dtypes.from_name(w.dtype.name) for w in wanted]
    del model.graph.output[:]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(r, t.onnx, s) for r, t, s in zip(named_results, types, shapes, strict=True)
    )
    subgraph = Subgraph(
        "tpat_case",
        model,
        tuple(_border(i.name, feeds[i.name]) for i in model.graph.input),
        tuple(border(r, t, s) for r, t, s in zip(named_results, types, shapes, strict=True)),
        ("node",),
        (operator,),
    )
    return _Node(subgraph, wanted), feeds


def _info(name: str, value: Array) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, dtypes.from_name(value.dtype.name).onnx, value.shape)


_SAME_BITS: Mapping[ElementType, ElementType] = {
    dtypes.UINT8: dtypes.INT8,
    dtypes.FLOAT8_E5M2: dtypes.INT8,
    dtypes.INT16: dtypes.FLOAT16,
    dtypes.UINT16: dtypes.FLOAT16,
    dtypes.UINT32: dtypes.INT32,
    dtypes.UINT64: dtypes.INT64,
    dtypes.FLOAT64: dtypes.INT64,
}


def border(name: str, dtype: ElementType, shape: Sequence[int | str]) -> BorderTensor:
    """The tensor as a plugin of ours has it at its border, where possible in its own bits."""
    release = releases.release("rtx")
    if release.takes(dtype):
        return BorderTensor(name, dtype, tuple(shape), dtype)
    if dtype in _SAME_BITS:
        return BorderTensor(name, dtype, tuple(shape), _SAME_BITS[dtype], Encoding.BITS)
    return BorderTensor(name, dtype, tuple(shape), dtypes.INT8, Encoding.CAST)  # four bits


def _border(name: str, value: Array) -> BorderTensor:
    return border(name, dtypes.from_name(value.dtype.name), value.shape)
