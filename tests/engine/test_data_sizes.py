"""TensorRT-RTX's builder takes size tensors: it knows which shapes the data decide, and goes on from there."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from plugin_autogen import generate
from plugin_autogen.engine.build import build_engine
from tests.models import BOOL, FLOAT, INT64, model, node


def _model(*shape: int | str) -> onnx.ModelProto:
    """NonZero and Compress as one plugin, NonZero with a node behind it as another, TensorRT's own layers around."""
    return model(
        [
            node("Relu", "x", "positive", "relu"),
            node("NonZero", "positive", "places", "nz"),
            node("Compress", "positive chosen", "rows", "compress", axis=0),
            node("Transpose", "places", "turned", "turn", perm=[1, 0]),
            node("GatherND", "x turned", "values", "gather"),
            node("Exp", "rows", "powers", "exp"),
            node("NonZero", "powers", "again", "nz2"),
            node("Transpose", "again", "y", "turn2", perm=[1, 0]),
            node("Concat", "values values", "twice", "twice", axis=0),
        ],
        {"x": (FLOAT, list(shape)), "chosen": (BOOL, [shape[0]])},
        {
            "values": (FLOAT, [None]),
            "powers": (FLOAT, [None, shape[1]]),
            "y": (INT64, [None, 2]),
            "twice": (FLOAT, [None]),
        },
    )


@pytest.mark.parametrize("shape", [(4, 6), ("a", "b")])
def test_the_builder_infers_open_shapes(shape: tuple[int | str, ...], tmp_path: Path) -> None:
    onnx.save(_model(*shape), tmp_path / "model.onnx")
    result = generate(
        tmp_path / "model.onnx",
        tmp_path / "out.onnx",
        plugin_names={"nz,compress": "tpat_two", "nz2,turn2": "tpat_group"},
        tensorrt="rtx",
        architectures=["sm_80"],
    )
    rewritten = onnx.load(tmp_path / "out.onnx").graph
    two, group = (next(n for n in rewritten.node if n.op_type == name) for name in ("tpat_two", "tpat_group"))
    assert (list(two.output)[:2], len(two.output), len(group.output)) == (["places", "rows"], 4, 2)
    read = {name for n in rewritten.node for name in n.input} | {o.name for o in rewritten.output}
    assert not read & {*two.output[2:], group.output[1]}, "nobody reads the sizes"

    profile = {} if shape == (4, 6) else {"x": ((1, 1), (4, 6), (16, 32)), "chosen": ((1,), (4,), (16,))}
    report = build_engine(tmp_path / "out.onnx", tmp_path / "model.engine", result.libraries, profile=profile)
    assert {use.op_type: len(use.layers) for use in report.plugins} == {"tpat_two": 1, "tpat_group": 1}
    width = 6 if shape == (4, 6) else -1
    assert report.outputs == {"values": (-1,), "powers": (-1, width), "y": (-1, 2), "twice": (-1,)}
