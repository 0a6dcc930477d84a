"""How far a node test is taken: through the lowering alone, or up to the generated plugin's own `enqueue`.

Each stage is called with a test's name and returns its result: `pass`, what went wrong in one line, or
`not expressible: …` with one of the reasons in `cases`.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from plugin_autogen import releases
from plugin_autogen.schedule.atomics import order_changes_bits
from tests.conformance import cases

if TYPE_CHECKING:
    from plugin_autogen.codegen.plan import PluginPlan
    from plugin_autogen.graph.extract import Extraction
    from plugin_autogen.graph.subgraph import BorderTensor
    from plugin_autogen.releases import Release

Array = np.ndarray[Any, Any]


def lowering(name: str) -> str:
    """The test through import, LLVM, scheduling and plan, with borders in ONNX's own types."""
    from plugin_autogen.codegen.plan_builder import build_plan
    from plugin_autogen.lowering.importer import import_subgraph
    from plugin_autogen.lowering.legalize import legalize, to_calls
    from plugin_autogen.schedule.default import schedule_module
    from plugin_autogen.schedule.target import cuda_target
    from plugin_autogen.verify.cpu import run_on_cpu

    case = cases.load(name)
    if case.reason is not None:
        return f"not expressible: {case.reason}"
    subgraph = cases.subgraph(case)
    module = import_subgraph(subgraph)
    actual = run_on_cpu(subgraph, module, case.inputs)
    for i, (mine, theirs) in enumerate(zip(actual, case.outputs, strict=True)):
        if message := _mismatch(case, mine, theirs):
            return f"output {i}: {message}"
    target = cuda_target()
    calls = to_calls(legalize(module, target), target)
    functions = schedule_module(calls, target)
    build_plan(subgraph, calls, functions, module.symbols, target)
    return "pass"


def plugin_v3(name: str) -> str:
    """The test through the generated plugin as IPluginV3, with TensorRT-RTX's types at the borders."""
    return plugin(name, releases.release("rtx"))


def plugin_v2(name: str) -> str:
    """The test through the generated plugin as IPluginV2DynamicExt, with TensorRT 8's types at the borders."""
    return plugin(name, releases.release("8"))


def plugin(name: str, release: Release) -> str:
    """The test through every stage of the pipeline, all its nodes one plugin, compiled for the CPU and enqueued."""
    from plugin_autogen.pipeline import Check, build_plugin_plan

    case = cases.load(name)
    if case.reason is not None:
        return f"not expressible: {case.reason}"
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        scratch = Path(folder)
        extraction = extract_whole(case, release, scratch)
        plan, _ = build_plugin_plan(extraction.subgraphs[0], Check.OFF)
        return run_plugin(case, extraction, plan, scratch)


def extract_whole(case: cases.Case, release: Release, scratch: Path) -> Extraction:
    """All nodes of the test's model, saved and loaded as a user's would be, as one plugin."""
    from plugin_autogen.graph.extract import extract
    from plugin_autogen.graph.model import load_model
    from plugin_autogen.graph.selection import PluginRequest

    path = scratch / "model.onnx"
    onnx.save(case.model, path)
    model = load_model(path)
    request = PluginRequest(f"tpat_{re.sub(r'[^A-Za-z0-9_]', '_', case.name)}"[:120], tuple(model.node_keys))
    return extract(model, [request], release, in_network=False)


def run_plugin(case: cases.Case, extraction: Extraction, plan: PluginPlan, scratch: Path) -> str:
    """Compiles the plan for the CPU, runs the plugin on the test's inputs, and compares every output.

    Raises:
        CpuCudaError: the source does not compile, the plugin breaks TensorRT's rules, or a kernel those of CUDA: every
            access to memory is checked for its bounds and for races.
    """
    from plugin_autogen.verify.cpu import decode, encode
    from tests.cpu_cuda.runner import CpuPlugin, OutputSpec, Sanitizer

    (subgraph,) = extraction.subgraphs
    (use,) = extraction.uses
    expected = dict(zip((o.name for o in case.model.graph.output), case.outputs, strict=True))
    if missing := [name for name in expected if name not in use.outputs]:
        return f"the plugin lacks the output {missing[0]}"
    for border, theirs in zip(subgraph.outputs, (expected.get(name) for name in use.outputs), strict=True):
        if theirs is not None and border.dtype.numpy != theirs.dtype:
            return f"output {border.name}: element type {border.dtype}, expected {theirs.dtype}"
    # The host fails a plugin whose own getOutputDataTypes or getOutputShapes say something else.
    specs = [
        OutputSpec(b.border_dtype, expected[n].shape if n in expected else tuple(int(d) for d in b.shape))
        for n, b in zip(use.outputs, subgraph.outputs, strict=True)
    ]
    compiled = CpuPlugin.from_plan(plan, extraction.release, scratch, Sanitizer.CHECK)
    inputs = [encode(case.inputs[n], b) for n, b in zip(use.inputs, subgraph.inputs, strict=True)]
    stable = not any(order_changes_bits(variant.source) for variant in plan.variants)
    actual = compiled.run(inputs, specs, fingerprint=plan.fingerprint, stable=stable)
    for name, border, mine in zip(use.outputs, subgraph.outputs, actual, strict=True):
        if name in expected and (message := _border_mismatch(case, border, decode(mine, border), expected[name])):
            return f"output {name}: {message}{_lost_inputs(case, extraction)}"
    return "pass"


def _lost_inputs(case: cases.Case, extraction: Extraction) -> str:
    """Which inputs came to the plugin with other values, as an addition to the cause of a failure."""
    from plugin_autogen.verify.cpu import decode, encode

    (subgraph,) = extraction.subgraphs
    (use,) = extraction.uses
    lost = []
    for name, border in zip(use.inputs, subgraph.inputs, strict=True):
        value = case.inputs[name]
        arrived = decode(encode(value, border), border)
        if not np.array_equal(arrived, value, equal_nan=border.dtype.is_float):
            lost.append(f"; input {name} crosses as {border.border_dtype}, which does not hold all its values")
    return "".join(lost)


def _border_mismatch(case: cases.Case, border: BorderTensor, mine: Array, theirs: Array) -> str | None:
    """As `_mismatch`, to the tolerance of the border's type where that is the narrower one (double as float)."""
    if mine.dtype == theirs.dtype and border.dtype.is_float and border.border_dtype.bits < border.dtype.bits:
        with np.errstate(over="ignore"):
            mine, theirs = (v.astype(border.border_dtype.numpy) for v in (mine, theirs))
    return _mismatch(case, mine, theirs)


def _mismatch(case: cases.Case, mine: Array, theirs: Array) -> str | None:
    """What differs: types and shapes exactly, values to the tolerance of the element type.

    Where that fails the test's own tolerance decides: some tests state their results with four digits.
    """
    from plugin_autogen.verify.compare import difference

    message = difference(mine, theirs).message
    if message is not None and _within_own_tolerance(case, mine, theirs):
        return None
    return message


def _within_own_tolerance(case: cases.Case, mine: Array, theirs: Array) -> bool:
    if mine.dtype != theirs.dtype or mine.shape != theirs.shape or mine.dtype not in (np.float32, np.float64):
        return False
    return bool(np.allclose(mine, theirs, case.rtol, case.atol, equal_nan=True))
