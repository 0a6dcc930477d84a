"""Engines out of rewritten models: TensorRT or TensorRT-RTX, whichever is installed, through Polygraphy."""

from __future__ import annotations


def default_release() -> str | None:
    """The key of `releases.RELEASES` for what is installed: "8", "10", "11" or "rtx"; None when nothing is.

    TensorRT itself comes before TensorRT-RTX. Nothing of either is imported.
    """
    from plugin_autogen.engine import runtime_library
    from plugin_autogen.releases import RELEASES

    for backend in runtime_library.installed():
        key = "rtx" if backend.is_rtx else str(backend.version[0])
        if key in RELEASES and backend.takes_plugins:
            return key
    return None
