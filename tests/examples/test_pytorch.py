"""examples/pytorch: what its script runs, from the committed export to an engine, and the numbers of its plugins."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest

from plugin_autogen import pipeline, releases
from plugin_autogen.cli import main, onnx_to_plugin_main
from plugin_autogen.graph.extract import extract
from plugin_autogen.graph.model import load_model
from plugin_autogen.graph.rewrite import rewrite
from plugin_autogen.graph.selection import select
from plugin_autogen.lowering import custom
from plugin_autogen.pipeline import Check
from tests.real.chain import cpu_plugins, run_chain

EXAMPLE = Path(__file__).parents[2] / "examples" / "pytorch"


def test_the_script_ends_in_an_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its commands, with code for one GPU to be quick."""
    text = (EXAMPLE / "run.sh").read_text().replace("\\\n", " ")
    commands = [shlex.split(line) for line in re.findall(r"^(?:onnx_to_plugin|plugin_autogen) .*", text, re.M)]
    assert [command[:2] for command in commands] == [
        ["plugin_autogen", "inspect"], ["onnx_to_plugin", "-i"], ["plugin_autogen", "build"]
    ]  # fmt: skip
    for command, *words in commands:
        arguments = [word.replace("$work", str(tmp_path)).replace("$here", str(EXAMPLE)) for word in words]
        if command == "onnx_to_plugin":
            assert onnx_to_plugin_main([*arguments, "--arch", "sm_90"]) == 0, capsys.readouterr().err
        else:
            assert main(arguments) == 0, capsys.readouterr().err
    text = capsys.readouterr().out
    assert "2 of them not taken by" in text and "2 plugins taken by TensorRT-RTX" in text
    assert (tmp_path / "net.engine").stat().st_size > 0


def test_the_network_computes_what_pytorch_did(tmp_path: Path) -> None:
    arrays = np.load(EXAMPLE / "net.npz")
    rtx = releases.release("rtx")
    with custom.converters([EXAMPLE / "operators.py"]) as functions:
        model = load_model(EXAMPLE / "net.onnx", functions, custom.output_types)
        extraction = extract(model, select(model, node_types=["Softclip"]), rtx, allow_symbolic=True)
        plans = {s.name: pipeline.build_plugin_plan(s, Check.CPU)[0] for s in extraction.subgraphs}
        rewritten = rewrite(model, extraction, {name: plan.fingerprint for name, plan in plans.items()})
    outputs = run_chain(rewritten, cpu_plugins(extraction, plans, tmp_path), {"x": arrays["x"]})
    np.testing.assert_allclose(outputs["y"], arrays["y"], rtol=1e-5, atol=1e-6)


def test_the_committed_export_names_no_folder() -> None:
    model = onnx.load(EXAMPLE / "net.onnx")
    assert {node.domain for node in model.graph.node} == {"", "mine"}
    assert not any(node.metadata_props for node in model.graph.node)
