"""What a release lacks is said in one line that names the remedy; options that contradict each other likewise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plugin_autogen.engine.capabilities import check_options
from plugin_autogen.engine.options import BuildOptions, Inputs, Precision
from plugin_autogen.errors import EngineError
from tests.engine.releases import NAMES, module

T85, T86, T10, T1013, T11, RTX = NAMES
WITH = {
    "fp16": BuildOptions(frozenset({Precision.FP16})),
    "bf16": BuildOptions(frozenset({Precision.BF16})),
    "int8": BuildOptions(frozenset({Precision.INT8})),
    "strong": BuildOptions(strongly_typed=True),
    "version": BuildOptions(version_compatible=True),
    "ampere": BuildOptions(hardware_compatibility="ampere+"),
    "same": BuildOptions(hardware_compatibility="sameComputeCapability"),
    "cudnn": BuildOptions(tactic_sources=("CUDNN",)),
    "none": BuildOptions(tactic_sources=()),
    "plain": BuildOptions(frozenset({Precision.FP32}), workspace=1 << 30, timing_cache=Path("t.cache")),
}
LACKING: dict[str, dict[str, str]] = {
    T85: {
        "bf16": "has no bf16, TensorRT 10 is the first that has: use --precision fp16",
        "strong": "TensorRT 10 is the first that has: leave --stronglyTyped out",
        "version": "TensorRT 8.6 is the first that has",
        "ampere": "TensorRT 8.6 is the first that has",
        "same": "TensorRT 8.6 is the first that has",
    },
    T86: {
        "bf16": "has no bf16, TensorRT 10 is the first that has: use --precision fp16",
        "strong": "TensorRT 10 is the first that has: leave --stronglyTyped out",
        "same": "no hardware compatibility level sameComputeCapability: use ampere+",
    },
    T10: {"same": "no hardware compatibility level sameComputeCapability: use ampere+"},
    T1013: {},
    T11: {
        "fp16": "convert the model to float16 (polygraphy convert --fp-to-fp16, say) and leave the option out",
        "bf16": "convert the model to bfloat16 and leave the option out",
        "int8": "onnxruntime.quantization.quantize_static makes them) and leave the option out",
        "cudnn": "no tactic source CUDNN: choose of EDGE_MASK_CONVOLUTIONS, JIT_CONVOLUTIONS",
    },
}
LACKING[RTX] = {**LACKING[T11], "version": "has no version compatible engines: build one for each release"}


@pytest.mark.parametrize("release", NAMES)
def test_what_a_release_lacks_is_said(release: str) -> None:
    for name, options in WITH.items():
        asked = (module(release), release, replace(options, timing_cache=None).request())
        if name in LACKING[release]:
            with pytest.raises(EngineError) as caught:
                check_options(*asked)
            assert str(caught.value).startswith(f"{release} ")
            assert LACKING[release][name] in str(caught.value)
            assert "\n" not in str(caught.value)
        else:
            check_options(*asked)


def test_the_names_of_the_installed_release_are_true() -> None:
    from importlib.metadata import version

    import tensorrt_rtx_libs

    assert f"TensorRT-RTX {version('tensorrt-rtx-cu13-bindings')}" == RTX
    import ctypes

    folder = Path(tensorrt_rtx_libs.__file__).parent
    for name in ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"):
        ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
    import tensorrt_rtx_bindings as trt

    ours: Any = module(RTX)
    for enum in NAMES[RTX]:
        found, recorded = set(getattr(trt, enum).__members__), set(getattr(ours, enum).__members__)
        assert recorded <= found
        asked_for = {"FP16", "BF16", "INT8", "EXPLICIT_BATCH", "CUBLAS", "CUBLAS_LT", "CUDNN"}
        assert not asked_for & found
    assert not hasattr(trt, "IInt8EntropyCalibrator2")


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(EngineError, match=r"--stronglyTyped .* --precision fp16 int8 in others: give one"):
        BuildOptions(frozenset({Precision.INT8, Precision.FP16}), strongly_typed=True)
    BuildOptions(frozenset({Precision.FP32}), strongly_typed=True)
    with pytest.raises(EngineError, match="calibration is for --precision int8"):
        BuildOptions(frozenset({Precision.FP16}), calibration_cache=Path("c"))
    with pytest.raises(EngineError, match="random inputs calibrate nothing"):
        BuildOptions(frozenset({Precision.INT8}), calibration=Inputs())


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no such file of inputs: .*a\.npz"):
        Inputs((tmp_path / "a.npz",)).request()
    with pytest.raises(EngineError, match=r"no such folder: .*nowhere, where t\.cache would be written"):
        BuildOptions(timing_cache=tmp_path / "nowhere" / "t.cache").request()
