"""Dimensions that ONNX wants equal, and that nothing says to be equal before run time: the plugin compares them.

Every plugin runs under AddressSanitizer: sizes that do not go together are refused before anything is launched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plugin_autogen import releases
from plugin_autogen.codegen import expr as ex
from plugin_autogen.codegen.plan import PluginPlan
from plugin_autogen.graph.extract import extract
from plugin_autogen.graph.selection import select
from plugin_autogen.graph.subgraph import Subgraph
from plugin_autogen.lowering import registry
from plugin_autogen.lowering.registry import NodeContext, converter
from plugin_autogen.pipeline import Check, build_plugin_plan
from plugin_autogen.releases import Release
from plugin_autogen.verify.compare import difference
from plugin_autogen.verify.reference import reference_outputs
from tests.cpu_cuda.runner import CpuPlugin, PluginFailure, Sanitizer
from tests.models import FLOAT, INT64, load, model, node

RTX = releases.release("rtx")
Shapes = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Case:
    """A node; sizes with which it runs, and others with a pattern of what the plugin says to them."""

    operator: str
    inputs: Mapping[str, Sequence[Any]]
    good: Sequence[Shapes]
    bad: Sequence[tuple[Shapes, str]]
    constants: Mapping[str, np.ndarray] | None = None
    attributes: Mapping[str, Any] | None = None
    release: Release = RTX

    def subgraph(self, folder: Path) -> Subgraph:
        names = " ".join((*self.inputs, *(self.constants or {})))
        rank = {"Reshape": 2, "Split": 1}.get(self.operator, len(next(iter(self.inputs.values()))))
        outputs = ["out", "rest"] if self.operator == "Split" else ["out"]
        proto = model(
            [node(self.operator, names, " ".join(outputs), "n", **(self.attributes or {}))],
            {name: (FLOAT, shape) for name, shape in self.inputs.items()},
            {name: (FLOAT, [None] * rank) for name in outputs},
            self.constants,
            opset=21,
            ir_version=10,
        )
        loaded = load(proto, folder)
        return extract(loaded, select(loaded, ["n"]), self.release, allow_symbolic=True).subgraphs[0]


CASES = {
    "broadcast": Case(
        "Add",
        {"x": ["a", "b"], 'y"??/%s\\': ["c"]},
        [[(3, 5), (5,)], [(3, 5), (1,)], [(3, 1), (5,)], [(3, 0), (1,)]],
        [
            (
                [(3, 5), (4,)],
                r'dimension 0 of input 1 \(y"\?\?/%s\\\) is 4, it must be 5 or 1, for .*input 0 \(x\)',
            ),
            ([(3, 5), (0,)], r"is 0, it must be 5 or 1"),
        ],
    ),
    "product": Case(
        "Gemm",
        {"x": ["a", "b"], "w": ["c", "d"], "bias": ["e"]},
        [[(3, 5), (5, 7), (7,)], [(3, 5), (5, 7), (1,)]],
        [
            (
                [(3, 5), (4, 7), (7,)],
                r"tpat_n: dimension 0 of input 1 \(w\) is 4, it must be 5, for dimension 1 of inp",
            ),
            (
                [(3, 5), (1, 7), (7,)],
                r"dimension 0 of input 1 \(w\) is 1, it must be 5, for dimension 1 of input 0 \(x\)",
            ),
            (
                [(3, 5), (5, 7), (6,)],
                r"dimension 0 of input 2 \(bias\) is 6, it must be 7 or 1, for dimension 1 of input 1",
            ),
        ],
    ),
    "weights": Case(
        "MatMul",
        {"x": ["a", "b"]},
        [[(3, 4)]],
        [
            ([(3, 5)], r"is 5, it must be 4, which the plugin was generated for"),
            ([(3, 3)], r"is 3, it must be 4, which the plugin was generated for"),
        ],
        constants={"w": np.ones((4, 2), np.float32)},
    ),
    "other_axes": Case(
        "Concat",
        {"x": ["a", "b"], "y": ["c", "d"]},
        [[(3, 5), (2, 5)], [(0, 5), (2, 5)]],
        [([(3, 5), (2, 4)], r"dimension 1 of input 1 \(y\) is 4, it must be 5, for dimension 1 of input 0 \(x\)")],
        attributes={"axis": 0},
    ),
    "other_axes_of_tensorrt_8": Case(
        "Concat",
        {"x": ["a", "b"], "y": ["c", "d"]},
        [[(3, 5), (2, 5)]],
        [([(3, 5), (2, 4)], r"dimension 1 of input 1 \(y\) is 4, it must be 5")],
        attributes={"axis": 0},
        release=releases.release("8"),
    ),
    "elements": Case(
        "Reshape",
        {"x": ["a", "b"]},
        [[(3, 4)], [(2, 2)], [(0, 3)]],
        [
            (
                [(3, 5)],
                r"a size given by dimension 0 of input 0 \(x\) and dimension 1 of input 0 \(x\) is 12, it must be 15",
            )
        ],
        constants={"s": np.array([-1, 4])},
    ),
    "parts": Case(
        "Split",
        {"x": ["a"]},
        [[(7,)]],
        [([(6,)], r"is 7, it must be at most 6, for dimension 0 of input 0 \(x\)")],
        constants={"s": np.array([3, 4])},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_sizes_that_do_not_go_together_are_refused(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    subgraph = case.subgraph(tmp_path)
    plan, _ = build_plugin_plan(subgraph, Check.OFF)
    compiled = CpuPlugin.from_plan(plan, case.release, tmp_path, Sanitizer.ADDRESS)
    for shapes in case.good:
        inputs = [np.random.default_rng(0).standard_normal(shape).astype(np.float32) for shape in shapes]
        feeds = dict(zip((i.name for i in subgraph.model.graph.input), inputs, strict=True))
        expected, _ = reference_outputs(subgraph.model, feeds)
        for actual, wanted in zip(compiled.run(inputs), expected, strict=True):
            assert difference(actual, wanted).message is None
    for shapes, message in case.bad:
        with pytest.raises(PluginFailure, match=message):
            compiled.run([np.ones(shape, np.float32) for shape in shapes])


def _requirements(plan: PluginPlan) -> list[tuple[str, str, str]]:
    return [(ex.to_cpp(r.size), r.relation.value, ex.to_cpp(r.other)) for r in plan.default.requirements]


def _plan(
    folder: Path, operator: str, inputs: Mapping[str, Any], constants: Mapping[str, Any] | None = None
) -> PluginPlan:
    types = {name: shape if isinstance(shape, tuple) else (FLOAT, shape) for name, shape in inputs.items()}
    nodes = [
        node(operator, " ".join((*types, *(constants or {}))), "out", "n", domain="mine" if operator == "Rows" else "")
    ]
    proto = model(nodes, types, {"out": (FLOAT, ["a", "b"])}, constants, opset=21, ir_version=10, domains={"mine": 1})
    loaded = load(proto, folder)
    subgraph = extract(loaded, select(loaded, ["n"]), RTX, allow_symbolic=True).subgraphs[0]
    return build_plugin_plan(subgraph, Check.OFF)[0]


def test_what_a_name_says_is_not_compared_twice(tmp_path: Path) -> None:
    assert _requirements(_plan(tmp_path, "Add", {"x": ["a", "b"], "y": ["a", "b"]})) == []


def test_indices_may_be_fewer_than_what_they_choose_from(tmp_path: Path) -> None:
    plan = _plan(tmp_path, "GatherElements", {"x": ["a", "b"], "i": (INT64, ["c", "d"])})
    assert _requirements(plan) == [("d3", "at most", "d1")]


def test_a_converter_of_the_users_may_read_the_first_rows_of_a_table(tmp_path: Path) -> None:
    with registry.restored():

        @converter("Rows", domain="mine")
        def rows(context: NodeContext) -> Any:
            from tvm import te

            return context.te(lambda x, table: te.compute(x.shape, lambda i, j: x[i, j] + table[i, j]), *context.inputs)

        plan = _plan(tmp_path, "Rows", {"x": ["a", "b"], "table": ["c", "b"]})
    assert _requirements(plan) == [("d0", "at most", "d2")]
