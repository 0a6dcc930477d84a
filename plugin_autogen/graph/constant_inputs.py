"""Inputs whose values decide an output's shape, an axis or a mode: most must be known when the plugin is generated."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# Operator of ONNX's own domain -> index of the input -> its name in ONNX's documentation. Reductions are listed below.
_CONSTANT_INPUTS: dict[str, dict[int, str]] = {
    "AffineGrid": {1: "size"},
    "BlackmanWindow": {0: "size"},
    "CenterCropPad": {1: "shape"},
    "Col2Im": {1: "image_shape", 2: "block_shape"},
    "ConstantOfShape": {0: "input"},
    "CumProd": {1: "axis"},
    "CumSum": {1: "axis"},
    "DFT": {1: "dft_length", 2: "axis"},
    "Dropout": {2: "training_mode"},
    "Expand": {1: "shape"},
    "HammingWindow": {0: "size"},
    "HannWindow": {0: "size"},
    "Loop": {0: "M"},
    "MaxUnpool": {2: "output_shape"},
    "MelWeightMatrix": {0: "num_mel_bins", 1: "dft_length"},
    "NonMaxSuppression": {2: "max_output_boxes_per_class"},
    "OneHot": {1: "depth"},
    "Pad": {1: "pads", 3: "axes"},
    "Range": {0: "start", 1: "limit", 2: "delta"},
    "Reshape": {1: "shape"},
    "Resize": {1: "roi", 2: "scales", 3: "sizes"},
    "STFT": {1: "frame_step", 3: "frame_length"},
    "Slice": {1: "starts", 2: "ends", 3: "axes", 4: "steps"},
    "Split": {1: "split"},
    "Squeeze": {1: "axes"},
    "Tile": {1: "repeats", 2: "axis"},
    "TopK": {1: "k"},
    "Unsqueeze": {1: "axes"},
    "Upsample": {1: "scales"},
}
_CONSTANT_INPUTS.update(
    (f"Reduce{kind}", {1: "axes"})
    for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
)


_RUN_TIME_SHAPES = {"ConstantOfShape": 0, "Expand": 1, "Reshape": 1, "Resize": 3, "Slice": 2, "Tile": 1}
"""Operator -> the input among those above which a plugin can also get when it runs, as a shape tensor of TensorRT's."""


def run_time_shape(node: onnx.NodeProto, constants: Container[str]) -> int | None:
    """The input of this node whose values TensorRT may tell as a shape, as they are no constants; None for none."""
    if node.domain not in ("", "ai.onnx") or run_time_data(node, constants) or _needs_known_sizes(node):
        return None
    return _RUN_TIME_SHAPES.get(node.op_type)


def _needs_known_sizes(node: onnx.NodeProto) -> bool:
    """Resize's variants that compute more than positions from the sizes."""
    given = {a.name: a.s or a.i for a in node.attribute}
    return node.op_type == "Resize" and (
        bool(given.get("antialias"))
        or given.get("keep_aspect_ratio_policy", b"stretch") != b"stretch"
        or given.get("coordinate_transformation_mode") == b"tf_crop_and_resize"
    )


def run_time_data(node: onnx.NodeProto, constants: Container[str]) -> tuple[int, ...]:
    """The inputs among those above that kernels can read themselves: they then find out the result's size, too.

    Of Slice, where it begins must be known to the kernels; its size is at most that of its input.
    """
    is_slice = node.op_type == "Slice" and node.domain in ("", "ai.onnx") and len(node.input) > 2
    return (1, 2) if is_slice and node.input[1] not in constants else ()


def constant_inputs(node: onnx.NodeProto) -> Mapping[int, str]:
    """Inputs of this node that must be constant: index -> ONNX's name for it."""
    return _CONSTANT_INPUTS.get(node.op_type, {}) if node.domain in ("", "ai.onnx") else {}
