"""Bad input gets one clear line and a non-zero exit, and leaves nothing half-written."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from plugin_autogen.cli import main, onnx_to_plugin_main
from tests.models import FLOAT, INT64, model, node

STRING = onnx.TensorProto.STRING


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    """A model of two different nodes, `first` and `second`."""
    proto = model(
        [node("Relu", "x", "h", "first"), node("Elu", "h", "y", "second")], {"x": (FLOAT, [4])}, {"y": (FLOAT, [4])}
    )
    path = tmp_path / "in" / "model.onnx"
    path.parent.mkdir()
    onnx.save(proto, path)
    return path


def fails(arguments: Sequence[str], capsys: pytest.CaptureFixture[str], *words: str, output: Path | None = None) -> str:
    """Runs the command; the error line, after checking that it is one, holds the words, and nothing was written."""
    before = _files(output) if output is not None else None
    code = onnx_to_plugin_main(arguments)
    captured = capsys.readouterr()
    assert code not in (0, None)
    lines = [line for line in captured.err.splitlines() if not line.startswith("[")]  # TVM's own log lines
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
    assert captured.out == ""
    assert len(lines[0]) < 1500
    if output is not None:
        assert _files(output) == before
    return lines[0]


def _files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def _arguments(source: Path, tmp_path: Path, *more: str) -> list[str]:
    return ["-i", str(source), "-o", str(tmp_path / "out" / "model.onnx"), "--arch", "sm_90", *more]


def test_missing_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(_arguments(tmp_path / "no.onnx", tmp_path, "-n", "a"), capsys, "no.onnx", "does not exist", output=tmp_path)


def test_truncated_model(relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    relu.write_bytes(relu.read_bytes()[:40])
    fails(_arguments(relu, tmp_path, "-n", "first"), capsys, "truncated", output=tmp_path)


def test_file_that_is_no_model(relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    relu.write_text("<html>not found</html>\n" * 30)
    fails(_arguments(relu, tmp_path, "-n", "first"), capsys, "no ONNX", output=tmp_path)


def test_unknown_node_name_has_near_matches(relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(_arguments(relu, tmp_path, "-n", "secnd"), capsys, "secnd", 'did you mean "second"', output=tmp_path)


def test_type_that_no_node_has(relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(_arguments(relu, tmp_path, "-t", "OneHot"), capsys, "OneHot", "Elu, Relu", output=tmp_path)


def test_nothing_selected(relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(_arguments(relu, tmp_path), capsys, "no node is selected", output=tmp_path)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{first: relu}", "not JSON"),
        ('["first"]', "no JSON object"),
        ("{}", "empty"),
        ('{"first": "a", "first": "b"}', "twice"),
        ('{"first": 3}', "no string"),
        ("", "not JSON"),
    ],
)
def test_malformed_mapping(
    relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, word: str
) -> None:
    fails(_arguments(relu, tmp_path, "-p", text), capsys, word, output=tmp_path)


def test_two_different_nodes_of_one_name(relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = json.dumps({"first": "mine", "second": "mine"})
    fails(_arguments(relu, tmp_path, "-p", names), capsys, "mine", "first", "second", output=tmp_path)


@pytest.mark.parametrize("name", ["1st", "a b", "a-b", "int", "", "a" * 400, "x\ny", 'q"', "../up", "$(id)", "ünder"])
def test_plugin_name_that_is_no_identifier(
    relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    fails(_arguments(relu, tmp_path, "-p", json.dumps({"first": name})), capsys, "plugin name", output=tmp_path)


@pytest.mark.parametrize("name", ["EfficientNMS_TRT", "Relu", "Conv"])
def test_plugin_name_that_tensorrt_owns(
    relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    fails(_arguments(relu, tmp_path, "-p", json.dumps({"first": name})), capsys, name, output=tmp_path)


def test_operator_that_cannot_be_lowered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proto = model(
        [node("Mystery", "x", "y", "riddle", domain="some.vendor")],
        {"x": (FLOAT, [4])},
        {"y": (FLOAT, [4])},
        domains={"some.vendor": 3},
    )
    onnx.save(proto, tmp_path / "m.onnx")
    fails(_arguments(tmp_path / "m.onnx", tmp_path, "-n", "riddle"), capsys, "riddle", "Mystery", "3", output=tmp_path)


def test_data_type_that_tensorrt_has_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(
        model([node("Identity", "x", "y", "text")], {"x": (STRING, [2])}, {"y": (STRING, [2])}), tmp_path / "m.onnx"
    )
    fails(_arguments(tmp_path / "m.onnx", tmp_path, "-n", "text"), capsys, "text", "STRING", output=tmp_path)


def test_input_that_must_be_constant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proto = model([node("Pad", "x p", "y", "wide")], {"x": (FLOAT, [4]), "p": (INT64, [2])}, {"y": (FLOAT, [6])})
    onnx.save(proto, tmp_path / "m.onnx")
    fails(_arguments(tmp_path / "m.onnx", tmp_path, "-n", "wide"), capsys, "wide", "pads", "constant", output=tmp_path)


def test_no_compiler(
    relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from plugin_autogen.build import toolchain

    monkeypatch.setattr(toolchain, "_candidates", lambda notes: iter(()))
    fails(_arguments(relu, tmp_path, "-n", "first"), capsys, "plugin_autogen[nvcc]", "--cuda_home", output=tmp_path)


def test_cuda_home_without_compiler(relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(_arguments(relu, tmp_path, "-n", "first", "--cuda_home", str(tmp_path)), capsys, "nvcc", output=tmp_path)


def test_architecture_that_the_compiler_lacks(relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(_arguments(relu, tmp_path, "-n", "first", "--arch", "sm_20"), capsys, "sm_20", output=tmp_path)


def test_folder_that_cannot_be_written(
    relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.geteuid() == 0:  # root may write everywhere: take the right away where it is asked for
        access = os.access
        monkeypatch.setattr(
            os, "access", lambda path, mode: access(path, mode) and not (mode & os.W_OK and Path(path) == locked)
        )
    try:
        arguments = ["-i", str(relu), "-o", str(locked / "model.onnx"), "-n", "first"]
        fails(arguments, capsys, "locked", "written", output=tmp_path)
    finally:
        locked.chmod(stat.S_IRWXU)


def test_output_folder_that_is_a_file(relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    arguments = ["-i", str(relu), "-o", str(tmp_path / "file" / "model.onnx"), "-n", "first"]
    fails(arguments, capsys, "not a folder", output=tmp_path)


def test_output_that_is_the_input(relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(["-i", str(relu), "-o", str(relu), "-n", "first"], capsys, "input model", output=tmp_path)


def test_shapes_that_make_no_sense(relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, words in (
        (["-dynamic", "maybe"], ["-dynamic", "maybe"]),
        (["-dynamic", "true", "-min", "8", "-max", "4"], ["-min 8", "-max 4", "out of order"]),
        (["--minShapes", "x=1"], ["--minShapes", "x:1x8x64"]),
        (["--optShapes", "y2:4"], ["y2", "none of the model"]),
        (["--minShapes", "x:4", "--maxShapes", "x:2"], ["not in the order min, opt, max"]),
    ):
        fails(_arguments(relu, tmp_path, "-n", "first", *options), capsys, *words, output=tmp_path)


def test_unknown_option(relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(_arguments(relu, tmp_path, "--tensorrt", "7"), capsys, "'7'", "--help", output=tmp_path)


NASTY = [
    "quo\"te's",
    "line\nbreak",
    "../../etc/passwd",
    "x" * 10_000,
    '*/ int main() { system("id"); } /*',
    "$(touch owned) `id` ; rm -rf .",
    "trailing\\",
    "пример/узел",
    "%s%n{{7*7}}{% raw %}",
]


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_strange_names_go_through_everything(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Node, tensor and graph names of strangers reach neither C++ nor a path nor a shell."""
    tensor = name[:1000]  # TensorRT itself refuses the names of tensors beyond 4096 characters
    proto = model(
        [onnx.helper.make_node("Mul", [tensor + "x", tensor + "w"], [tensor + "y"], name=name)],
        {tensor + "x": (FLOAT, [4])},
        {tensor + "y": (FLOAT, [4])},
        {tensor + "w": np.arange(4, dtype=np.float32)},
    )
    onnx.save(proto, tmp_path / "m.onnx")
    code = onnx_to_plugin_main(_arguments(tmp_path / "m.onnx", tmp_path, "-n", name, "--tensorrt", "rtx", "--json"))
    captured = capsys.readouterr()
    assert code == 0, captured.err
    result = json.loads(captured.out)
    assert result["node_plugins"] == {name: result["plugins"][0]["name"]}
    sources = tmp_path / "out" / "plugins" / "src"
    for path in sources.rglob("*"):
        if path.suffix in (".cu", ".cuh", ".h", ".cpp", ".S", ".txt"):
            assert name not in path.read_text()
    assert {p.name for p in tmp_path.iterdir()} == {"m.onnx", "out"}
    code = main(["build", "-i", str(tmp_path / "out" / "model.onnx"), "--plugins", str(tmp_path / "out" / "plugins")])
    assert code == 0, capsys.readouterr().err


def test_a_failing_compiler_leaves_nothing(
    relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from plugin_autogen.codegen import render

    real = render.render_plugin
    monkeypatch.setattr(
        render, "render_plugin", lambda plan, release: {**real(plan, release), "kernels.cu": b"this is no C++\n"}
    )
    fails(_arguments(relu, tmp_path, "-n", "first"), capsys, "kernels.cu", output=tmp_path)


def test_an_error_at_the_very_end_restores_what_was_there(
    relu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from plugin_autogen.errors import OutputError
    from plugin_autogen.graph import rewrite

    arguments = _arguments(relu, tmp_path, "-n", "first")
    assert onnx_to_plugin_main(arguments) == 0
    library = tmp_path / "out" / "plugins" / "lib" / "tpat_first.so"
    before = library.read_bytes()
    capsys.readouterr()

    def refuse(*_: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(rewrite, "save_model", refuse)
    fails([*arguments, "--arch", "sm_80"], capsys, "disk is full", output=tmp_path)
    assert library.read_bytes() == before
