"""The operators that every release must turn into working plugins: one realistic node each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from tests.models import BOOL, FLOAT, INT8, INT32, INT64, UINT8, model, node


def _weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _one_hot() -> onnx.ModelProto:
    return model(
        [node("OneHot", "indices depth values", "y", "n")],
        {"indices": (INT64, [16])},
        {"y": (FLOAT, [16, 64])},
        {"depth": np.array(64, np.int64), "values": np.array([0, 1], np.float32)},
    )


def _gather_nd() -> onnx.ModelProto:
    return model(
        [node("GatherND", "x indices", "y", "n", batch_dims=1)],
        {"x": (FLOAT, [2, 16, 24]), "indices": (INT64, [2, 10, 1])},
        {"y": (FLOAT, [2, 10, 24])},
    )


def _scatter_nd() -> onnx.ModelProto:
    return model(
        [node("ScatterND", "x indices updates", "y", "n")],
        {"x": (FLOAT, [32, 48]), "indices": (INT64, [6, 1]), "updates": (FLOAT, [6, 48])},
        {"y": (FLOAT, [32, 48])},
    )


def _scatter_elements() -> onnx.ModelProto:
    return model(
        [node("ScatterElements", "x indices updates", "y", "n", axis=1)],
        {"x": (FLOAT, [8, 40]), "indices": (INT64, [8, 5]), "updates": (FLOAT, [8, 5])},
        {"y": (FLOAT, [8, 40])},
    )


def _resize() -> onnx.ModelProto:
    return model(
        [node("Resize", "x - - sizes", "y", "n", mode="linear", coordinate_transformation_mode="half_pixel")],
        {"x": (FLOAT, [1, 4, 11, 12])},
        {"y": (FLOAT, [1, 4, 22, 36])},
        {"sizes": np.array([1, 4, 22, 36], np.int64)},
    )


def _reduce_max() -> onnx.ModelProto:
    return model(
        [node("ReduceMax", "x", "y", "n", axes=[1], keepdims=0)],
        {"x": (FLOAT, [16, 82, 32])},
        {"y": (FLOAT, [16, 32])},
    )


def _grid_sample() -> onnx.ModelProto:
    return model(
        [node("GridSample", "x grid", "y", "n", mode="bilinear", padding_mode="zeros", align_corners=0)],
        {"x": (FLOAT, [1, 4, 16, 16]), "grid": (FLOAT, [1, 8, 8, 2])},
        {"y": (FLOAT, [1, 4, 8, 8])},
    )


def _softmax() -> onnx.ModelProto:
    return model([node("Softmax", "x", "y", "n", axis=-1)], {"x": (FLOAT, [64, 100])}, {"y": (FLOAT, [64, 100])})


def _layer_normalization() -> onnx.ModelProto:
    return model(
        [node("LayerNormalization", "x scale bias", "y", "n", axis=-1)],
        {"x": (FLOAT, [4, 16, 96])},
        {"y": (FLOAT, [4, 16, 96])},
        {"scale": _weights(96), "bias": _weights(96)},
    )


def _matmul() -> onnx.ModelProto:
    return model(
        [node("MatMul", "x w", "y", "n")], {"x": (FLOAT, [32, 48])}, {"y": (FLOAT, [32, 40])}, {"w": _weights(48, 40)}
    )


def _conv() -> onnx.ModelProto:
    return model(
        [node("Conv", "x w b", "y", "n", pads=[1, 1, 1, 1], strides=[2, 2])],
        {"x": (FLOAT, [1, 3, 17, 19])},
        {"y": (FLOAT, [1, 8, 9, 10])},
        {"w": _weights(8, 3, 3, 3), "b": _weights(8)},
    )


def _einsum() -> onnx.ModelProto:
    return model(
        [node("Einsum", "a b", "y", "n", equation="bij,bjk->bik")],
        {"a": (FLOAT, [3, 8, 12]), "b": (FLOAT, [3, 12, 10])},
        {"y": (FLOAT, [3, 8, 10])},
    )


def _top_k() -> onnx.ModelProto:
    return model(
        [node("TopK", "x k", "values indices", "n", axis=-1)],
        {"x": (FLOAT, [4, 300])},
        {"values": (FLOAT, [4, 7]), "indices": (INT64, [4, 7])},
        {"k": np.array([7], np.int64)},
    )


def _cum_sum() -> onnx.ModelProto:
    return model(
        [node("CumSum", "x axis", "y", "n", reverse=1)],
        {"x": (FLOAT, [12, 70])},
        {"y": (FLOAT, [12, 70])},
        {"axis": np.array(1, np.int64)},
    )


def _dynamic_quantize_linear() -> onnx.ModelProto:
    return model(
        [node("DynamicQuantizeLinear", "x", "y scale zero_point", "n")],
        {"x": (FLOAT, [4, 50])},
        {"y": (UINT8, [4, 50]), "scale": (FLOAT, []), "zero_point": (UINT8, [])},
    )


def _matmul_integer() -> onnx.ModelProto:
    b = np.random.default_rng(1).integers(-128, 128, (24, 20)).astype(np.int8)
    return model(
        [node("MatMulInteger", "a b a_zero", "y", "n")],
        {"a": (INT8, [16, 24])},
        {"y": (INT32, [16, 20])},
        {"b": b, "a_zero": np.array(3, np.int8)},
    )


def _conv_integer() -> onnx.ModelProto:
    w = np.random.default_rng(1).integers(-128, 128, (6, 4, 3, 3)).astype(np.int8)
    return model(
        [node("ConvInteger", "x w x_zero", "y", "n", pads=[1, 1, 1, 1])],
        {"x": (INT8, [1, 4, 10, 12])},
        {"y": (INT32, [1, 6, 10, 12])},
        {"w": w, "x_zero": np.array(-5, np.int8)},
    )


def _bit_shift() -> onnx.ModelProto:
    """uint8 exists in no TensorRT network: the Casts beside the node let the values travel in a wider type."""
    return model(
        [
            node("Cast", "x", "xu", "widen", to=onnx.TensorProto.UINT8),
            node("BitShift", "xu amount", "yu", "n", direction="RIGHT"),
            node("Cast", "yu", "y", "narrow", to=INT32),
        ],
        {"x": (INT32, [5, 33])},
        {"y": (INT32, [5, 33])},
        {"amount": np.array([2], np.uint8)},
    )


def _is_inf() -> onnx.ModelProto:
    return model([node("IsInf", "x", "y", "n", detect_negative=0)], {"x": (FLOAT, [7, 31])}, {"y": (BOOL, [7, 31])})


def _trilu() -> onnx.ModelProto:
    return model(
        [node("Trilu", "x k", "y", "n", upper=0)],
        {"x": (FLOAT, [3, 20, 24])},
        {"y": (FLOAT, [3, 20, 24])},
        {"k": np.array(2, np.int64)},
    )


CASES: dict[str, Callable[[], onnx.ModelProto]] = {
    "OneHot": _one_hot,
    "GatherND": _gather_nd,
    "ScatterND": _scatter_nd,
    "ScatterElements": _scatter_elements,
    "Resize": _resize,
    "ReduceMax": _reduce_max,
    "GridSample": _grid_sample,
    "Softmax": _softmax,
    "LayerNormalization": _layer_normalization,
    "MatMul": _matmul,
    "Conv": _conv,
    "Einsum": _einsum,
    "TopK": _top_k,
    "CumSum": _cum_sum,
    "DynamicQuantizeLinear": _dynamic_quantize_linear,
    "MatMulInteger": _matmul_integer,
    "ConvInteger": _conv_integer,
    "BitShift": _bit_shift,
    "IsInf": _is_inf,
    "Trilu": _trilu,
}
"""Operator → model whose node `n` is of that operator."""
