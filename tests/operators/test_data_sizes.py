"""Outputs whose size the data decide: one plugin, many sizes, and nodes behind them in the same plugin."""

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
from plugin_autogen.lowering import registry
from plugin_autogen.pipeline import Check, build_plugin_plan
from plugin_autogen.schedule.atomics import order_changes_bits
from plugin_autogen.verify.compare import difference
from plugin_autogen.verify.reference import reference_outputs
from tests.cpu_cuda.runner import Call, CpuPlugin, Profile, output_specs
from tests.models import BOOL, FLOAT, INT64, load, model, node
from tests.operators import harness

RTX = releases.release("rtx")
RNG = np.random.default_rng(0)
Array = np.ndarray


def answers(
    proto: onnx.ModelProto, feeds: Sequence[Mapping[str, Array]], folder: Path, release: releases.Release = RTX
) -> PluginPlan:
    """All nodes of the model as one plugin, compiled once, gives the reference's outputs for all the inputs."""
    loaded = load(proto, folder)
    request = PluginRequest("tpat_group", tuple(loaded.node_keys))
    (subgraph,) = extract(loaded, [request], release, allow_symbolic=True, in_network=False).subgraphs
    plugin, checked = build_plugin_plan(subgraph, Check.CPU, interface=release.interface)
    assert len(checked) == 1
    compiled = CpuPlugin.from_plan(plugin, release, folder, harness.sanitizer)
    calls, expected = [], []
    for given in feeds:
        inputs = [given[tensor.name] for tensor in subgraph.inputs]
        profiles = [_profile(x.shape, t.shape) for x, t in zip(inputs, subgraph.inputs, strict=True)]
        calls.append(Call(inputs, output_specs(plugin, inputs), profiles))
        wanted = reference_outputs(proto, dict(given))[0]
        by_name = dict(zip((o.name for o in proto.graph.output), wanted, strict=True))
        expected.append([by_name[tensor.name] for tensor in subgraph.outputs])
    stable = not order_changes_bits(plugin.default.source)
    results = compiled.library.run_many(plugin.name, calls, fingerprint=plugin.fingerprint, stable=stable)
    for call, result, wanted in zip(calls, results, expected, strict=True):
        for i, theirs in enumerate(wanted):
            message = difference(result.outputs[i], theirs).message
            assert message is None, f"output {i}, input shapes {[x.shape for x in call.inputs]}: {message}"
    return plugin


def _profile(actual: Sequence[int], stated: Sequence[int | str]) -> Profile:
    """Half to twice the actual size of each dimension that is not fixed."""
    pairs = list(zip(actual, stated, strict=True))
    least, most = (tuple(s if isinstance(s, int) else change(a) for a, s in pairs) for change in (_half, _twice))
    return Profile(least, tuple(actual), most)


def _half(size: int) -> int:
    return size // 2


def _twice(size: int) -> int:
    return 2 * size


def sparse(*shape: int, share: float = 0.4) -> Array:
    return (RNG.standard_normal(shape) * (RNG.random(shape) < share)).astype(np.float32)


def test_non_zero(tmp_path: Path) -> None:
    proto = model([node("NonZero", "x", "y")], {"x": (FLOAT, ["a", "b"])}, {"y": (INT64, [2, None])})
    shapes = [(3, 5), (1, 1), (40, 50), (0, 7), (7, 0)]
    feeds = [{"x": sparse(*shape)} for shape in shapes] + [{"x": np.zeros((4, 4), np.float32)}]
    plugin = answers(proto, feeds, tmp_path)
    (size,) = plugin.default.data_sizes
    assert size.output == 1 and len(plugin.default.outputs) == 2


def test_nodes_behind_it_in_the_same_plugin(tmp_path: Path) -> None:
    """Kernels of several kinds over a size that only the device knows, some with a block for each row."""
    nodes = [
        node("NonZero", "mask", "places"),
        node("Transpose", "places", "rows", perm=[1, 0]),
        node("GatherND", "x rows", "picked"),  # (n, 64)
        node("MatMul", "picked w", "product"),  # (n, 33)
        node("Softmax", "product", "y", axis=-1),
        node("ReduceSum", "picked axes", "total", keepdims=0),  # over all of n
        node("ReduceMax", "picked", "largest", axes=[1], keepdims=0),
        node("Transpose", "product", "turned", perm=[1, 0]),  # n is the innermost dimension
        node("Concat", "largest largest", "twice", axis=0),  # 2 n
        node("CumSum", "largest zero", "running"),
    ]
    proto = model(
        nodes,
        {"x": (FLOAT, ["a", "b", 64]), "mask": (BOOL, ["a", "b"])},
        {
            "y": (FLOAT, [None, 33]),
            "total": (FLOAT, [64]),
            "turned": (FLOAT, [33, None]),
            "twice": (FLOAT, [None]),
            "running": (FLOAT, [None]),
        },
        {"w": RNG.standard_normal((64, 33)).astype(np.float32), "axes": np.array([0]), "zero": np.array(0)},
        opset=17,
    )
    feeds = []
    for shape, share in (((3, 5), 0.5), ((1, 1), 1.0), ((9, 20), 0.3), ((4, 4), 0.0)):
        x = RNG.standard_normal((*shape, 64)).astype(np.float32)
        feeds.append({"x": x, "mask": RNG.random(shape) < share})
    plugin = answers(proto, feeds, tmp_path)
    n, double = plugin.default.data_sizes
    assert (n.output, double.output) == (5, 6)


def test_a_size_that_depends_on_another(tmp_path: Path) -> None:
    nodes = [
        node("Compress", "x chosen", "rows", axis=0),  # (n, b)
        node("NonZero", "rows", "places"),  # (2, m) with m up to n b
        node("Unique", "codes", "values - - counts"),
    ]
    proto = model(
        nodes,
        {"x": (FLOAT, ["a", "b"]), "chosen": (BOOL, ["c"]), "codes": (INT64, [50])},
        {
            "rows": (FLOAT, [None, "b"]),
            "places": (INT64, [2, None]),
            "values": (INT64, [None]),
            "counts": (INT64, [None]),
        },
    )
    feeds = [
        {
            "x": sparse(*shape),
            "chosen": RNG.random(shape[0] - 1) < share,
            "codes": RNG.integers(0, top, 50),
        }
        for shape, share, top in (((8, 5), 0.5, 9), ((40, 30), 0.2, 100), ((5, 1), 0.0, 1))
    ]
    plugin = answers(proto, feeds, tmp_path)
    assert [size.output for size in plugin.default.data_sizes] == [4, 5, 6]


@pytest.mark.parametrize("axis", [None, 1])
def test_compress(axis: int | None, tmp_path: Path) -> None:
    attributes = {} if axis is None else {"axis": axis}
    shape: list[int | str | None] = [None] if axis is None else ["a", None, 2]
    proto = model(
        [node("Compress", "x chosen", "y", **attributes)],
        {"x": (FLOAT, ["a", "b", 2]), "chosen": (BOOL, ["c"])},
        {"y": (FLOAT, shape)},
    )
    feeds = [
        {"x": sparse(a, b, 2), "chosen": RNG.random(c) < share}
        for a, b, c, share in ((3, 5, 5, 0.5), (2, 4, 3, 0.9), (1, 1, 1, 1.0), (3, 4, 4, 0.0), (3, 4, 0, 0.0))
    ]
    answers(proto, feeds, tmp_path)


def test_non_max_suppression(tmp_path: Path) -> None:
    proto = model(
        [node("NonMaxSuppression", "boxes scores most iou score", "y")],
        {"boxes": (FLOAT, ["batch", "count", 4]), "scores": (FLOAT, ["batch", "classes", "count"])},
        {"y": (INT64, [None, 3])},
        {"most": np.array([4]), "iou": np.array([0.3], np.float32), "score": np.array([0.2], np.float32)},
    )
    feeds = []
    for batch, classes, count in ((2, 3, 30), (1, 1, 1), (1, 2, 300), (1, 2, 0)):
        corner = RNG.random((batch, count, 2))
        boxes = np.concatenate([corner, corner + RNG.random((batch, count, 2))], -1).astype(np.float32)
        feeds.append({"boxes": boxes, "scores": RNG.random((batch, classes, count)).astype(np.float32)})
    answers(proto, feeds, tmp_path)


def test_tensorrt_8_has_room_for_all_and_a_count(tmp_path: Path) -> None:
    proto = model(
        [node("NonZero", "x", "places"), node("Compress", "x chosen", "y", axis=1)],
        {"x": (FLOAT, [3, 4]), "chosen": (BOOL, [4])},
        {"places": (INT64, [2, None]), "y": (FLOAT, [3, None])},
    )
    loaded = load(proto, tmp_path)
    release = releases.release("8")
    request = PluginRequest("tpat_group", tuple(loaded.node_keys))
    (subgraph,) = extract(loaded, [request], release, allow_symbolic=True, in_network=False).subgraphs
    plugin, checked = build_plugin_plan(subgraph, Check.CPU, interface=release.interface)
    assert len(checked) == 1
    x = np.zeros((3, 4), np.float32)
    x[[0, 2], [1, 3]] = 5, 6
    compiled = CpuPlugin.from_plan(plugin, release, tmp_path, harness.sanitizer)
    places, y, count, width = compiled.run([x, np.array([0, 1, 0, 1], np.int32)])
    assert (count.shape, count.dtype, int(count), int(width)) == ((), np.int32, 2, 2)
    np.testing.assert_array_equal(places, [[0, 2] + [-1] * 10, [1, 3] + [-1] * 10])
    np.testing.assert_array_equal(y, np.pad(x[:, [1, 3]], [(0, 0), (0, 2)]))


def test_tensorrt_8_takes_no_node_behind_it(tmp_path: Path) -> None:
    proto = model(
        [node("NonZero", "x", "places", name="nz"), node("Transpose", "places", "y", name="turn")],
        {"x": (FLOAT, [3, 4])},
        {"y": (INT64, [None, 2])},
    )
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(
        UnsupportedError, match=r'node "turn" \(Transpose\).*the data decide the size of input 0.* end at'
    ):
        generate(
            tmp_path / "m.onnx",
            tmp_path / "out.onnx",
            node_names=["nz", "turn"],
            fuse=True,
            tensorrt="8",
            plugin_dir=tmp_path / "plugins",
        )


def test_a_converter_of_the_users(tmp_path: Path) -> None:
    """The example of docs/custom_operators.md."""
    text = (Path(__file__).parents[2] / "docs" / "custom_operators.md").read_text()
    (example,) = [part for part in text.split("```") if "UntilNegative" in part]

    def until_negative_in_numpy(x: Array) -> Array:
        return x[: np.flatnonzero(np.append(x, -1) < 0)[0]]

    from tvm import te, tirx

    names = {
        "__name__": "example",
        "te": te,
        "tirx": tirx,
        "converter": registry.converter,
        "NodeContext": registry.NodeContext,
        "until_negative_in_numpy": until_negative_in_numpy,
    }
    proto = model(
        [node("UntilNegative", "x", "y", domain="custom_domain"), node("Exp", "y", "z")],
        {"x": (FLOAT, ["n"])},
        {"y": (FLOAT, [None]), "z": (FLOAT, [None])},
        domains={"custom_domain": 1},
    )
    with registry.restored():
        exec(example.removeprefix("python"), names)
        feeds = [{"x": np.array(x, np.float32)} for x in ([1, 2, -1, 3], [1, 2], [-1], [], [0] * 300)]
        answers(proto, feeds, tmp_path)


def test_slice_from_a_run_time_start(tmp_path: Path) -> None:
    proto = model(
        [node("Slice", "x starts ends axes steps", "y"), node("Neg", "y", "z")],
        {"x": (FLOAT, ["a", 9, "c"]), "starts": (INT64, [2]), "ends": (INT64, [2])},
        {"z": (FLOAT, ["a", None, None])},
        {"axes": np.array([1, -1]), "steps": np.array([2, -1])},
    )
    far = 2**63 - 1
    feeds = [
        {"x": sparse(a, 9, c), "starts": np.array(starts), "ends": np.array(ends)}
        for a, c, starts, ends in (
            (3, 5, (1, 4), (8, 0)),
            (2, 4, (-5, -1), (far, -far)),
            (2, 3, (7, 2), (3, 0)),
            (1, 2, (-far, far), (-2, -2)),
        )
    ]
    plugin = answers(proto, feeds, tmp_path)
    assert [size.output for size in plugin.default.data_sizes] == [1, 2]
