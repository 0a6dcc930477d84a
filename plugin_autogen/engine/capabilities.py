"""What the installed TensorRT lacks of what was asked for, in one line that names the remedy.

The module itself is asked, by the names that its bindings have, not its version: TensorRT 11 and TensorRT-RTX have
neither precision flags nor calibrators, 8.5 no compatibility, 8 no strong types and no bfloat16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plugin_autogen.engine.options import HARDWARE_COMPATIBILITY
from plugin_autogen.errors import EngineError, shorten

_CONVERT = {
    "fp16": "convert the model to float16 (polygraphy convert --fp-to-fp16, say)",
    "bf16": "convert the model to bfloat16",
    "int8": "quantize the model (QuantizeLinear and DequantizeLinear nodes, as "
    "onnxruntime.quantization.quantize_static makes them)",
}


def check_options(trt: Any, title: str, options: Mapping[str, Any]) -> None:
    """Raises `EngineError` for the first option that this TensorRT has not got.

    Args:
        trt: the Python module.
        title: `TensorRT 8.6.0`, for the message.
        options: `BuildOptions.request()`.
    """
    flags = trt.BuilderFlag
    for precision in options["precisions"]:
        if hasattr(flags, precision.upper()):
            continue
        if hasattr(flags, "FP16"):
            raise EngineError(f"{title} has no {precision}, TensorRT 10 is the first that has: use --precision fp16")
        raise EngineError(
            f"{title} computes in the model's own types, without --precision {precision}: {_CONVERT[precision]} and "
            "leave the option out"
        )
    if options["strongly_typed"] and not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        raise EngineError(
            f"{title} has no strongly typed networks, TensorRT 10 is the first that has: leave --stronglyTyped out, "
            "and name the types with --precision"
        )
    if options["version_compatible"] and not hasattr(flags, "VERSION_COMPATIBLE"):
        raise EngineError(
            f"{title} has no version compatible engines, TensorRT 8.6 is the first that has: build on each machine "
            "without --versionCompatible"
        )
    if options["version_compatible"] and title.startswith("TensorRT-RTX"):
        # The flag is there, the runtime that such an engine carries is not.
        raise EngineError(f"{title} has no version compatible engines: build one for each release")
    _check_hardware(trt, title, options["hardware_compatibility"])
    if options["timing_cache"] and not hasattr(trt.IBuilderConfig, "create_timing_cache"):
        raise EngineError(f"{title} keeps no timing cache: leave --timingCacheFile out")
    known = list(trt.TacticSource.__members__)
    for source in options["tactic_sources"] or ():
        if source not in known:
            raise EngineError(f"{title} has no tactic source {shorten(source, 60)}: choose of {', '.join(known)}")


def _check_hardware(trt: Any, title: str, level: str | None) -> None:
    if level is None:
        return
    levels = getattr(trt, "HardwareCompatibilityLevel", None)
    if levels is None:
        raise EngineError(
            f"{title} has no hardware compatible engines, TensorRT 8.6 is the first that has: build on each GPU "
            "without --hardwareCompatibilityLevel"
        )
    if not hasattr(levels, HARDWARE_COMPATIBILITY[level]):
        raise EngineError(f"{title} has no hardware compatibility level {level}: use ampere+")
