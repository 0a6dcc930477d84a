"""docs/jetson.md and docs/deploy.md: tables are the data's, commands are ours, output is what comes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from plugin_autogen.build import targets
from plugin_autogen.build.architectures import NAMES
from plugin_autogen.cli import main, onnx_to_plugin_main

ROOT = Path(__file__).parents[2]
JETSON = (ROOT / "docs" / "jetson.md").read_text()
DEPLOY = (ROOT / "docs" / "deploy.md").read_text()


def test_the_table_of_boards_is_the_data() -> None:
    jetpack = json.loads((Path(targets.__file__).parent / "targets.json").read_text())["jetpack"]
    rows = []
    for target in targets.targets():
        name = target.name if target == targets.target(target.name) else f"{target.name}:{target.jetpack}"
        software = jetpack[target.jetpack]
        cells = [f"`{name}`", f"sm_{NAMES[target.name][0]}", target.jetpack]
        rows.append("| " + " | ".join([*cells, *(software[k] for k in ("tensorrt", "cuda", "gcc", "python"))]) + " |")
    assert re.findall(r"^\| `jetson.*$", JETSON, re.M) == rows


def commands(page: str, program: str) -> list[list[str]]:
    """The page's command lines of a program, in order."""
    lines = re.findall(rf"^    {program} .*", page.replace("\\\n", " "), re.M)
    return [shlex.split(line)[1:] for line in lines]


def test_the_pages_files_exist() -> None:
    for page in (JETSON, DEPLOY):
        for link in re.findall(r"\]\(([^)#]+)\)", page):
            assert (ROOT / "docs" / link).exists(), link
        for path in re.findall(r"(?:docker|examples)/[\w./-]+\w", page):
            assert (ROOT / path).exists(), path


def test_a_board_gets_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "examples" / "pytorch", tmp_path / "example")
    monkeypatch.chdir(tmp_path / "example")
    monkeypatch.setattr(targets, "MACHINE", "a board's")  # also where this is one
    (command,) = commands(JETSON, "onnx_to_plugin")
    assert onnx_to_plugin_main(command) == 0
    printed = capsys.readouterr().out.splitlines()
    for line in re.findall(r"^    ((?:model|sources|there) .*)$", JETSON, re.M):
        assert line in printed
    assert Path("plugins/src/tpat_plugins/Makefile").is_file()


def test_a_server_gets_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With code for one GPU, to be quick."""
    shutil.copytree(ROOT / "examples" / "pytorch", tmp_path / "example")
    monkeypatch.chdir(tmp_path / "example")
    inspect, build = commands(DEPLOY, "plugin_autogen")
    (generate,) = commands(DEPLOY, "onnx_to_plugin")
    assert main(inspect) == 0
    assert onnx_to_plugin_main([*generate, "--arch", "sm_90"]) == 0
    assert main(build) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    shown = [line[4:].rstrip() for line in DEPLOY.splitlines() if line.startswith("    ")]
    start = ("5 nodes", "2 plugins", "  node_", "model ", "library ", "sources ", "next ", "network ")
    facts = [line for line in shown if line.startswith(start)]
    assert len(facts) == 10
    for line in facts:
        assert line in printed, line
