"""examples/custom_operators: foreign operators get a meaning in three ways, and its page shows what the files hold."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from plugin_autogen import pipeline, releases
from plugin_autogen.cli import main, onnx_to_plugin_main
from plugin_autogen.graph.extract import extract
from plugin_autogen.graph.model import load_model
from plugin_autogen.graph.rewrite import rewrite
from plugin_autogen.graph.selection import select
from plugin_autogen.graph.support import by_table
from plugin_autogen.lowering import custom
from plugin_autogen.pipeline import Check
from tests.real.chain import cpu_plugins, run_chain

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "custom_operators"
sys.path.insert(0, str(EXAMPLE))

import make_models  # noqa: E402

Array = np.ndarray
RTX = releases.release("rtx")


def sigmoid(x: Array) -> Array:
    return (1 / (1 + np.exp(-x.astype(np.float64)))).astype(np.float32)


def defined(name: str, body: dict[str, str]) -> onnx.ModelProto:
    """The example's model with its foreign operators as local functions, for ONNX Runtime: what they mean."""
    proto = make_models.MODELS[name]()
    for operator, text in body.items():
        proto.functions.append(onnx.parser.parse_function(text))
        assert proto.functions[-1].name == operator
    return proto


MEANING = {
    "swish": {
        "Swish": """<domain: "custom_domain", opset_import: ["" : 17]> Swish <beta> (x) => (y)
            { b = Constant <value_float: float = @beta> () s = Mul(x, b) g = Sigmoid(s) y = Mul(x, g) }"""
    },
    "tf2onnx": {
        "Xlogy": """<domain: "ai.onnx.converters.tensorflow", opset_import: ["" : 15]> Xlogy (x, y) => (z)
            { zero = Constant <value_float: float = 0.0> () is_zero = Equal(x, zero) l = Log(y) p = Mul(x, l)
              z = Where(is_zero, zero, p) }"""
    },
    "swish_function": {},
    "grid_sample_5d": {},
}


def expected(name: str, feeds: dict[str, Array]) -> Array:
    if name == "roll":
        shifted = np.roll(feeds["x"], (-2, -2), (1, 2))
        shares = np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)
        return np.roll(shares, (2, 2), (1, 2))
    session = onnxruntime.InferenceSession(defined(name, MEANING[name]).SerializeToString())
    result: Array = session.run(None, feeds)[0]
    return result


@pytest.mark.parametrize(
    ("name", "files", "operators"),
    [
        ("swish", ["converters.py"], {"Swish"}),
        ("swish", ["functions.py"], {"Swish"}),
        ("swish_function", [], {"Swish"}),
        ("roll", ["converters.py"], {"Roll"}),
        ("tf2onnx", ["converters.py"], {"Xlogy"}),
        ("grid_sample_5d", [], {"GridSample"}),
    ],
)
def test_the_plugins_compute_what_the_operators_mean(
    name: str, files: list[str], operators: set[str], tmp_path: Path
) -> None:
    path = EXAMPLE / "models" / f"{name}.onnx"
    with custom.converters([EXAMPLE / file for file in files]) as functions:
        model = load_model(path, functions, custom.output_types)
        # TensorRT 8.5 knows neither Swish nor functions nor volumes; what it refuses is what the example is about.
        refused = by_table(model, releases.release("8.5")).refused
        assert {model.node(key).op_type for key in refused} == operators
        extraction = extract(model, select(model, keys=list(refused)), RTX)
        built = {s.name: pipeline.build_plugin_plan(s, Check.CPU) for s in extraction.subgraphs}
        plans = {plugin: plan for plugin, (plan, *_) in built.items()}
        rewritten = rewrite(model, extraction, {plugin: plan.fingerprint for plugin, plan in plans.items()})
    onnx.checker.check_model(rewritten)
    assert not {f.name for f in rewritten.functions} - {f.name for f in onnx.load(path).functions}
    # Xlogy comes without a reference: its numbers are compared here only
    assert all((not checks) == (name == "tf2onnx") for _, checks in built.values())

    random = np.random.default_rng(0)
    feeds = {
        info.name: random.uniform(-1.2, 1.2, [d.dim_value for d in info.type.tensor_type.shape.dim]).astype(np.float32)
        for info in model.proto.graph.input
    }
    actual = next(iter(run_chain(rewritten, cpu_plugins(extraction, plans, tmp_path), feeds).values()))
    np.testing.assert_allclose(actual, expected(name, feeds), rtol=2e-5, atol=2e-6)


def test_committed_models_are_what_their_maker_writes() -> None:
    for name, make in make_models.MODELS.items():
        assert onnx.load(EXAMPLE / "models" / f"{name}.onnx") == make(), name
    assert {p.stem for p in (EXAMPLE / "models").iterdir()} == set(make_models.MODELS)


def test_the_page_shows_the_files() -> None:
    page = (ROOT / "docs" / "custom_operators.md").read_text()
    sources = "\n".join((EXAMPLE / f"{n}.py").read_text() for n in ("converters", "functions", "export_with_torch"))
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(blocks) >= 4
    for block in blocks:
        assert block.strip() in sources, block
    for command in re.findall(r"^    (onnx_to_plugin .*|plugin_autogen .*)$", page, re.M):
        for word in re.findall(r"\S+\.(?:onnx|py)", command):
            assert (EXAMPLE / word).exists() or "_tpat" in word, command


def test_from_the_command_line_to_the_builder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = EXAMPLE / "models" / "swish.onnx", tmp_path / "swish_tpat.onnx"
    file = ["--converters", str(EXAMPLE / "converters.py")]
    options = ["-i", str(model), "-o", str(out), "--auto", "--tensorrt", "rtx", "--arch", "sm_90", "--library", "swish"]
    assert onnx_to_plugin_main([*options, *file]) == 0, capsys.readouterr().err
    assert main(["build", "-i", str(out), "--plugins", str(tmp_path / "plugins" / "lib")]) == 0
    capsys.readouterr()
    assert main(["inspect", "-i", str(model), "--tensorrt", "rtx", "--all", *file]) == 0
    with_file = capsys.readouterr().out
    assert "for ONNX's Swish" in with_file and "float32 1x4x12x12" in with_file
    assert main(["inspect", "-i", str(model), "--tensorrt", "rtx", "--all"]) == 0
    assert "nothing" in capsys.readouterr().out
    # what a file registers is gone with the command
    assert onnx_to_plugin_main(options) == 1
    assert "cannot be inferred" in capsys.readouterr().err


# --converters ---------------------------------------------------------------------------------------------------------


def fails(text: str | None, folder: Path, words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "mine.py"
    if text is not None:
        path.write_text(text)
    model = str(EXAMPLE / "models" / "roll.onnx")
    options = ["-i", model, "-o", str(folder / "out" / "m.onnx"), "--auto", "--tensorrt", "10", "--arch", "sm_90"]
    assert onnx_to_plugin_main([*options, "--converters", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and len(error) < 700
    for word in words:
        assert word in error
    assert not (folder / "out").exists()


HEAD = "from plugin_autogen import converter\n@converter('Roll', domain='custom_domain')\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ["mine.py", "no such file"]),
        ("x = (", ["mine.py", "line 1", "SyntaxError"]),
        ("x = 1\nraise RuntimeError('a\\nb')", ["line 2", "RuntimeError: a b"]),
        ("import nowhere_to_be_found", ["nowhere_to_be_found"]),
        ("import sys; sys.exit(3)", ["ended the program"]),
        ("x = 1", ["registers no converter"]),
        (HEAD + "def roll(context): return context.input(5)", ["node_Roll_0", "input 5 is missing"]),
        (HEAD + "def roll(context): return 1 / 0", ["node_Roll_0", "cannot be lowered: division by zero"]),
        (HEAD + "def roll(context): return None", ["node_Roll_0", "gives a NoneType"]),
        (HEAD + "def roll(context): return []", ["node_Roll_0", "cannot be inferred", "gives no output"]),
        (HEAD + "def roll(context):\n from tvm import te\n return te.placeholder((2,))", ["gives a Tensor"]),
    ],
)
def test_files_that_do_not_serve(
    text: str | None, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(text, tmp_path, words, capsys)
