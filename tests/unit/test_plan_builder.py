"""Plans read from lowered subgraphs, and what the default schedules make of them."""

from __future__ import annotations

import numpy as np
import pytest

from plugin_autogen import pipeline, releases
from plugin_autogen.codegen import expr as ex
from plugin_autogen.codegen import plan as p
from plugin_autogen.codegen.plan import Copy, KernelPlan, Launch, Space
from plugin_autogen.graph.extract import extract
from plugin_autogen.graph.model import load_model
from plugin_autogen.graph.selection import PluginRequest
from plugin_autogen.pipeline import Check
from tests.models import FLOAT, model, node


@pytest.fixture
def plan_of(tmp_path):  # type: ignore[no-untyped-def]
    """Plans all nodes of a model as one plugin."""
    import onnx

    def plan(proto: onnx.ModelProto, symbolic: bool = False) -> KernelPlan:
        onnx.save(proto, tmp_path / "model.onnx")
        loaded = load_model(tmp_path / "model.onnx")
        request = PluginRequest("tpat_test", tuple(loaded.node_keys))
        extraction = extract(loaded, [request], releases.release("10"), allow_symbolic=symbolic)
        return pipeline.build_plugin_plan(extraction.subgraphs[0], Check.OFF)[0].default

    return plan


def test_an_elementwise_chain_is_one_kernel(plan_of) -> None:  # type: ignore[no-untyped-def]
    nodes = [node("Relu", "x", "a", "n0"), node("Exp", "a", "b", "n1"), node("Mul", "b x", "y", "n2")]
    plan = plan_of(model(nodes, {"x": (FLOAT, [8, 9])}, {"y": (FLOAT, [8, 9])}))
    assert len(plan.kernels) == 1
    assert plan.workspace == ex.ZERO
    (launch,) = plan.steps
    assert isinstance(launch, Launch)
    assert {a.space for a in launch.arguments} == {Space.INPUT, Space.OUTPUT}
    assert plan.kernels[0].name in plan.source


def test_kernel_names_carry_the_plugins_name(plan_of) -> None:  # type: ignore[no-untyped-def]
    plan = plan_of(model([node("Relu", "x", "y", "n")], {"x": (FLOAT, [5])}, {"y": (FLOAT, [5])}))
    assert all(kernel.name.startswith("tpat_test_k") for kernel in plan.kernels)


def test_constants_are_kept_as_bytes(plan_of) -> None:  # type: ignore[no-untyped-def]
    weight = np.arange(12, dtype=np.float32).reshape(4, 3)
    plan = plan_of(
        model([node("MatMul", "x w", "y", "n")], {"x": (FLOAT, [2, 4])}, {"y": (FLOAT, [2, 3])}, {"w": weight})
    )
    assert [c.data for c in plan.constants] == [weight.tobytes()]
    assert [c.shape for c in plan.constants] == [(4, 3)]


def test_an_output_that_is_an_input_is_copied(plan_of) -> None:  # type: ignore[no-untyped-def]
    nodes = [node("Relu", "x", "y", "n0"), node("Identity", "y", "z", "n1")]
    plan = plan_of(model(nodes, {"x": (FLOAT, [6])}, {"y": (FLOAT, [6]), "z": (FLOAT, [6])}))
    written = [a for s in p.launches(plan.steps) for a in s.arguments] + [
        s.destination for s in plan.steps if isinstance(s, Copy)
    ]
    assert {a.index for a in written if isinstance(a, p.BufferRef) and a.space is Space.OUTPUT} == {0, 1}


def test_intermediates_share_the_workspace(plan_of) -> None:  # type: ignore[no-untyped-def]
    nodes = [node("MatMul", f"v{i} w", f"v{i + 1}", f"n{i}") for i in range(6)]
    proto = model(nodes, {"v0": (FLOAT, [64, 64])}, {"v6": (FLOAT, [64, 64])}, {"w": np.eye(64, dtype=np.float32)})
    plan = plan_of(proto)
    assert len(p.launches(plan.steps)) == 6
    assert len(plan.constants) == 1, "equal constants are kept once"
    assert plan.workspace == ex.Const(2 * 64 * 64 * 4), "five intermediates take turns in two places"


def test_symbolic_dimensions_are_scalars_of_the_kernels(plan_of) -> None:  # type: ignore[no-untyped-def]
    proto = model([node("Softmax", "x", "y", "n")], {"x": (FLOAT, ["rows", 33])}, {"y": (FLOAT, ["rows", 33])})
    plan = plan_of(proto, symbolic=True)
    (dimension,) = plan.dimensions
    assert (dimension.input, dimension.axis) == (0, 0)
    assert plan.outputs[0].shape == (ex.Symbol(dimension.symbol), ex.Const(33))
    for launch in p.launches(plan.steps):
        assert ex.evaluate(launch.grid[0], {dimension.symbol: 1000}) >= 1


def test_a_reduction_of_everything_uses_many_threads(plan_of) -> None:  # type: ignore[no-untyped-def]
    proto = model([node("ReduceMax", "x", "y", "n", keepdims=0)], {"x": (FLOAT, [512, 64])}, {"y": (FLOAT, [])})
    plan = plan_of(proto)
    assert any(ex.evaluate(launch.block[0], {}) >= 256 for launch in p.launches(plan.steps))


def test_source_has_no_hexadecimal_floats(plan_of) -> None:  # type: ignore[no-untyped-def]
    proto = model([node("ReduceMax", "x", "y", "n", keepdims=0)], {"x": (FLOAT, [64])}, {"y": (FLOAT, [])})
    assert "p+" not in plan_of(proto).source


def test_the_fingerprint_follows_what_is_computed(plan_of) -> None:  # type: ignore[no-untyped-def]
    def fingerprint(value: float) -> str:
        proto = model(
            [node("Mul", "x c", "y", "n")],
            {"x": (FLOAT, [5])},
            {"y": (FLOAT, [5])},
            {"c": np.full(5, value, np.float32)},
        )
        return p.PluginPlan("tpat_test", (plan_of(proto),)).fingerprint

    assert fingerprint(1.5) == fingerprint(1.5)
    assert fingerprint(1.5) != fingerprint(1.25)
