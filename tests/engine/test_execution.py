"""`compare` and `bench` from the command to the figures, with a TensorRT of ours (`fake/`) that needs no GPU."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from plugin_autogen.cli import main
from plugin_autogen.graph.rewrite import LIBRARIES_KEY

FAKE = Path(__file__).with_name("fake")
Run = Callable[..., tuple[int, str, str]]


def _model(path: Path, first: str, second: str) -> Path:
    """y = second(first(x) + x); rows are dynamic."""
    nodes = [
        helper.make_node(first, ["x"], ["a"], name="one"),
        helper.make_node("Add", ["a", "x"], ["b"], name="two"),
        helper.make_node(second, ["b"], ["y"], name="three"),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 5]) for n in "xy"]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:]), ir_version=8)
    model.opset_import[0].version = 17
    operators = [name for name in (first, second) if name.startswith("tpat_")]
    model.metadata_props.add(key=LIBRARIES_KEY, value=json.dumps([f"{name}.so" for name in operators]))
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CUDA's runtime, and a library for each plugin, which the fake knows by their names."""
    folder = tmp_path_factory.mktemp("libraries")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "libcudart.so", FAKE / "cudart.c"], check=True)
    for name in ("tpat_Relu", "tpat_Sqrt", "tpat_Sqrt_off", "tpat_Relu_off"):
        (folder / "empty.c").write_text("")
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / f"{name}.so", folder / "empty.c"], check=True)
    return folder


@pytest.fixture
def run(libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in a folder with original.onnx and the plugin libraries; gives exit code, output and errors."""
    monkeypatch.syspath_prepend(FAKE)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(libraries))
    for module in ("compare", "bench"):
        monkeypatch.setattr(f"plugin_autogen.engine.{module}.require_gpu", lambda what: None)
    monkeypatch.chdir(tmp_path)
    for library in libraries.glob("tpat_*.so"):
        os.link(library, tmp_path / library.name)
    _model(tmp_path / "original.onnx", "Relu", "Sqrt")

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["--builder=tensorrt" if a == "B" else a for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


COMPARE = ["compare", "-i", "m.onnx", "--original", "original.onnx", "B"]
PROFILE = ["--minShapes", "x:1x5", "--optShapes", "x:4x5", "--maxShapes", "x:8x5"]


def test_equal_models_are_equal(run: Run, tmp_path: Path) -> None:
    _model(tmp_path / "m.onnx", "tpat_Relu", "tpat_Sqrt")
    code, out, err = run(*COMPARE, *PROFILE, "--sets", "3", "--first-differing-node", "--save_outputs", "outputs")
    assert (code, err) == (0, "")
    assert ["y", "float32", "4x5", "within", "tolerance", "0.00e+00", "0.00e+00"] in [
        line.split() for line in out.splitlines()
    ]
    assert "none differs in the 3 tensors" in out
    saved = {path.name: np.load(path)["y"] for path in (tmp_path / "outputs").iterdir()}
    assert sorted(saved) == [f"{i}.{side}.npz" for i in range(3) for side in ("engine", "reference")]
    assert (saved["0.engine.npz"] == saved["0.reference.npz"]).all()
    assert (saved["0.engine.npz"] != saved["1.engine.npz"]).any()


@pytest.mark.parametrize(
    ("first", "second", "node", "plugin"),
    [("tpat_Relu", "tpat_Sqrt_off", "three", "tpat_Sqrt_off"), ("tpat_Relu_off", "Sqrt", "one", "tpat_Relu_off")],
)
def test_a_wrong_plugin_is_found_and_named(
    first: str, second: str, node: str, plugin: str, run: Run, tmp_path: Path
) -> None:
    _model(tmp_path / "m.onnx", first, second)
    code, out, _ = run(*COMPARE, *PROFILE, "--first-differing-node", "--shapes", "x:2x5")
    assert code == 1
    assert "DIFFERS" in out and "2x5" in out
    assert f"the first that differs is '{node}' (plugin {plugin})" in out
    assert "10 of 10 values differ" in out
    assert run(*COMPARE, *PROFILE, "--atol", "0.05")[0] == 1
    assert run(*COMPARE, *PROFILE, "--atol", "0.51")[0] == 0
    code, out, _ = run(*COMPARE, *PROFILE, "--json")
    assert code == 1
    (output,) = json.loads(out)["outputs"]
    assert 0.05 < output["absolute"] <= 0.5


def test_given_inputs_engines_and_calibration(run: Run, tmp_path: Path) -> None:
    _model(tmp_path / "m.onnx", "tpat_Relu", "tpat_Sqrt")
    np.savez(tmp_path / "a.npz", x=np.full((8, 5), 3, np.float32))
    (tmp_path / "data.py").write_text(
        "import numpy as np\ndef sets():\n    for i in range(3):\n        yield {'x': np.load('a.npz')['x'][:4] * i}\n"
    )
    int8 = ["--precision", "int8", "fp16"]
    code, out, err = run("build", "-i", "m.onnx", "-o", "m.engine", "B", *PROFILE, *int8)
    assert code == 1 and "int8 needs the ranges" in err and not (tmp_path / "m.engine").exists()
    data = ["--data_loader", "data.py:sets", "--calib", "cache"]
    code, out, err = run("build", "-i", "m.onnx", "-o", "m.engine", "B", *PROFILE, *int8, *data)
    assert (code, err) == (0, ""), err
    assert (tmp_path / "cache").read_text() == "3 batches"
    code, out, err = run("build", "-i", "m.onnx", "B", *PROFILE, *int8, "--calib", "cache")
    assert (code, err) == (0, "")
    (tmp_path / "bad.py").write_text("def load_data():\n    yield {'z': 1}\n")
    code, out, err = run("build", "-i", "m.onnx", "B", *PROFILE, *int8, "--data_loader", "bad.py")
    assert code == 1 and "has no array for input 'x': it has 'z'" in err

    code, out, _ = run(*COMPARE, "-e", "m.engine", "--inputs", "a.npz")
    assert code == 0 and "8x5" in out
    np.savez(tmp_path / "b.npz", x=np.full((9, 5), 3, np.float32))
    code, out, err = run(*COMPARE, "-e", "m.engine", "--inputs", "b.npz")
    assert code == 1 and "failed to set shape" in err
    (tmp_path / "broken.engine").write_text("no engine")
    code, out, err = run(*COMPARE, "-e", "broken.engine")
    assert code == 1 and "TensorRT cannot load the engine: Serialization assertion" in err


def test_what_onnx_runtime_refuses(run: Run, tmp_path: Path) -> None:
    _model(tmp_path / "m.onnx", "tpat_Relu", "tpat_Sqrt")
    code, _, err = run("compare", "-i", "m.onnx", "--original", "m.onnx", "B")
    assert code == 1 and err.startswith("error: ONNX Runtime refuses ") and len(err.splitlines()) == 1


@pytest.mark.parametrize("more", [[], ["--useCudaGraph"]])
def test_bench_times_both_engines(more: list[str], run: Run, tmp_path: Path) -> None:
    _model(tmp_path / "m.onnx", "tpat_Relu", "tpat_Sqrt")
    measuring = ["--duration", "0", "--iterations", "7", "--warmUp", "0", "--json", *more]
    code, out, err = run("bench", "-i", "m.onnx", "--original", "original.onnx", "B", *PROFILE, *measuring)
    assert (code, err) == (0, ""), err
    report: dict[str, Any] = json.loads(out)
    assert report["refusal"] is None
    for engine, plugins in (("plugins", [True, False, True]), ("native", [False] * 3)):
        found = report[engine]
        assert found["runs"] == 7
        assert 0 < found["median"] <= found["p99"]
        assert found["throughput"] > 0
        assert [layer["name"] for layer in found["layers"]] == ["one", "two", "three"]
        assert [round(layer["microseconds"], 6) for layer in found["layers"]] == [1, 2, 3]
        assert [layer["is_plugin"] for layer in found["layers"]] == plugins


def test_bench_of_a_model_that_is_refused_natively(run: Run, tmp_path: Path) -> None:
    _model(tmp_path / "m.onnx", "tpat_Relu", "tpat_Sqrt")
    _model(tmp_path / "original.onnx", "Relu", "Exp")
    code, out, err = run(
        "bench", "-i", "m.onnx", "--original", "original.onnx", "B", "--duration", "0", "--warmUp", "0"
    )
    assert (code, err) == (0, "")
    assert "native     TensorRT's parser refused node 'three' (Exp)" in out
    assert "the 3 slowest of 3 layers" in out
