"""Turns nodes of ONNX models into TensorRT plugins.

`onnx2plugin` and `generate` are the functions to call; `converter` registers a function that lowers an operator of the
user's own. All are imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugin_autogen.errors import PluginAutogenError

if TYPE_CHECKING:
    from plugin_autogen.api import GenerationResult, PluginReport, generate, onnx2plugin
    from plugin_autogen.lowering.registry import NodeContext, converter

__version__ = "0.1.0"
__all__ = [
    "GenerationResult",
    "NodeContext",
    "PluginAutogenError",
    "PluginReport",
    "converter",
    "generate",
    "onnx2plugin",
]


def __getattr__(name: str) -> Any:
    if name in ("NodeContext", "converter"):
        from plugin_autogen.lowering import registry

        return getattr(registry, name)
    if name in __all__:
        from plugin_autogen import api

        return getattr(api, name)
    raise AttributeError(f"module 'plugin_autogen' has no attribute {name!r}")
