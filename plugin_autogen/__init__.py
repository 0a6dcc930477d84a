"""Turns nodes of ONNX models into TensorRT plugins.

`onnx2plugin` and `generate` are the functions to call; `converter` registers a function that lowers an operator of the
user's own. `build_engine`, `compare_engine` and `bench_engine` take what was generated to a TensorRT that is installed.
All are imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from plugin_autogen.errors import PluginAutogenError

if TYPE_CHECKING:
    from plugin_autogen.api import GenerationResult, PluginReport, generate, onnx2plugin
    from plugin_autogen.engine.bench import bench_engine
    from plugin_autogen.engine.build import build_engine
    from plugin_autogen.engine.compare import compare_engine
    from plugin_autogen.engine.options import BuildOptions, Inputs, Precision
    from plugin_autogen.lowering.registry import NodeContext, converter

__version__ = "0.1.0"
__all__ = [
    "BuildOptions",
    "GenerationResult",
    "Inputs",
    "NodeContext",
    "PluginAutogenError",
    "PluginReport",
    "Precision",
    "bench_engine",
    "build_engine",
    "compare_engine",
    "converter",
    "generate",
    "onnx2plugin",
]


_HOMES = {
    "BuildOptions": "engine.options",
    "Inputs": "engine.options",
    "NodeContext": "lowering.registry",
    "Precision": "engine.options",
    "bench_engine": "engine.bench",
    "build_engine": "engine.build",
    "compare_engine": "engine.compare",
    "converter": "lowering.registry",
}
"""The modules of what is not in `api`."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module(f"plugin_autogen.{_HOMES.get(name, 'api')}"), name)
    raise AttributeError(f"module 'plugin_autogen' has no attribute {name!r}")
