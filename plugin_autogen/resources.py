"""Where the files that are not Python lie: in a checkout's folders, or inside the package of an installed wheel."""

from __future__ import annotations

from pathlib import Path

from plugin_autogen.errors import PluginAutogenError

_PACKAGE = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    for folder in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise PluginAutogenError(f"the installation lacks its folder {name!r}: install the package again")


def templates() -> Path:
    """The folder of the C++ and CMake templates. Raises `PluginAutogenError` if the installation lacks it."""
    return _folder("templates")


def cuda_build() -> Path:
    """The folder of what compilation needs. Raises `PluginAutogenError` if the installation lacks it."""
    return _folder("cuda_build")


def interface_include() -> Path:
    """The include folder of the project's own declarations of TensorRT's plugin interfaces (`nvinfer_interface.h`)."""
    return cuda_build() / "include"
