"""Builds an engine from a rewritten model and its plugin libraries, and says which plugins the builder took.

The work is done in a child process, see `child.py`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugin_autogen.engine import child, runtime_library
from plugin_autogen.engine.options import BuildOptions, Profile, StrPath
from plugin_autogen.errors import EngineError, ModelError, OutputError, shorten
from plugin_autogen.graph.rewrite import LIBRARIES_KEY


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
    model: StrPath,
    engine: StrPath | None = None,
    plugins: Sequence[StrPath] = (),
    builder: str | None = None,
    profile: Profile | None = None,
    options: BuildOptions | None = None,
) -> EngineReport:
    """Builds an engine.

    Args:
        model: ONNX file.
        engine: where to write it; None builds it only to see that it can be built.
        plugins: plugin libraries, and folders that are searched for `*.so`; none: those that the model's metadata
            names.
        builder: `tensorrt` or `rtx`; by default what is installed, TensorRT first.
        profile: for inputs with dynamic dimensions (minimum, optimum, maximum); inputs without one get 1 for each.
        options: precision, workspace and so on; None: the release's defaults.

    Raises:
        ModelError: the model is missing.
        EngineError: no TensorRT, one that lacks an option, a library that does not load, or a model that the parser or
            builder refuses; names the node and operator where the parser tells them.
        OutputError: the engine cannot be written.
    """
    request = build_request(model, plugins, profile, options or BuildOptions())
    backend = runtime_library.choose(builder)
    engine = Path(engine) if engine is not None else None
    temporary = _beside(engine) if engine is not None else None
    try:
        result = child.run(backend, {**request, "action": "build", "engine": str(temporary) if temporary else None})
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


def build_request(
    model: StrPath, plugins: Sequence[StrPath], profile: Profile | None, options: BuildOptions
) -> dict[str, Any]:
    """What the worker needs to build an engine."""
    path = existing(model)
    libraries = find_libraries(plugins) if plugins else libraries_of(path)
    return {
        "model": str(path),
        "libraries": [str(library) for library in libraries],
        "profile": {name: [list(shape) for shape in shapes] for name, shapes in (profile or {}).items()},
        "options": options.request(),
    }


def supports(model: StrPath, plugins: Sequence[StrPath] = (), builder: str | None = None) -> list[RefusedNode]:
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
        "model": str(existing(model)),
        "libraries": [str(path) for path in libraries],
    }
    result = child.run(runtime_library.choose(builder), request)
    return [RefusedNode(**node) for node in result["refused"]]


def find_libraries(paths: Iterable[StrPath]) -> list[Path]:
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


def libraries_of(model: Path) -> list[Path]:
    """The plugin libraries that a rewritten model's metadata names, absolute.

    Only files below the model's own folder count: a model from elsewhere must not choose what code is run here.

    Raises:
        EngineError: one of them is missing, or lies elsewhere.
    """
    import onnx

    try:
        metadata = onnx.load(model, load_external_data=False).metadata_props
    except Exception:  # protobuf's and onnx's own exceptions share no base class; the parser will say what is wrong
        return []
    text = next((entry.value for entry in metadata if entry.key == LIBRARIES_KEY), "[]")
    try:
        names = [str(name) for name in json.loads(text)]
    except (ValueError, TypeError):
        raise EngineError(f"the metadata of {shorten(model)} is broken: name the libraries with --plugins") from None
    root = model.resolve().parent
    found = []
    for name in names:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise EngineError(
                f"the model's plugin library {shorten(name)} lies outside the model's folder: name it with --plugins"
            )
        if not path.is_file():
            raise EngineError(
                f"the model's plugin library {shorten(name)} is not beside it: put it there, or name it with --plugins"
            )
        found.append(path)
    return found


def existing(path: StrPath, what: str = "model") -> Path:
    """The absolute path. Raises `ModelError` when there is no such file."""
    if not Path(path).is_file():
        raise ModelError(f"no such {what}: {shorten(path)}")
    return Path(path).resolve()


def require_gpu(what: str) -> None:
    """Raises `EngineError` where no GPU can run an engine."""
    from plugin_autogen.build.architectures import native
    from plugin_autogen.errors import ToolchainError

    try:
        native()
    except ToolchainError:
        raise EngineError(
            f"no NVIDIA GPU found here, and {what} runs the engine: do it on the machine that has one"
        ) from None


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
