"""What an engine is built with and fed with: plain data, as the commands and the Python functions take it."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plugin_autogen.errors import EngineError, shorten

StrPath = str | os.PathLike[str]
Shape = tuple[int, ...]
Profile = Mapping[str, tuple[Shape, Shape, Shape]]
"""Input → its smallest, best and largest shape."""


class Precision(enum.Enum):
    """A type that the builder may compute in. float32 is always one."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"


HARDWARE_COMPATIBILITY = {"ampere+": "AMPERE_PLUS", "sameComputeCapability": "SAME_COMPUTE_CAPABILITY"}
"""trtexec's name of a level → TensorRT's."""


@dataclass(frozen=True)
class Inputs:
    """Sets of inputs: those of files or of a script, else random ones in [0, 1).

    Attributes:
        files: `.npz`, one set each, with an array for each input under its name.
        script: a Python file; its function yields one dict of arrays by input name after the other.
        function: the name of that function.
        shapes: of random inputs with dynamic dimensions; by default those that the engine is best at.
        sets: how many random sets.
        seed: of the random values.
    """

    files: tuple[Path, ...] = ()
    script: Path | None = None
    function: str = "load_data"
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    sets: int = 1
    seed: int = 0

    @property
    def are_random(self) -> bool:
        return not self.files and self.script is None

    def request(self) -> dict[str, Any]:
        """For the worker. Raises `EngineError` when a file is missing."""
        return {
            "files": [_existing(path) for path in self.files],
            "script": _existing(self.script) if self.script is not None else None,
            "function": self.function,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "sets": self.sets,
            "seed": self.seed,
            "folder": str(Path.cwd()),  # scripts open their files from there
        }


def _existing(path: Path) -> str:
    if not path.is_file():
        raise EngineError(f"no such file of inputs: {shorten(path)}")
    return str(path.resolve())


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built. Each default is the release's own.

    Attributes:
        precisions: what the builder may compute in besides float32.
        strongly_typed: compute in the model's types and no others.
        workspace: bytes that a layer may use at most.
        timing_cache: the builder's measurements, read where the file exists and written.
        version_compatible: the engine loads in later versions of TensorRT too.
        hardware_compatibility: `ampere+` or `sameComputeCapability`: the engine runs on other GPUs too.
        tactic_sources: libraries whose kernels the builder may use, CUDNN for one; () for none.
        calibration: representative inputs for int8; not random.
        calibration_cache: the scales that calibration finds, read where the file exists, else written.
    """

    precisions: frozenset[Precision] = frozenset()
    strongly_typed: bool = False
    workspace: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatibility: str | None = None
    tactic_sources: tuple[str, ...] | None = None
    calibration: Inputs | None = None
    calibration_cache: Path | None = None

    def __post_init__(self) -> None:
        narrow = sorted(p.value for p in self.precisions - {Precision.FP32})
        if self.strongly_typed and narrow:
            raise EngineError(
                f"--stronglyTyped computes in the model's own types, --precision {' '.join(narrow)} in others: "
                "give one of them"
            )
        if Precision.INT8 not in self.precisions and (self.calibration or self.calibration_cache):
            raise EngineError("calibration is for --precision int8: add it, or leave the calibration out")
        if self.calibration is not None and self.calibration.are_random:
            raise EngineError("random inputs calibrate nothing: give representative ones, --inputs or --data_loader")

    def request(self) -> dict[str, Any]:
        """For the worker. Raises `EngineError` when a file is missing."""
        return {
            "precisions": sorted(p.value for p in self.precisions - {Precision.FP32}),
            "strongly_typed": self.strongly_typed,
            "workspace": self.workspace,
            "timing_cache": _absolute(self.timing_cache),
            "version_compatible": self.version_compatible,
            "hardware_compatibility": self.hardware_compatibility,
            "tactic_sources": list(self.tactic_sources) if self.tactic_sources is not None else None,
            "calibration": self.calibration.request() if self.calibration is not None else None,
            "calibration_cache": _absolute(self.calibration_cache),
        }


def _absolute(path: Path | None) -> str | None:
    """The worker runs in a folder of its own. Raises `EngineError` when the file's folder is missing."""
    if path is None:
        return None
    if not path.resolve().parent.is_dir():
        raise EngineError(f"no such folder: {shorten(path.parent)}, where {shorten(path.name)} would be written")
    return str(path.resolve())
