"""A real builder, TensorRT-RTX, takes generated plugins; what it refuses ends in one line that names the node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from plugin_autogen import engine
from plugin_autogen.build.architectures import Architectures
from plugin_autogen.build.compile import LibrarySource, compile_many
from plugin_autogen.build.toolchain import find_tensorrt_headers, find_toolchain
from plugin_autogen.codegen.plan import PluginPlan
from plugin_autogen.codegen.render import render_library, render_plugin
from plugin_autogen.engine import runtime_library
from plugin_autogen.engine.build import RefusedNode, build_engine, find_libraries, supports
from plugin_autogen.engine.runtime_library import Backend
from plugin_autogen.errors import EngineError, ModelError, OutputError
from plugin_autogen.releases import release
from tests import plans

NAMES = {"plugin_version": "1", "plugin_namespace": ""}


def _value(name: str, *shape: int | str, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, list(shape))


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tpat_add.so, tpat_weighted_row_sum.so, and `both.so`, which holds them both."""
    root = tmp_path_factory.mktemp("plugins")
    rtx = release("rtx")
    made: tuple[PluginPlan, ...] = (plans.add(), plans.weighted_row_sum())

    def write(name: str, files: dict[str, bytes]) -> None:
        for file, data in files.items():
            path = root / "src" / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    sources = []
    for plan in made:
        write(plan.name, render_plugin(plan, rtx))
        write(plan.name, render_library(plan.name, [plan.name], rtx))
        sources.append(LibrarySource(plan.name, root / "src" / plan.name, (root / "src" / plan.name,)))
    write("both", render_library("both", [plan.name for plan in made], rtx))
    folders = tuple(source.folder for source in sources)
    sources.append(LibrarySource("both", root / "src" / "both", folders))
    compile_many(sources, root / "lib", find_toolchain(), find_tensorrt_headers(rtx), Architectures((80,)))
    return root / "lib"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two adds with a Relu between them, then the sum of rows; node names as strangers choose them."""
    return _save(
        tmp_path / "model.onnx",
        [
            helper.make_node("tpat_add", ["x", "y"], ["a"], name="first 'add'\n", **NAMES),
            helper.make_node("Relu", ["a"], ["r"], name="relu"),
            helper.make_node("tpat_add", ["r", "y"], ["z"], **NAMES),
            helper.make_node("tpat_weighted_row_sum", ["w"], ["s"], name="rows", **NAMES),
        ],
        [_value("x", 4, 100), _value("y", 4, 100), _value("w", 8, 128)],
        [_value("z", 4, 100), _value("s", 8)],
    )


def test_the_builder_takes_generated_plugins(model: Path, libraries: Path, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model.engine"
    report = build_engine(model, target, [libraries / "tpat_add.so", libraries / "tpat_weighted_row_sum.so"])
    assert report.builder.startswith("TensorRT-RTX 1.7")
    assert report.engine == target
    assert target.stat().st_size == report.bytes > 1000
    assert [path.name for path in target.parent.iterdir()] == ["model.engine"]
    assert report.layers == 4
    add, rows = report.plugins
    assert (add.op_type, add.library, add.nodes) == (
        "tpat_add",
        libraries / "tpat_add.so",
        ("first 'add'\n", ""),
    )
    assert len(add.layers) == 2
    assert (rows.op_type, rows.library, rows.nodes, rows.layers) == (
        "tpat_weighted_row_sum",
        libraries / "tpat_weighted_row_sum.so",
        ("rows",),
        ("rows",),
    )


def test_one_library_with_all_plugins(model: Path, libraries: Path) -> None:
    report = build_engine(model, None, [libraries / "both.so"])
    assert report.engine is None
    assert {(use.op_type, use.library) for use in report.plugins} == {
        ("tpat_add", libraries / "both.so"),
        ("tpat_weighted_row_sum", libraries / "both.so"),
    }


def test_a_plugin_without_its_library(model: Path, libraries: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        build_engine(model, tmp_path / "model.engine", [libraries / "tpat_add.so"])
    assert str(caught.value) == (
        "TensorRT-RTX's parser refused node 'rows' (tpat_weighted_row_sum): "
        "it has no operator and no loaded plugin of the name tpat_weighted_row_sum"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx"]


def test_what_a_plugin_says_when_it_refuses_is_told(libraries: Path, tmp_path: Path) -> None:
    """A library of another run: its fingerprint is not the one in the model."""
    node = helper.make_node("tpat_add", ["x", "y"], ["z"], name="n", fingerprint="0123456789abcdef", **NAMES)
    path = _save(tmp_path / "m.onnx", [node], [_value("x", 4, 100), _value("y", 4, 100)], [_value("z", 4, 100)])
    with pytest.raises(EngineError) as caught:
        build_engine(path, None, [libraries / "tpat_add.so"])
    assert "node 'n' (tpat_add)" in str(caught.value)
    assert "generated for another model" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_supports_names_each_refused_node(model: Path, libraries: Path, tmp_path: Path) -> None:
    assert supports(model, [libraries / "both.so"]) == []
    path = _save(
        tmp_path / "quantized.onnx",
        [
            helper.make_node("Relu", ["x"], ["a"], name="relu"),
            helper.make_node("DynamicQuantizeLinear", ["a"], ["q", "s", "p"], name="quantize"),
            helper.make_node("Mystery", ["a"], ["b"]),
            helper.make_node("tpat_add", ["x", "b"], ["c"], name="add", **NAMES),
        ],
        [_value("x", 4, 100)],
        [_value("q", 4, 100, dtype=TensorProto.UINT8), _value("c", 4, 100)],
    )
    refused = supports(path, [libraries / "both.so"])
    assert [(node.index, node.name, node.op_type) for node in refused] == [
        (1, "quantize", "DynamicQuantizeLinear"),
        (2, "", "Mystery"),
    ]
    assert all(node.reason for node in refused)
    assert supports(path)[-1] == RefusedNode(
        3, "add", "tpat_add", "it has no operator and no loaded plugin of the name tpat_add"
    )


def test_a_plugin_that_is_in_two_libraries(model: Path, libraries: Path) -> None:
    with pytest.raises(EngineError, match=r"tpat_add is in .*tpat_add\.so and in .*both\.so: name one of them"):
        build_engine(model, None, [libraries])


def test_dynamic_shapes_take_a_profile(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    path = _save(tmp_path / "m.onnx", [node], [_value("x", "n", 4)], [_value("y", "n", 4)])
    report = build_engine(path, None, profile={"x": ((1, 4), (8, 4), (16, 4))})
    assert report.layers == 1
    with pytest.raises(EngineError, match="could not build the engine"):
        build_engine(path, None, profile={"x": ((1, 4), (8, 4), (4, 4))})


@pytest.mark.parametrize("data", [b"", b"no model at all", b"\x08\x09"])
def test_files_that_are_no_models(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(EngineError) as caught:
        build_engine(path, tmp_path / "m.engine")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m.engine").exists()


def test_missing_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model"):
        build_engine(tmp_path / "none.onnx", None)


def test_engine_that_cannot_be_written(model: Path, libraries: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="it is a folder"):
        build_engine(model, tmp_path, [libraries])
    with pytest.raises(OutputError, match="cannot write"):
        build_engine(model, model / "model.engine", [libraries])


def _shared_library(path: Path, text: str) -> Path:
    source = path.with_suffix(".cpp")
    source.write_text(text)
    compiler = shutil.which("g++")
    assert compiler
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, source], check=True)
    return path


def test_library_that_ends_the_process(model: Path, tmp_path: Path) -> None:
    path = _shared_library(
        tmp_path / "rude.so",
        "#include <cstdlib>\n#include <cstdio>\n"
        'extern "C" void setLoggerFinder(void*) {}\n'
        'extern "C" void* getCreators(int&) { std::fprintf(stderr, "so long\\n"); std::abort(); }\n',
    )
    with pytest.raises(EngineError, match=r"TensorRT-RTX .* was killed by SIGABRT while loading .*rude\.so: so long"):
        build_engine(model, tmp_path / "m.engine", [path])
    assert not (tmp_path / "m.engine").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("int missing(); int f() { return missing(); }", "undefined symbol"),
        ("int f() { return 0; }", "TensorRT-RTX refused"),
    ],
)
def test_library_that_is_no_plugin_library(text: str, words: str, model: Path, tmp_path: Path) -> None:
    path = _shared_library(tmp_path / "odd.so", text)
    flags = ["-Wl,-z,now"]
    subprocess.run(["g++", "-shared", "-fPIC", *flags, "-o", path, path.with_suffix(".cpp")], check=True)
    with pytest.raises(EngineError) as caught:
        build_engine(model, None, [path])
    assert words in str(caught.value)
    assert "odd.so" in str(caught.value)


def test_file_that_is_no_library(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "text.so"
    path.write_text("text")
    with pytest.raises(EngineError, match=r"text\.so cannot be loaded"):
        build_engine(model, None, [path])


def test_folders_are_searched(libraries: Path, tmp_path: Path) -> None:
    (tmp_path / "lib" / ".building-x").mkdir(parents=True)
    for name in ("lib/b.so", "lib/a.so", "lib/a.txt", "lib/.building-x/half.so"):
        (tmp_path / name).touch()
    assert find_libraries([tmp_path, tmp_path / "lib" / "b.so"]) == [
        tmp_path / "lib" / "a.so",
        tmp_path / "lib" / "b.so",
    ]
    with pytest.raises(EngineError, match=r"no \*\.so below"):
        find_libraries([_empty(tmp_path)])
    with pytest.raises(EngineError, match="no such file or folder"):
        find_libraries([tmp_path / "nowhere"])


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_working_folder_of_the_user_is_not_searched_for_modules(
    model: Path, libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnx.py").write_text("raise SystemExit('a file that happens to be called onnx.py')")
    monkeypatch.chdir(tmp_path)
    assert build_engine(model, None, [libraries / "both.so"]).layers == 4


# Which TensorRT is installed


def _install(monkeypatch: pytest.MonkeyPatch, folder: Path, **versions: str) -> None:
    for module, version in versions.items():
        (folder / module).mkdir()
        (folder / module / "__init__.py").write_text(f'__version__ = "{version}"\nraise SystemExit("imported")\n')
    monkeypatch.setattr(runtime_library, "_location", lambda name: folder / name if (folder / name).is_dir() else None)


@pytest.mark.parametrize(
    ("versions", "key"),
    [
        ({"tensorrt": "8.6.1"}, "8"),
        ({"tensorrt": "10.13.0.35", "tensorrt_rtx": "1.7.1.116"}, "10"),
        ({"tensorrt": "11.1.0.106"}, "11"),
        ({"tensorrt_rtx_bindings": "1.7.1.116"}, "rtx"),
        ({"tensorrt": "7.2.3", "tensorrt_rtx_bindings": "1.7.1.116"}, "rtx"),
        ({"tensorrt_rtx_bindings": "1.4.0.76"}, None),
        ({}, None),
    ],
)
def test_default_release_is_what_is_installed(
    versions: dict[str, str], key: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _install(monkeypatch, tmp_path, **versions)
    assert engine.default_release() == key


def test_what_is_installed_here() -> None:
    assert Backend("tensorrt_rtx_bindings", "TensorRT-RTX", (1, 7, 1, 116)) in runtime_library.installed()


def test_builder_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _install(monkeypatch, tmp_path, tensorrt_rtx_bindings="1.4.0.76")
    with pytest.raises(EngineError, match=r"^TensorRT is not installed .*plugin_autogen\[engine\]"):
        runtime_library.choose("tensorrt")
    with pytest.raises(EngineError, match=r"TensorRT-RTX 1\.4\.0\.76 takes no plugins"):
        runtime_library.choose("rtx")
    with pytest.raises(EngineError, match="choose tensorrt or rtx"):
        runtime_library.choose("lean")
