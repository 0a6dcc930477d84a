"""How far a node test is taken: through the lowering alone, or up to the generated plugin's own `enqueue`.

Each stage is called with a test's name and returns its result: `pass`, what went wrong in one line, or
`not expressible: …` with one of the reasons in `cases`.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from plugin_autogen import dtypes, releases
from plugin_autogen.releases import Interface
from plugin_autogen.schedule.atomics import order_changes_bits
from tests.conformance import cases

if TYPE_CHECKING:
    from plugin_autogen.codegen.plan import PluginPlan
    from plugin_autogen.graph.extract import Extraction
    from plugin_autogen.graph.subgraph import BorderTensor
    from plugin_autogen.releases import Release
    from tests.cpu_cuda.runner import OutputSpec

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
    build_plan(subgraph, calls, functions, module, target)
    return "pass"


def plugin_v3(name: str, keep: Path | None = None) -> str:
    """The test through the generated plugin as IPluginV3, with TensorRT-RTX's types at the borders."""
    return plugin(name, releases.release("rtx"), keep)


def plugin_v2(name: str, keep: Path | None = None) -> str:
    """The test through the generated plugin as IPluginV2DynamicExt, with TensorRT 8's types at the borders."""
    return plugin(name, releases.release("8"), keep)


def plugin(name: str, release: Release, keep: Path | None = None) -> str:
    """The test through every stage of the pipeline, all its nodes one plugin, compiled for the CPU and enqueued.

    Args:
        keep: a folder where the plugin's sources and the request to its host stay, for a run on a GPU.
    """
    from plugin_autogen.pipeline import Check, build_plugin_plan

    case = cases.load(name, real_sizes=release.interface is Interface.V3)
    if case.reason is not None:
        return f"not expressible: {case.reason}"
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        scratch = Path(folder)
        extraction = extract_whole(case, release, scratch)
        plan, *_ = build_plugin_plan(extraction.subgraphs[0], Check.OFF, interface=release.interface)
        test = PluginTest(case, extraction)
        if message := test.wrong_types():
            return message
        if keep is not None:
            _keep(test, plan, keep / name)
        return test.result(run_plugin(test, plan, scratch))


def extract_whole(case: cases.Case, release: Release, scratch: Path) -> Extraction:
    """All nodes of the test's model, saved and loaded as a user's would be, as one plugin."""
    from plugin_autogen.graph.extract import extract
    from plugin_autogen.graph.model import load_model
    from plugin_autogen.graph.selection import PluginRequest

    path = scratch / "model.onnx"
    onnx.save(case.model, path)
    model = load_model(path)
    request = PluginRequest(f"tpat_{re.sub(r'[^A-Za-z0-9_]', '_', case.name)}"[:120], tuple(model.node_keys))
    is_dynamic = cases.has_open_shapes(case) or bool(case.shapes)
    return extract(model, [request], release, allow_symbolic=is_dynamic, in_network=False)


@dataclass(frozen=True)
class PluginTest:
    """A node test at the borders of its plugin."""

    case: cases.Case
    extraction: Extraction

    def _outputs(self) -> list[tuple[str, BorderTensor, Array | None]]:
        """For each output of the plugin: its name in the model, what it is, and what it must hold, if that counts."""
        (subgraph,), (use,) = self.extraction.subgraphs, self.extraction.uses
        expected = dict(zip((o.name for o in self.case.model.graph.output), self.case.outputs, strict=True))
        return [(name, b, expected.get(name)) for name, b in zip(use.outputs, subgraph.outputs, strict=True)]

    def wrong_types(self) -> str | None:
        """What is wrong with the plugin's outputs before it runs."""
        found = self._outputs()
        names = {name for name, _, _ in found}
        for output in self.case.model.graph.output:
            if output.name not in names:
                return f"the plugin lacks the output {output.name}"
        for _, border, theirs in found:
            if theirs is not None and border.dtype.numpy != theirs.dtype:
                return f"output {border.name}: element type {border.dtype}, expected {theirs.dtype}"
        return None

    def specs(self, plan: PluginPlan | None = None) -> list[OutputSpec]:
        """The host fails a plugin whose own getOutputDataTypes or getOutputShapes say something else.

        Only which sizes the data decide is the plan's word (none without it): the others must be the test's.
        """
        from plugin_autogen.codegen.expr import Symbol
        from tests.cpu_cuda.runner import OutputSpec

        sizes = plan.default.data_sizes if plan is not None else ()
        shapes = {i: t.shape for i, t in enumerate(plan.default.outputs)} if plan is not None else {}
        decided = {Symbol(size.symbol): -1 - size.output for size in sizes}
        specs = []
        for i, (_, b, theirs) in enumerate(self._outputs()):
            stated = theirs.shape if theirs is not None else tuple(int(d) for d in b.shape)
            planned = shapes.get(i, (None,) * len(stated))
            shape = tuple(decided.get(d, size) for d, size in zip(planned, stated, strict=True))
            specs.append(OutputSpec(b.border_dtype, shape))
        return specs + [OutputSpec(dtypes.INT64, ())] * len(sizes)

    def inputs(self) -> list[Array]:
        from plugin_autogen.verify.cpu import encode

        return [encode(value, b) for value, b in self._given() if not b.is_shape]

    def shapes(self) -> list[Array]:
        """The values of shape tensors."""
        return [value for value, b in self._given() if b.is_shape]

    def _given(self) -> list[tuple[Array, BorderTensor]]:
        (subgraph,), (use,) = self.extraction.subgraphs, self.extraction.uses
        return [(self.case.inputs[n], b) for n, b in zip(use.inputs, subgraph.inputs, strict=True)]

    def result(self, actual: Sequence[Array]) -> str:
        """ "pass", or the first difference from what ONNX states."""
        from plugin_autogen.verify.cpu import decode

        for (name, border, theirs), mine in zip(self._outputs(), actual, strict=False):
            if theirs is not None and (message := _border_mismatch(self.case, border, decode(mine, border), theirs)):
                return f"output {name}: {message}"
        return "pass"


def run_plugin(test: PluginTest, plan: PluginPlan, scratch: Path) -> list[Array]:
    """The generated plugin's outputs, from the emulated device.

    Raises:
        CpuCudaError: the source does not compile, the plugin breaks TensorRT's rules, or a kernel those of CUDA: every
            access to memory is checked for its bounds and for races.
    """
    from tests.cpu_cuda.runner import CpuPlugin, Sanitizer

    compiled = CpuPlugin.from_plan(plan, test.extraction.release, scratch, Sanitizer.CHECK)
    stable = not any(order_changes_bits(variant.source) for variant in plan.variants)
    return compiled.run(
        test.inputs(), test.specs(plan), fingerprint=plan.fingerprint, stable=stable, shapes=test.shapes()
    )


def result_of_response(name: str, release: Release, content: bytes, scratch: Path) -> str:
    """What a host's response says of the test."""
    from plugin_autogen.pipeline import Check, build_plugin_plan
    from tests.cpu_cuda.runner import decode_responses

    case = cases.load(name)
    test = PluginTest(case, extract_whole(case, release, scratch))
    (subgraph,) = test.extraction.subgraphs
    plan = build_plugin_plan(subgraph, Check.OFF)[0] if cases.has_open_shapes(case) else None
    # whether two runs may differ is known to the plan alone: the emulated device has seen to that
    (response,) = decode_responses(subgraph.name, content, [test.specs(plan)], stable=False)
    return test.result(response.outputs)


def _keep(test: PluginTest, plan: PluginPlan, folder: Path) -> None:
    from plugin_autogen.codegen.render import render_library, render_plugin
    from tests.cpu_cuda.runner import Call, encode_request

    release = test.extraction.release
    files = {**render_plugin(plan, release), **render_library(plan.name, [plan.name], release)}
    for name, content in files.items():
        path = folder / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    request = encode_request(plan.name, [Call(test.inputs(), test.specs(plan), shapes=test.shapes())], plan.fingerprint)
    (folder / "request").write_bytes(request)
    (folder / "plugin.json").write_text(json.dumps({"name": plan.name}))


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
