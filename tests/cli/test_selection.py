"""Which nodes, as several or as one: --auto, --subgraph, --fuse, inspect."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from plugin_autogen.cli import main, onnx_to_plugin_main
from plugin_autogen.graph.rewrite import DOMAIN
from tests.models import FLOAT, model, node, quantized_pair


@pytest.fixture
def quantized(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(quantized_pair(), path)
    return path


def _generate(path: Path, *more: str) -> int:
    output = path.parent / "out" / "m.onnx"
    return onnx_to_plugin_main(["-i", str(path), "-o", str(output), "--tensorrt", "rtx", "--arch", "sm_90", *more])


def test_auto_and_fuse_make_one_plugin_that_the_builder_takes(
    quantized: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _generate(quantized, "--auto", "--fuse") == 0
    table = capsys.readouterr().out
    assert "1 plugin for 2 nodes" in table and "DynamicQuantizeLinear, ConvInteger" in table
    output = quantized.parent / "out"
    nodes = onnx.load(output / "m.onnx").graph.node
    assert [n.op_type for n in nodes if n.domain != DOMAIN] == ["Cast", "Mul"] and len(nodes) == 3
    libraries = str(output / "plugins" / "lib")
    assert main(["build", "-i", str(output / "m.onnx"), "--plugins", libraries]) == 0
    assert "1 plugin taken by TensorRT-RTX" in capsys.readouterr().out


def test_a_subgraph_by_its_tensors(quantized: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _generate(quantized, "--subgraph", "x:y=whole", "--json") == 0
    (plugin,) = json.loads(capsys.readouterr().out)["plugins"]
    assert plugin["name"] == "whole" and plugin["nodes"] == ["quantize", "conv", "cast", "scale_back"]
    (only,) = onnx.load(quantized.parent / "out" / "m.onnx").graph.node
    assert (only.op_type, list(only.input), list(only.output)) == ("whole", ["x"], ["y"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-p", '{"quantize,scale_back": "p"}'], '"quantize" -> "conv" -> "cast" -> "scale_back"'),
        (["-p", '{"quantize,conv": "p", "conv,cast": "q"}'], 'node "conv" (ConvInteger) is selected for two plugins'),
        (["--subgraph", "x:nowhere=p"], 'no tensor "nowhere"'),
        (["--subgraph", "acc:y=p"], "not among the inputs given"),
        (["-n", "conv", "--tensorrt", "7"], "unknown TensorRT release"),
    ],
)
def test_selections_that_cannot_be(
    quantized: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _generate(quantized, *options) == 1
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1
    assert not (quantized.parent / "out").exists()


def test_an_error_names_the_node_of_the_group(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [
        node("Relu", "x", "a", "first"),
        node("Exp", "a", "b", "second"),
        node("Theirs", "b", "c", "culprit", domain="their.domain"),
        node("Neg", "c", "y", "last"),
    ]
    proto = model(nodes, {"x": (FLOAT, [4])}, {"y": (FLOAT, [4])}, domains={"their.domain": 1})
    onnx.save(proto, tmp_path / "m.onnx")
    assert _generate(tmp_path / "m.onnx", "--subgraph", "x:y=p") == 1
    error = capsys.readouterr().err
    assert error.startswith('error: node "culprit" (Theirs): their.domain::Theirs') and "no converter" in error


def test_auto_where_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(model([node("Relu", "x", "y", "n")], {"x": (FLOAT, [4])}, {"y": (FLOAT, [4])}), tmp_path / "m.onnx")
    assert _generate(tmp_path / "m.onnx", "--auto") == 1
    assert "TensorRT-RTX 1.7" in (error := capsys.readouterr().err) and "takes every node" in error


def test_inspect(quantized: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "-i", str(quantized), "--tensorrt", "8.5"]) == 0
    shown = capsys.readouterr().out
    assert "4 nodes, 2 of them not taken by the operator table of TensorRT 8.5" in shown
    assert "its parser has no ConvInteger" in shown and "scale_back" not in shown
    assert main(["inspect", "-i", str(quantized), "--tensorrt", "rtx", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["judge"].startswith("TensorRT-RTX") and report["opsets"] == {"": 17}
    assert [(n["name"], n["supported"]) for n in report["nodes"]] == [
        ("quantize", False),
        ("conv", False),
        ("cast", True),
        ("scale_back", True),
    ]
    assert report["nodes"][0]["inputs"] == ["float32 1x3x8x8"]
    assert report["nodes"][0]["outputs"] == ["uint8 1x3x8x8", "float32 scalar", "uint8 scalar"]
    assert all(n["lowered_by"] == "converter" for n in report["nodes"])


def test_inspect_tells_what_cannot_be_generated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [
        node("Theirs", "x", "a", "theirs", domain="their.domain"),
        node("StringNormalizer", "s", "b", "strings"),
        node("Softmax", "x", "c", "known"),
    ]
    proto = model(
        nodes,
        {"x": (FLOAT, ["n", 4]), "s": (onnx.TensorProto.STRING, [3])},
        {"a": (FLOAT, None), "b": (onnx.TensorProto.STRING, [3]), "c": (FLOAT, ["n", 4])},
        domains={"their.domain": 1},
    )
    onnx.save(proto, tmp_path / "m.onnx")
    assert main(["inspect", "-i", str(tmp_path / "m.onnx"), "--tensorrt", "10", "--json"]) == 0
    reported = {n["name"]: n for n in json.loads(capsys.readouterr().out)["nodes"]}
    assert reported["theirs"]["operator"] == "their.domain::Theirs" and reported["theirs"]["lowered_by"] is None
    assert reported["strings"]["lowered_by"] is None and reported["strings"]["inputs"] == ["string 3"]
    assert reported["known"]["supported"] and reported["known"]["inputs"] == ["float32 nx4"]
