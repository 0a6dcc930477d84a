"""Shapes that are known when the plugin runs, as TensorRT's shape tensors: one plugin, many shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from plugin_autogen import generate, releases
from plugin_autogen.codegen.plan import PluginPlan
from plugin_autogen.errors import UnsupportedError
from plugin_autogen.graph.extract import extract
from plugin_autogen.graph.selection import PluginRequest
from plugin_autogen.pipeline import Check, build_plugin_plan
from plugin_autogen.verify.compare import difference
from plugin_autogen.verify.reference import reference_outputs
from tests.cpu_cuda.runner import Call, CpuPlugin, PluginFailure, output_specs
from tests.models import FLOAT, INT32, INT64, load, model, node
from tests.operators import harness

RTX = releases.release("rtx")
RNG = np.random.default_rng(0)
Array = np.ndarray
OPEN = (None,) * 3


def answers(proto: onnx.ModelProto, feeds: Sequence[Mapping[str, Array]], folder: Path) -> PluginPlan:
    """All nodes of the model as one plugin, compiled once, gives the reference's outputs for all the inputs."""
    loaded = load(proto, folder)
    request = PluginRequest("tpat_group", tuple(loaded.node_keys))
    (subgraph,) = extract(loaded, [request], RTX, allow_symbolic=True, in_network=False).subgraphs
    plugin, checked = build_plugin_plan(subgraph, Check.CPU)
    assert len(checked) == 1
    compiled = CpuPlugin.from_plan(plugin, RTX, folder, harness.sanitizer)
    calls = []
    for given in feeds:
        inputs = [given[t.name] for t in subgraph.inputs if not t.is_shape]
        shapes = [given[t.name] for t in subgraph.inputs if t.is_shape]
        calls.append(Call(inputs, output_specs(plugin, inputs, shapes), shapes=shapes))
    results = compiled.library.run_many(plugin.name, calls, fingerprint=plugin.fingerprint)
    names = [o.name for o in proto.graph.output]
    for given, result in zip(feeds, results, strict=True):
        wanted = dict(zip(names, reference_outputs(proto, dict(given))[0], strict=True))
        for tensor, mine in zip(subgraph.outputs, result.outputs, strict=True):
            message = difference(mine, wanted[tensor.name]).message
            assert message is None, (
                f"{tensor.name} for {[v.tolist() for v in given.values() if v.dtype == np.int64]}: {message}"
            )
    return plugin


def draw(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def test_reshape(tmp_path: Path) -> None:
    proto = model(
        [node("Reshape", "x shape", "r"), node("Softmax", "r", "y", axis=-1)],
        {"x": (FLOAT, ["a", "b"]), "shape": (INT64, [3])},
        {"y": (FLOAT, OPEN)},
    )
    shapes = [(2, 3, 4), (-1, 3, 4), (2, -1, 2), (0, 2, -1), (0, 0, 1), (1, 1, -1), (24, 1, 1)]
    feeds = [{"x": draw(4, 6), "shape": np.array(s)} for s in shapes if s != (0, 0, 1)]
    feeds += [{"x": draw(4, 6), "shape": np.array((0, 0, 1))}, {"x": draw(1, 1), "shape": np.array((1, -1, 1))}]
    plugin = answers(proto, feeds, tmp_path)
    assert [s.name for s in plugin.default.shape_inputs] == ["shape"]
    assert [(r.output, r.axis) for r in plugin.default.resolved] == [(0, 0), (0, 1), (0, 2)]


def test_another_number_of_elements_is_refused_before_anything_runs(tmp_path: Path) -> None:
    proto = model(
        [node("Reshape", "x shape", "y")], {"x": (FLOAT, ["a", 6]), "shape": (INT64, [2])}, {"y": (FLOAT, [None, None])}
    )
    loaded = load(proto, tmp_path)
    request = PluginRequest("tpat_group", tuple(loaded.node_keys))
    (subgraph,) = extract(loaded, [request], RTX, allow_symbolic=True, in_network=False).subgraphs
    plugin, _ = build_plugin_plan(subgraph, Check.OFF)
    compiled = CpuPlugin.from_plan(plugin, RTX, tmp_path)
    x, shapes = draw(4, 6), [np.array([5, 5])]
    with pytest.raises(PluginFailure, match=r"25.*24|24.*25"):
        compiled.run([x], output_specs(plugin, [x], shapes), shapes=shapes)


def test_reshape_that_keeps_zeros(tmp_path: Path) -> None:
    proto = model(
        [node("Reshape", "x shape", "y", allowzero=1)],
        {"x": (FLOAT, ["a", 4]), "shape": (INT64, [2])},
        {"y": (FLOAT, [None, None])},
    )
    answers(
        proto, [{"x": draw(0, 4), "shape": np.array([0, 7])}, {"x": draw(2, 4), "shape": np.array([8, 1])}], tmp_path
    )


def test_expand_and_tile_share_a_tensor(tmp_path: Path) -> None:
    """Each makes of the values what is its own."""
    proto = model(
        [
            node("Expand", "x sizes", "e"),
            node("Exp", "e", "expanded"),
            node("Tile", "z sizes", "tiled"),
            node("ConstantOfShape", "sizes", "zeros"),
        ],
        {"x": (FLOAT, ["a", 1]), "z": (FLOAT, ["b", 2, "c"]), "sizes": (INT64, [3])},
        {"expanded": (FLOAT, OPEN), "tiled": (FLOAT, OPEN), "zeros": (FLOAT, OPEN)},
    )
    feeds = [
        {"x": draw(a, 1), "z": draw(b, 2, c), "sizes": np.array(sizes)}
        for a, b, c, sizes in ((3, 2, 5, (2, 3, 4)), (3, 1, 1, (1, 1, 1)), (1, 4, 3, (2, 5, 1)), (1, 2, 2, (2, 0, 3)))
    ]
    plugin = answers(proto, feeds, tmp_path)
    assert len(plugin.default.shape_inputs) == 1 and len(plugin.default.resolved) == 9


def test_expand_to_a_lower_rank(tmp_path: Path) -> None:
    proto = model(
        [node("Expand", "x sizes", "y")], {"x": (FLOAT, [2, 1, 3]), "sizes": (INT64, [2])}, {"y": (FLOAT, [2, None, 3])}
    )
    answers(proto, [{"x": draw(2, 1, 3), "sizes": np.array(s)} for s in ((4, 3), (1, 1), (0, 3))], tmp_path)


@pytest.mark.parametrize(
    ("nodes", "dtype", "tensorrt", "words"),
    [
        (["Reshape"], INT64, "8", "plugins of TensorRT 8.2 to 8.6 know no sizes but those of their inputs"),
        (["Reshape"], INT32, "rtx", "no int64 tensor of one dimension and a known length"),
        (["Reshape", "Add"], INT64, "rtx", "read as data too inside the plugin"),
        (["Reshape", "ReduceSum"], INT64, "rtx", "is no dimension of an output.*let the plugin end at the node"),
    ],
)
def test_what_is_refused(nodes: list[str], dtype: int, tensorrt: str, words: str, tmp_path: Path) -> None:
    made = {
        "Reshape": node("Reshape", "x sizes", "y", name="r"),
        "Add": node("Add", "sizes sizes", "z", name="add"),
        "ReduceSum": node("ReduceSum", "y", "z", name="sum", keepdims=0),
    }
    outputs = (
        {"y": (FLOAT, [None, None])} if nodes == ["Reshape"] else {"z": (INT64 if "Add" in nodes else FLOAT, None)}
    )
    proto = model([made[n] for n in nodes], {"x": (FLOAT, [4, 6]), "sizes": (INT64, [2])}, outputs)
    if dtype == INT32:
        proto.graph.input[1].type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(proto, tmp_path / "m.onnx")
    names = [made[n].name for n in nodes]
    with pytest.raises(UnsupportedError, match=rf'node "r" \(Reshape\).*{words}'):
        generate(
            tmp_path / "m.onnx",
            tmp_path / "out.onnx",
            plugin_names={",".join(names): "tpat_group"},
            tensorrt=tensorrt,
            plugin_dir=tmp_path / "plugins",
        )


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize(mode: str, tmp_path: Path) -> None:
    """Behind another node; the channels are known to stay as they are."""
    proto = model(
        [node("Relu", "x", "h"), node("Resize", "h - - sizes", "y", mode=mode)],
        {"x": (FLOAT, ["n", 3, "h", "w"]), "sizes": (INT64, [4])},
        {"y": (FLOAT, [None, 3, None, None])},
        opset=18,
    )
    feeds = [
        {"x": draw(n, 3, h, w), "sizes": np.array((n, 3, *size))}
        for n, h, w, size in ((2, 4, 5, (8, 10)), (1, 4, 4, (3, 9)), (1, 1, 1, (5, 1)), (2, 7, 3, (7, 3)))
    ]
    plugin = answers(proto, feeds, tmp_path)
    assert [(r.output, r.axis) for r in plugin.default.resolved] == [(0, 0), (0, 2), (0, 3)]


def test_slice_up_to_a_run_time_end(tmp_path: Path) -> None:
    proto = model(
        [node("Slice", "x starts ends axes steps", "y")],
        {"x": (FLOAT, ["a", 9, "c"]), "ends": (INT64, [3])},
        {"y": (FLOAT, OPEN)},
        {
            "starts": np.array([1, 0, -1]),
            "axes": np.array([1, 0, 2]),
            "steps": np.array([2, 1, -1]),
        },  # axis 0 from 0 on
    )
    far = 2**63 - 1
    feeds = [
        {"x": draw(a, 9, c), "ends": np.array(ends)}
        for a, c, ends in ((4, 5, (8, 3, 0)), (3, 2, (far, far, -far)), (3, 4, (-2, -1, -3)), (2, 2, (0, 0, 1)))
    ]
    answers(proto, feeds, tmp_path)
