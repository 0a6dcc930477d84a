"""TensorRT-RTX's builder gives a plugin the values of shape tensors: of its own layers or of a network's input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from plugin_autogen import generate
from plugin_autogen.engine.build import build_engine
from tests.models import FLOAT, INT64, model, node


def test_the_builder_infers_shapes_from_values(tmp_path: Path) -> None:
    proto = model(
        [
            node("Shape", "like", "size", "size"),
            node("Concat", "size rest", "wanted", "concat", axis=0),
            node("Reshape", "x wanted", "reshaped", "reshape"),
            node("Softmax", "reshaped", "soft", "softmax", axis=-1),
            node("Relu", "soft", "y", "relu"),
            node("Tile", "fixed repeats", "tiled", "tile"),
            node("Relu", "tiled", "z", "relu2"),
        ],
        {"x": (FLOAT, ["a", 6]), "like": (FLOAT, ["n"]), "fixed": (FLOAT, [2, 3]), "repeats": (INT64, [2])},
        {"y": (FLOAT, [None, None, None]), "z": (FLOAT, [None, None])},
        {"rest": np.array([-1, 2])},
    )
    onnx.save(proto, tmp_path / "model.onnx")
    result = generate(
        tmp_path / "model.onnx",
        tmp_path / "out.onnx",
        plugin_names={"reshape,softmax": "tpat_group", "tile": "tpat_tile"},
        tensorrt="rtx",
        architectures=["sm_80"],
        library="both",
    )
    rewritten = {n.op_type: n for n in onnx.load(tmp_path / "out.onnx").graph.node}
    indices = {
        name: [list(a.ints) for a in rewritten[name].attribute if a.name == "tensorrt_plugin_shape_input_indices"]
        for name in ("tpat_group", "tpat_tile")
    }
    assert indices == {"tpat_group": [[1]], "tpat_tile": [[1]]}
    assert list(rewritten["tpat_group"].input) == ["x", "wanted"]
    profile = {
        "x": ((1, 6), (4, 6), (16, 6)),
        "like": ((1,), (3,), (6,)),
        "repeats": ((1, 1), (2, 3), (4, 4)),  # values
    }
    report = build_engine(tmp_path / "out.onnx", tmp_path / "model.engine", result.libraries, profile=profile)
    assert {use.op_type: len(use.layers) for use in report.plugins} == {"tpat_group": 1, "tpat_tile": 1}
    assert report.outputs == {"y": (-1, -1, 2), "z": (-1, -1)}
