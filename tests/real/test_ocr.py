"""A real model: RapidOCR's text recognition, quantized dynamically, reads a picture with its plugins' own code."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from plugin_autogen import pipeline, releases
from plugin_autogen.graph.extract import extract
from plugin_autogen.graph.model import load_model
from plugin_autogen.graph.rewrite import rewrite
from plugin_autogen.graph.selection import select
from plugin_autogen.graph.support import by_table, find_support
from plugin_autogen.pipeline import Check
from tests.real.chain import Run, cpu_plugins, run_chain

EXAMPLE = Path(__file__).parents[2] / "examples" / "quantized_ocr"
sys.path.insert(0, str(EXAMPLE))

import pictures  # noqa: E402
import prepare  # noqa: E402
import reading  # noqa: E402

RTX = releases.release("rtx")
TEXT = "Custom plugins 8.6"


@pytest.fixture(scope="module")
def models(request: pytest.FixtureRequest) -> Path:
    """A folder with the models, kept between runs."""
    folder: Path = request.config.cache.mkdir("ocr")  # type: ignore[union-attr]
    prepare.prepare(folder)
    return folder


def rewritten_with_plugins(path: Path, types: list[str], scratch: Path) -> tuple[onnx.ModelProto, dict[str, Run]]:
    model = load_model(path)
    extraction = extract(model, select(model, node_types=types), RTX, allow_symbolic=True)
    plans = {s.name: pipeline.build_plugin_plan(s, Check.OFF)[0] for s in extraction.subgraphs}
    rewritten = rewrite(model, extraction, {name: plan.fingerprint for name, plan in plans.items()})
    return rewritten, cpu_plugins(extraction, plans, scratch)


def test_the_quantized_recognition_model_reads_the_same_text_with_plugins(models: Path, tmp_path: Path) -> None:
    path = models / "recognition_int8.onnx"
    types = ["DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"]
    rewritten, plugins = rewritten_with_plugins(path, types, tmp_path)
    assert not {node.op_type for node in rewritten.graph.node} & set(types)

    line = reading.load_line(EXAMPLE / "line.png")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": line})[0]
    actual = next(iter(run_chain(rewritten, plugins, {"x": line}).values()))

    characters = reading.alphabet(path)
    assert reading.decode(expected, characters) == TEXT
    assert reading.decode(actual, characters) == TEXT
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    # Rounding to eight bits turns the last bit of a float into a whole step: the probabilities agree, not the bits.
    np.testing.assert_allclose(actual, expected, atol=0.05)


def test_the_pictures_of_the_engine_comparison_can_be_read(models: Path, tmp_path: Path) -> None:
    path = models / "recognition_int8.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for number, feed in enumerate(pictures.load_data()):
        (expected,) = session.run(None, feed)
        np.savez(tmp_path / f"{number}.reference.npz", y=expected)
        np.savez(tmp_path / f"{number}.engine.npz", y=expected if number else np.roll(expected, 1, axis=-1))
    first, *others = pictures.texts(path, tmp_path)
    assert first[:3] == ("line.png", TEXT, TEXT) and first[3] != TEXT
    assert others == [(name, text, text, text) for name, text in list(pictures.TEXTS.items())[1:]]


def test_the_float_detection_model_finds_the_same_regions_with_its_resizes_as_plugins(
    models: Path, tmp_path: Path
) -> None:
    prepare.make_static(prepare.fetch(prepare.DETECTION, models), tmp_path / "detection.onnx", [1, 3, 96, 160])
    rewritten, plugins = rewritten_with_plugins(tmp_path / "detection.onnx", ["Resize"], tmp_path)
    assert "Resize" not in {node.op_type for node in rewritten.graph.node}

    picture = np.zeros((1, 3, 96, 160), np.float32)
    picture[:, :, 24:72, :] = reading.load_line(EXAMPLE / "line.png")[:, :, :, 40:200]
    session = onnxruntime.InferenceSession(tmp_path / "detection.onnx", providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": picture})[0]
    actual = next(iter(run_chain(rewritten, plugins, {"x": picture}).values()))
    assert (expected > 0.3).mean() > 0.02, "the picture has no text: the test would prove nothing"
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("release", ["8.2", "8.6", "10.0", "11.1", "rtx"])
def test_auto_finds_exactly_the_nodes_that_quantization_brought(models: Path, release: str) -> None:
    model = load_model(models / "recognition_int8.onnx")
    brought = [
        key
        for key, node in zip(model.node_keys, model.proto.graph.node, strict=True)
        if node.op_type in ("DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
    ]
    assert len(brought) == 94
    assert list(by_table(model, releases.release(release)).refused) == brought
    if release == "rtx":
        asked = find_support(model, RTX)
        assert asked.judge.startswith("TensorRT-RTX") and asked.judge.endswith("parser")
        assert list(asked.refused) == brought


def test_nothing_is_to_be_generated_for_the_float_models(models: Path) -> None:
    for name in (prepare.RECOGNITION, prepare.DETECTION):
        model = load_model(prepare.fetch(name, models))
        assert not find_support(model, RTX).refused
        assert not any(by_table(model, releases.release(r)).refused for r in ("8.2", "8.6", "10.0", "11.0", "rtx"))


def test_the_detection_model_keeps_its_dynamic_axes_with_its_resizes_as_plugins(models: Path, tmp_path: Path) -> None:
    path = prepare.fetch(prepare.DETECTION, models)
    rewritten, plugins = rewritten_with_plugins(path, ["Resize"], tmp_path)
    assert "Resize" not in {node.op_type for node in rewritten.graph.node}
    (batch, _, height, width) = rewritten.graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param and height.dim_param and width.dim_param

    # One set of plugins, compiled once, for pictures of any size.
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    line = reading.load_line(EXAMPLE / "line.png")
    for count, rows, columns in ((1, 64, 96), (2, 32, 64)):
        picture = np.zeros((count, 3, rows, columns), np.float32)
        picture[:, :, 4:28] = line[:, :, 10:34, 40 : 40 + columns]
        expected = session.run(None, {"x": picture})[0]
        actual = next(iter(run_chain(rewritten, plugins, {"x": picture}).values()))
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
