"""The names that matter in the Python bindings of TensorRT's releases, read off the bindings themselves.

8.6.0, 10.0.1, 10.13.3 and 11.1.0 of `tensorrt`, 1.7.1 of `tensorrt_rtx`. 8.5's are 8.6's without what its release
notes call new in 8.6.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

_WEAK = ["FP16", "INT8", "TF32"]
_COMPATIBLE = ["VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"]
_LIBRARIES = ["CUBLAS", "CUBLAS_LT", "CUDNN", "EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"]

NAMES: dict[str, dict[str, list[str] | None]] = {
    "TensorRT 8.5.3": {
        "BuilderFlag": _WEAK,
        "NetworkDefinitionCreationFlag": ["EXPLICIT_BATCH", "EXPLICIT_PRECISION"],
        "HardwareCompatibilityLevel": None,
        "TacticSource": _LIBRARIES,
    },
    "TensorRT 8.6.0": {
        "BuilderFlag": [*_WEAK, *_COMPATIBLE, "FP8"],
        "NetworkDefinitionCreationFlag": ["EXPLICIT_BATCH", "EXPLICIT_PRECISION"],
        "HardwareCompatibilityLevel": ["NONE", "AMPERE_PLUS"],
        "TacticSource": _LIBRARIES,
    },
    "TensorRT 10.0.1": {
        "BuilderFlag": [*_WEAK, *_COMPATIBLE, "BF16", "FP8"],
        "NetworkDefinitionCreationFlag": ["EXPLICIT_BATCH", "STRONGLY_TYPED"],
        "HardwareCompatibilityLevel": ["NONE", "AMPERE_PLUS"],
        "TacticSource": _LIBRARIES,
    },
    "TensorRT 10.13.3.9": {
        "BuilderFlag": [*_WEAK, *_COMPATIBLE, "BF16", "FP8", "INT4", "FP4"],
        "NetworkDefinitionCreationFlag": ["EXPLICIT_BATCH", "STRONGLY_TYPED"],
        "HardwareCompatibilityLevel": ["NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"],
        "TacticSource": _LIBRARIES,
    },
    "TensorRT 11.1.0.106": {
        "BuilderFlag": ["TF32", *_COMPATIBLE],
        "NetworkDefinitionCreationFlag": ["STRONGLY_TYPED"],
        "HardwareCompatibilityLevel": ["NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"],
        "TacticSource": _LIBRARIES[3:],
    },
    "TensorRT-RTX 1.7.1.116": {
        "BuilderFlag": ["TF32", *_COMPATIBLE],
        "NetworkDefinitionCreationFlag": ["STRONGLY_TYPED"],
        "HardwareCompatibilityLevel": ["NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"],
        "TacticSource": _LIBRARIES[3:],
    },
}


def module(title: str) -> Any:
    """Something that answers to these names as the release's module does."""
    enums = {
        name: SimpleNamespace(**dict.fromkeys(members, 0), __members__=dict.fromkeys(members, 0))
        for name, members in NAMES[title].items()
        if members is not None
    }
    return SimpleNamespace(**enums, IBuilderConfig=SimpleNamespace(create_timing_cache=None))
