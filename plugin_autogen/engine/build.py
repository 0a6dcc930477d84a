"""Builds an engine from a rewritten model and its plugin libraries, and says which plugins the builder took.

The work is done in a child process (`engine/worker.py`): the loader reads LD_LIBRARY_PATH when a process starts, and
a native library that aborts must end in one clear line, not in the end of this process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugin_autogen.engine import runtime_library
from plugin_autogen.engine.runtime_library import Backend
from plugin_autogen.errors import EngineError, ModelError, OutputError, shorten

Shape = tuple[int, ...]
Profile = Mapping[str, tuple[Shape, Shape, Shape]]


@dataclass(frozen=True)
class PluginUse:
    """A plugin of the model that the builder took.

    Attributes:
        op_type: the operator of its nodes, which is the plugin's name.
        library: the file that registered it; None for one that TensorRT brought itself.
        nodes: names of the model's nodes of that operator.
        layers: names of the layers of that plugin in the network that was built.
    """

    op_type: str
    library: Path | None
    nodes: tuple[str, ...]
    layers: tuple[str, ...]


@dataclass(frozen=True)
class EngineReport:
    """What came of a build.

    Attributes:
        builder: `TensorRT-RTX 1.7.1.116`.
        engine: where the engine lies; None when it was not wanted.
        bytes: its size.
        seconds: of the whole build, the start of TensorRT included.
        layers: number of layers in the network.
        plugins: one entry for each plugin in the model, in the order of their first nodes.
        engine_layers: names of the built engine's layers, where this machine can load it (a GPU); else None.
        outputs: shapes of the network's outputs as the builder infers them; -1 where they are open.
        warnings: what the builder warned of, one line each.
    """

    builder: str
    engine: Path | None
    bytes: int
    seconds: float
    layers: int
    plugins: tuple[PluginUse, ...]
    engine_layers: tuple[str, ...] | None
    outputs: Mapping[str, tuple[int, ...]]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class RefusedNode:
    """A node that the parser cannot import: its index in the graph, name, operator and the parser's reason."""

    index: int
    name: str
    op_type: str
    reason: str


def build_engine(
    model: Path,
    engine: Path | None,
    plugins: Sequence[Path] = (),
    builder: str | None = None,
    profile: Profile | None = None,
) -> EngineReport:
    """Builds an engine.

    Args:
        model: ONNX file.
        engine: where to write it; None builds it only to see that it can be built.
        plugins: plugin libraries, and folders that are searched for `*.so`.
        builder: `tensorrt` or `rtx`; by default what is installed, TensorRT first.
        profile: for inputs with dynamic dimensions (minimum, optimum, maximum); inputs without one get 1 for each.

    Raises:
        ModelError: the model is missing.
        EngineError: no TensorRT, a library that does not load, or a model that the parser or builder refuses; names the
            node and operator where the parser tells them.
        OutputError: the engine cannot be written.
    """
    libraries = find_libraries(plugins)
    request: dict[str, Any] = {
        "action": "build",
        "model": str(_existing(model)),
        "libraries": [str(path) for path in libraries],
        "profile": {name: [list(shape) for shape in shapes] for name, shapes in (profile or {}).items()},
    }
    backend = runtime_library.choose(builder)
    with tempfile.TemporaryDirectory(prefix="plugin_autogen-") as scratch:
        temporary = _beside(engine) if engine is not None else None
        try:
            request["engine"] = str(temporary) if temporary else None
            result = _in_child(backend, request, Path(scratch))
            if engine is not None and temporary is not None:
                _replace(temporary, engine)
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
    return EngineReport(
        builder=str(backend),
        engine=engine,
        bytes=result["bytes"],
        seconds=result["seconds"],
        layers=result["layers"],
        plugins=tuple(
            PluginUse(
                op_type=use["op_type"],
                library=Path(use["library"]) if use["library"] else None,
                nodes=tuple(use["nodes"]),
                layers=tuple(use["layers"]),
            )
            for use in result["plugins"]
        ),
        engine_layers=tuple(result["engine_layers"]) if result["engine_layers"] is not None else None,
        outputs={name: tuple(shape) for name, shape in result["outputs"].items()},
        warnings=tuple(result["warnings"]),
    )


def supports(model: Path, plugins: Sequence[Path] = (), builder: str | None = None) -> list[RefusedNode]:
    """The nodes that the parser refuses, in the order of the graph; none when it takes the whole model.

    It names every node whose operator, attributes or types it refuses outright. A node that fails only while the
    network is made (a shape that does not fit, say) is named when no other is left, so a caller that replaces nodes
    asks again.

    Raises:
        ModelError: the model is missing.
        EngineError: no TensorRT, or it cannot read the model at all.
    """
    libraries = find_libraries(plugins)
    request = {
        "action": "supports",
        "model": str(_existing(model)),
        "libraries": [str(path) for path in libraries],
    }
    backend = runtime_library.choose(builder)
    with tempfile.TemporaryDirectory(prefix="plugin_autogen-") as scratch:
        result = _in_child(backend, request, Path(scratch))
    return [RefusedNode(**node) for node in result["refused"]]


def find_libraries(paths: Iterable[Path]) -> list[Path]:
    """The plugin libraries that the paths name, absolute, each once; folders stand for all `*.so` below them.

    Raises:
        EngineError: a path is missing, or a folder holds no library.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*.so") if not any(part.startswith(".") for part in p.parts))
            if not inside:
                raise EngineError(f"--plugins {shorten(path)}: no *.so below that folder")
            found.update(dict.fromkeys(p.resolve() for p in inside))
        elif path.is_file():
            found[path.resolve()] = None
        else:
            raise EngineError(f"--plugins {shorten(path)}: no such file or folder")
    return list(found)


def _existing(model: Path) -> Path:
    if not model.is_file():
        raise ModelError(f"no such model: {shorten(model)}")
    return model.resolve()


def _beside(path: Path) -> Path:
    """An empty temporary file in the folder of `path`, which is made when missing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise OutputError(f"cannot write {shorten(path)}: it is a folder")
        handle, name = tempfile.mkstemp(prefix=".building-", suffix=".engine", dir=path.parent)
    except OSError as error:
        raise OutputError(
            f"cannot write {shorten(path)}: {error.strerror}; choose another path for the engine"
        ) from None
    os.close(handle)
    return Path(name).resolve()


def _replace(temporary: Path, path: Path) -> None:
    try:
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner reads
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {shorten(path)}: {error.strerror}") from None


def _in_child(backend: Backend, request: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Runs the request in `worker.py`. Raises the `EngineError` that it reports, or one that tells how it died."""
    (scratch / "request.json").write_text(json.dumps({**request, "module": backend.module, "title": backend.title}))
    journal = scratch / "journal.jsonl"
    environment = runtime_library.environment(backend, scratch)
    # The child finds this package where this process did, and runs in a folder that holds nobody's modules.
    package_root = str(Path(__file__).resolve().parents[2])
    paths = [package_root, *(str(Path(path).resolve()) for path in sys.path if path)]
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    done = subprocess.run(
        [sys.executable, "-m", "plugin_autogen.engine.worker", "request.json", "journal.jsonl"],
        cwd=scratch,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    text = journal.read_text(errors="replace") if journal.exists() else ""
    # A line without its end was being written when the process died.
    entries = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    results: list[dict[str, Any]] = [entry["result"] for entry in entries if "result" in entry]
    if results:
        return results[-1]
    last = entries[-1] if entries else {}
    if "error" in last:
        raise EngineError(last["error"])
    stage = last.get("stage", "starting")
    if done.returncode < 0:
        try:
            how = f"was killed by {signal.Signals(-done.returncode).name}"
        except ValueError:
            how = f"was killed by signal {-done.returncode}"
    else:
        how = f"ended with exit status {done.returncode}"
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    words = f": {shorten(lines[-1], 200)}" if lines else ""
    raise EngineError(f"{backend} {how} while {stage}{words}")
