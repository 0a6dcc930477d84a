"""Which TensorRT is installed for this Python, and what a process needs in its environment to use it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

from plugin_autogen.errors import EngineError

REMEDY = 'install one: pip install "plugin_autogen[engine]" (TensorRT-RTX, Python 3.10 to 3.12), or NVIDIA\'s TensorRT'

OLDEST_RTX = (1, 7)
"""The first TensorRT-RTX that takes plugins."""

_MODULES = (("tensorrt", "TensorRT"), ("tensorrt_rtx", "TensorRT-RTX"), ("tensorrt_rtx_bindings", "TensorRT-RTX"))


@dataclass(frozen=True)
class Backend:
    """An installed TensorRT.

    Attributes:
        module: the Python module to import.
        title: `TensorRT` or `TensorRT-RTX`.
        version: its release, (10, 13, 0); (0,) where it tells none.
    """

    module: str
    title: str
    version: tuple[int, ...]

    @property
    def is_rtx(self) -> bool:
        return self.title == "TensorRT-RTX"

    @property
    def takes_plugins(self) -> bool:
        return not self.is_rtx or self.version >= OLDEST_RTX

    def __str__(self) -> str:
        return f"{self.title} {'.'.join(map(str, self.version))}"


def installed() -> list[Backend]:
    """The TensorRTs that this Python could import, TensorRT before TensorRT-RTX. Imports none of them."""
    found: dict[str, Backend] = {}
    for module, title in _MODULES:
        if title in found:
            continue
        location = _location(module)
        if location is not None:
            found[title] = Backend(module, title, _version(module, location))
    return list(found.values())


def choose(name: str | None = None) -> Backend:
    """The TensorRT to use.

    Args:
        name: `tensorrt` or `rtx`; by default the first that is installed.

    Raises:
        EngineError: it is not installed, or is a TensorRT-RTX that takes no plugins.
    """
    wanted = {"tensorrt": "TensorRT", "rtx": "TensorRT-RTX", None: None}
    if name not in wanted:
        raise EngineError(f"unknown builder {name!r}: choose tensorrt or rtx")
    title = wanted[name]
    candidates = [backend for backend in installed() if title in (None, backend.title)]
    if not candidates:
        raise EngineError(f"{title or 'TensorRT'} is not installed for this Python: {REMEDY}")
    backend = candidates[0]
    if not backend.takes_plugins:
        raise EngineError(f"{backend} takes no plugins, 1.7 is the first that does: {REMEDY}")
    return backend


def environment(backend: Backend, folder: Path) -> dict[str, str]:
    """The environment for a process that uses this TensorRT.

    TensorRT-RTX's parser opens `libtensorrt_rtx.so`, a name that its wheel has not got, and ends the process when it
    finds none. A link of that name is made in `folder`, and the folder leads LD_LIBRARY_PATH, which the loader reads at
    the start of a process only.
    """
    values = dict(os.environ)
    # Polygraphy reads this when it is imported.
    values["POLYGRAPHY_USE_TENSORRT_RTX"] = "1" if backend.is_rtx else "0"
    if not backend.is_rtx:
        return values
    libraries = _location("tensorrt_rtx_libs")
    if libraries is not None:
        for file in sorted(libraries.glob("libtensorrt_rtx.so.*")):
            link = folder / "libtensorrt_rtx.so"
            if not link.exists():
                link.symlink_to(file)
        paths = [str(folder), str(libraries), values.get("LD_LIBRARY_PATH", "")]
        values["LD_LIBRARY_PATH"] = os.pathsep.join(path for path in paths if path)
    return values


def _location(module: str) -> Path | None:
    """The folder of a package, without importing it."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    # A folder that only bears the name (a checkout, say) is a namespace package without a file.
    return folder if spec.origin else None


def _version(module: str, folder: Path) -> tuple[int, ...]:
    """The release that the package's own files tell; the distribution's name differs from one CUDA to the next."""
    try:
        text = (folder / "__init__.py").read_text(errors="replace")
    except OSError:
        text = ""
    match = re.search(r"^__version__\s*=\s*[\"'](\d+(?:\.\d+)*)", text, re.M)
    if match is None:
        for name in sorted(importlib.metadata.packages_distributions().get(module, [])):
            match = re.match(r"(\d+(?:\.\d+)*)", importlib.metadata.version(name))
            if match:
                break
    return tuple(int(part) for part in match[1].split(".")) if match else (0,)
