"""`--check` fails the run when the lowered code computes other numbers than the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from plugin_autogen.cli import onnx_to_plugin_main
from plugin_autogen.lowering import registry
from plugin_autogen.lowering.registry import NodeContext
from tests.models import FLOAT, model, node


@pytest.fixture
def wrong_relu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A converter that is right for all but the elements above 2."""

    def convert(context: NodeContext) -> Any:
        from tvm import relax

        return relax.op.clip(context.input(0), 0, 2)

    registry.load_operators()
    monkeypatch.setitem(registry._REGISTRY, ("", "Relu"), [registry.Entry(1, convert)])


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    onnx.save(
        model([node("Relu", "x", "y", "n")], {"x": (FLOAT, [40, 50])}, {"y": (FLOAT, [40, 50])}), tmp_path / "m.onnx"
    )
    return ["-i", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "out" / "m.onnx"), "-n", "n", "--arch", "sm_90"]


def test_a_mismatch_fails_the_run_with_the_worst_element(
    wrong_relu: None, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert onnx_to_plugin_main(arguments) != 0
    (line,) = capsys.readouterr().err.splitlines()
    for words in (
        'node "n" (Relu)',
        "differs from ONNX Runtime",
        "of 2000 values differ",
        "the worst at [",
        "2.0 inst",
    ):
        assert words in line
    assert not (tmp_path / "out").exists()


def test_without_the_check_the_run_passes_and_says_that_nothing_was_checked(
    wrong_relu: None, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert onnx_to_plugin_main([*arguments, "--check", "off"]) == 0
    assert "not checked" in capsys.readouterr().out
