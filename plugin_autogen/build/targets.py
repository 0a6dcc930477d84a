"""The boards of `--target`: which GPU, TensorRT and CUDA a JetPack release puts on them (`targets.json`)."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugin_autogen.errors import ToolchainError, shorten

MACHINE = "aarch64"
"""What `uname -m` says on all of them."""

TRTEXEC = "/usr/src/tensorrt/bin/trtexec"
"""Where JetPack has it; not on PATH."""


@dataclass(frozen=True)
class Target:
    """A board with one JetPack release.

    Attributes:
        name: `jetson-orin`, which is a name of `--arch` too.
        jetpack: `6.2`.
        tensorrt: its release, as `--tensorrt` takes it: `10.3`.
        cuda: the release of its CUDA toolkit, (12, 6).
    """

    name: str
    jetpack: str
    tensorrt: str
    cuda: tuple[int, int]

    @property
    def title(self) -> str:
        """For messages."""
        major, minor = self.cuda
        return f"{self.name} with JetPack {self.jetpack} (TensorRT {self.tensorrt}, CUDA {major}.{minor})"

    @property
    def is_here(self) -> bool:
        """Whether a library that is compiled on this machine can run there."""
        return os.uname().machine == MACHINE


def target(text: str) -> Target:
    """The board of a value of `--target`: `jetson-orin`, or with another JetPack than the usual, `jetson-orin:6.0`.

    Raises:
        ToolchainError: an unknown board or JetPack release; names those that are known.
    """
    name, _, jetpack = text.strip().lower().replace("_", "-").partition(":")
    releases: list[str] = _data()["targets"].get(name, [])
    jetpack = jetpack or next(iter(releases), "")
    if jetpack not in releases:
        raise ToolchainError(f"unknown target {shorten(text, 40)!r}: choose one of {known()}")
    entry = _data()["jetpack"][jetpack]
    major, minor = entry["cuda"].split(".")
    return Target(name, jetpack, entry["tensorrt"], (int(major), int(minor)))


def targets() -> tuple[Target, ...]:
    """Every board with every JetPack release that is known for it, the usual one first."""
    return tuple(target(f"{name}:{jetpack}") for name, releases in _data()["targets"].items() for jetpack in releases)


def known() -> str:
    """All values of `--target`, for messages: `jetson-nano, …, jetson-orin or jetson-orin:6.0|5.1`."""
    return ", ".join(
        name + (f"[:{'|'.join(others)}]" if others else "") for name, (_, *others) in _data()["targets"].items()
    )


@functools.cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads((Path(__file__).parent / "targets.json").read_text())
    return data
