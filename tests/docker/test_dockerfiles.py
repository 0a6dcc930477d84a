"""The Dockerfiles keep hadolint's rules and ours. No Docker runs here: `python -m tests.docker` tries their steps."""

from __future__ import annotations

import os
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "docker").glob("Dockerfile*"))


def steps(file: Path) -> list[tuple[str, str]]:
    with file.open("rb") as stream:
        structure = DockerfileParser(fileobj=stream).structure
    return [(s["instruction"], s["value"]) for s in structure if s["instruction"] != "COMMENT"]


def test_there_is_one_for_servers_and_one_for_boards() -> None:
    assert [file.name for file in FILES] == ["Dockerfile", "Dockerfile.jetson"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_hadolint_finds_nothing(file: Path) -> None:
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["hadolint", "--failure-threshold", "style", str(file)],
        env={**os.environ, "PATH": places},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_our_rules(file: Path) -> None:
    found = steps(file)
    # One build argument, whose default would be the name of a registry.
    ((instruction, argument),) = [s for s in found if s[0] == "ARG"]
    assert (instruction, argument) == found[0] and argument.isidentifier()
    images = [value.split()[0] for instruction, value in found if instruction == "FROM"]
    assert images == [f"${{{argument}}}"] * 2
    last = found[max(i for i, step in enumerate(found) if step[0] == "FROM") :]
    users = [value for instruction, value in last if instruction == "USER"]
    assert users and users[-1].isdigit() and int(users[-1]) > 0
    assert last[-1] == ("ENTRYPOINT", '["plugin_autogen"]')
    assert len([s for s in last if s[0] in ("RUN", "COPY")]) == 2  # layers of the image, beside its base's
    text = " ".join(value for _, value in found)
    assert not any(word in text for word in ("llvm", "git clone", "cmake --build", "sudo", "://"))


def test_the_build_context_is_what_a_wheel_is_made_of() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    taken = {line[1:] for line in lines if line.startswith("!")}
    assert all((ROOT / name).exists() for name in taken)
    # What pyproject.toml names as parts of a wheel.
    assert {"plugin_autogen", "templates", "cuda_build", "pyproject.toml", "README.md", "LICENSE"} == taken
    assert any(fnmatch("plugin_autogen/__pycache__", line) for line in lines)
