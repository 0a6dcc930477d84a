"""Runs a Dockerfile's steps in the root folder of a Debian instead of an image, and then its command.

    debootstrap --variant=minbase --include=ca-certificates bookworm DIR
    python -m tests.docker docker/Dockerfile DIR

For machines without Docker; needs root. Proves that the steps work on a plain Debian: packages are there under these
names, the wheel is built and installed from the build context, the command runs as the user of the image, and generates
source. It does not prove anything about NVIDIA's image. DIR is left as it is; the stages are copies beside it.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile_parse import DockerfileParser

CONTEXT = Path(__file__).resolve().parents[2]
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

EXAMPLE = """
import onnx
from onnx import TensorProto as T, helper as h
tensors = [h.make_tensor_value_info(name, T.FLOAT, [16, 128]) for name in "xy"]
graph = h.make_graph([h.make_node("Softmax", ["x"], ["y"], name="softmax")], "g", tensors[:1], tensors[1:])
onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), "model.onnx")
"""


@dataclass
class Stage:
    """What the steps have made so far: a root folder, and what the next command runs with."""

    root: Path
    user: str = "0"
    folder: str = "/"
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    entry_point: list[str] = field(default_factory=list)

    def run(self, *command: str) -> None:
        """In the root, as the user, in the folder."""
        print(f"  + {' '.join(command)[:150]}", flush=True)
        # How this machine reaches the package index is no part of the image.
        outside = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        outside |= {name: value for name, value in os.environ.items() if name.startswith("PIP_INDEX")}
        user = ["--userspec", f"{self.user}:{self.user}"]
        inside = ["env", "-C", self.folder, *command]
        subprocess.run(["chroot", *user, str(self.root), *inside], env={**outside, **self.environment}, check=True)


def build(dockerfile: Path, base: Path, scratch: Path) -> Stage:
    """Takes the steps; returns the last stage."""
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    with dockerfile.open("rb") as stream:
        structure = DockerfileParser(fileobj=stream).structure
    for step in structure:
        instruction, value = step["instruction"], step["value"]
        if instruction in ("COMMENT", "ARG"):
            continue
        print(f"{instruction} {value[:120]}", flush=True)
        if instruction == "FROM":
            name = value.split()[-1] if " AS " in value else f"stage {len(stages)}"
            stage = stages[name] = Stage(_copy_of(base, scratch / str(len(stages))))
        elif stage is None:
            raise SystemExit(f"{instruction} before FROM")
        elif instruction == "RUN":
            stage.run("/bin/sh", "-c", value)
        elif instruction == "COPY":
            _copy(value, stage, stages)
        elif instruction == "ENV":
            for name, text in re.findall(r"(\w+)=(\S+)", value):
                stage.environment[name] = text.replace("$PATH", stage.environment["PATH"])
        elif instruction == "USER":
            stage.user = value
        elif instruction == "WORKDIR":
            stage.folder = value
            (stage.root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif instruction == "ENTRYPOINT":
            stage.entry_point = json.loads(value)
        else:
            raise SystemExit(f"{instruction} is not known here")
    if stage is None:
        raise SystemExit(f"{dockerfile} has no step")
    return stage


def _copy_of(base: Path, root: Path) -> Path:
    subprocess.run(["cp", "--archive", str(base), str(root)], check=True)
    for file in ("/etc/resolv.conf", CERTIFICATES):
        target = root / file.lstrip("/")
        target.unlink(missing_ok=True)
        shutil.copyfile(file, target)
    return root


def _copy(value: str, stage: Stage, stages: dict[str, Stage]) -> None:
    words = value.split()
    target = stage.root / words[-1].lstrip("/")
    if words[0].startswith("--from="):
        source = stages[words[0].removeprefix("--from=")].root / words[1].lstrip("/")
        shutil.copytree(source, target, symlinks=True)
        return
    # The build context as .dockerignore leaves it: everything that is not named is ignored.
    lines = (CONTEXT / ".dockerignore").read_text().splitlines()
    target.mkdir(parents=True)
    for name in (line[1:] for line in lines if line.startswith("!")):
        if (CONTEXT / name).is_dir():
            shutil.copytree(CONTEXT / name, target / name, ignore=lambda _, names: fnmatch.filter(names, "__pycache__"))
        else:
            shutil.copyfile(CONTEXT / name, target / name)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.docker")
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("root", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.root.resolve().parent) as scratch:
        stage = build(arguments.dockerfile, arguments.root, Path(scratch))
        work = stage.root / "work"
        work.chmod(0o777)  # a mounted folder of the user's
        stage.run("python", "-c", EXAMPLE)
        options = ["-i", "model.onnx", "-o", "model_tpat.onnx", "-n", "softmax", "--target", "jetson-orin"]
        stage.run(*stage.entry_point, "generate", *options, "--source_only")
        made = sorted(str(path.relative_to(work)) for path in work.rglob("Makefile"))
        print(f"made {made}; {stage.root / 'opt'} takes {_mebibytes(stage.root / 'opt')} MiB")
        return int(made != ["plugins/src/tpat_plugins/Makefile"])


def _mebibytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*")) >> 20


if __name__ == "__main__":
    sys.exit(main())
