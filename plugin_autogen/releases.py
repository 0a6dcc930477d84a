"""The TensorRT releases that plugins are generated for: which plugin interface, and which types its borders take."""

from __future__ import annotations

import dataclasses
import enum
import re
from dataclasses import dataclass

from plugin_autogen import dtypes
from plugin_autogen.dtypes import ElementType
from plugin_autogen.errors import SelectionError, shorten


class Interface(enum.Enum):
    """The plugin class of TensorRT that the generated code derives from."""

    V2 = "IPluginV2DynamicExt"
    V3 = "IPluginV3"


@dataclass(frozen=True)
class Release:
    """One choice of `--tensorrt`.

    Attributes:
        key: what the user types.
        title: for messages and tables.
        interface: the plugin interface used there.
        border_types: element types that a tensor between a plugin and the network may have. V2 plugins take neither
            bool nor int64 (NvInferRuntimePlugin.h, `supportsFormatCombination`); no network has uint8 inside.
        oldest_arch: compute capability (53 for 5.3) of the oldest GPU that its plugins' source must compile for: 8.2
            runs on Jetson Nano, and no wheel's nvcc can be told of it.
        version: the minor release that the user named, (8, 5): it decides what its parser takes, and nothing else.
    """

    key: str
    title: str
    interface: Interface
    border_types: frozenset[ElementType]
    oldest_arch: int = 75
    version: tuple[int, int] | None = None

    @property
    def is_weakly_typed(self) -> bool:
        """Whether its builder may choose the types of tensors, within what it is allowed (trtexec's --fp16)."""
        return self.key in ("8", "10")

    def takes(self, dtype: ElementType) -> bool:
        return dtype in self.border_types


_V2_TYPES = frozenset({dtypes.FLOAT32, dtypes.FLOAT16, dtypes.INT8, dtypes.INT32})
_V3_TYPES = _V2_TYPES | {dtypes.BFLOAT16, dtypes.INT64, dtypes.BOOL, dtypes.FLOAT8_E4M3FN}

RELEASES: dict[str, Release] = {
    release.key: release
    for release in (
        Release("8", "TensorRT 8.2 to 8.6", Interface.V2, _V2_TYPES, oldest_arch=53),
        Release("10", "TensorRT 10", Interface.V3, _V3_TYPES),
        Release("11", "TensorRT 11", Interface.V3, _V3_TYPES),
        Release("rtx", "TensorRT-RTX 1.7", Interface.V3, _V3_TYPES),
    )
}


def release(key: str) -> Release:
    """The release of this key, "10", or of a minor version, "10.3". Raises `SelectionError` naming those that exist."""
    if key in RELEASES:
        return RELEASES[key]
    match = re.fullmatch(r"(8|10|11)\.(\d{1,2})", key)
    if match and (version := (int(match[1]), int(match[2]))) >= (8, 2):
        return dataclasses.replace(RELEASES[match[1]], title=f"TensorRT {version[0]}.{version[1]}", version=version)
    raise SelectionError(
        f"unknown TensorRT release {shorten(key, 40)!r}: choose one of {', '.join(RELEASES)}, "
        "or a minor one such as 8.5"
    )
