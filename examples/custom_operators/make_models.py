"""Writes the example's models as the exporters write them, without the exporters.

    python examples/custom_operators/make_models.py DIR

`export_with_torch.py` makes the first three with PyTorch itself. Of operators that ONNX does not know, exporters state
no types, neither for their outputs nor for what lies behind them; nor do these models.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def _weights(seed: int, *shape: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.3).astype(np.float32)


def _floats(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int]],
    outputs: dict[str, list[int | str]],
    constants: dict[str, np.ndarray],
    opsets: dict[str, int],
    producer: str,
    functions: list[onnx.FunctionProto] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [_floats(name, list(shape)) for name, shape in inputs.items()],
        [_floats(name, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(
        graph,
        producer_name=producer,
        ir_version=9,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in opsets.items()],
        functions=functions or [],
    )


def swish() -> onnx.ModelProto:
    """torch.autograd.Function with `symbolic`: two convolutions, each followed by custom_domain::Swish."""
    node = helper.make_node
    return _model(
        [
            node("Conv", ["x", "conv1.weight", "conv1.bias"], ["/conv1/Conv_output_0"], "/conv1/Conv", pads=[1] * 4),
            node("Swish", ["/conv1/Conv_output_0"], ["/Swish_output_0"], "/Swish", domain="custom_domain", beta=1.0),
            node("Conv", ["/Swish_output_0", "conv2.weight"], ["/conv2/Conv_output_0"], "/conv2/Conv", strides=[2, 2]),
            node(
                "Swish", ["/conv2/Conv_output_0"], ["/Swish_1_output_0"], "/Swish_1", domain="custom_domain", beta=1.5
            ),
            node("GlobalAveragePool", ["/Swish_1_output_0"], ["/pool_output_0"], "/pool"),
            node("Flatten", ["/pool_output_0"], ["y"], "/Flatten", axis=1),
        ],
        {"x": [1, 3, 12, 12]},
        {"y": ["Flatteny_dim_0", "Flatteny_dim_1"]},
        {
            "conv1.weight": _weights(0, 4, 3, 3, 3),
            "conv1.bias": _weights(1, 4),
            "conv2.weight": _weights(2, 6, 4, 3, 3),
        },
        {"": 17, "custom_domain": 1},
        "pytorch",
    )


def swish_function() -> onnx.ModelProto:
    """The same with Swish as a local function of the model: nothing more is needed."""
    model = swish()
    body = [
        helper.make_node("Constant", [], ["b"]),
        helper.make_node("CastLike", ["b", "x"], ["beta_like_x"]),
        helper.make_node("Mul", ["x", "beta_like_x"], ["scaled"]),
        helper.make_node("Sigmoid", ["scaled"], ["gate"]),
        helper.make_node("Mul", ["x", "gate"], ["y"]),
    ]
    body[0].attribute.add(name="value_float", type=onnx.AttributeProto.FLOAT, ref_attr_name="beta")
    model.functions.append(
        helper.make_function("custom_domain", "Swish", ["x"], ["y"], body, [helper.make_opsetid("", 17)], ["beta"])
    )
    return model


def roll() -> onnx.ModelProto:
    """torch.roll by a custom translation: windows are shifted, worked on and shifted back."""
    node = helper.make_node
    return _model(
        [
            node("Roll", ["x"], ["roll"], "node_Roll_0", domain="custom_domain", shifts=[-2, -2], dims=[1, 2]),
            node("Softmax", ["roll"], ["softmax"], "node_Softmax_1", axis=-1),
            node("Roll", ["softmax"], ["y"], "node_Roll_2", domain="custom_domain", shifts=[2, 2], dims=[1, 2]),
        ],
        {"x": [1, 8, 7, 16]},
        {"y": [1, 8, 7, 16]},
        {},
        {"": 18, "custom_domain": 1},
        "pytorch",
    )


def grid_sample_5d() -> onnx.ModelProto:
    """torch.nn.functional.grid_sample of a volume, exported with opset 20; TensorRT samples pictures only."""
    node = helper.make_node
    return _model(
        [
            node(
                "GridSample", ["volume", "grid"], ["/GridSample_output_0"], "/GridSample",
                align_corners=0, mode="linear", padding_mode="border",
            ),
            node("Relu", ["/GridSample_output_0"], ["y"], "/Relu"),
        ],
        {"volume": [1, 2, 5, 6, 7], "grid": [1, 3, 4, 5, 3]},
        {"y": [1, 2, 3, 4, 5]},
        {},
        {"": 20},
        "pytorch",
    )  # fmt: skip


def tf2onnx() -> onnx.ModelProto:
    """A Keras model as tf2onnx writes it: NHWC between Transposes, colons in names, a TensorFlow operator left over.

    The entropy of a softmax, -sum(xlogy(p, p)); tf2onnx leaves Xlogy in its own domain with `--custom-ops Xlogy`.
    """
    node = helper.make_node
    return _model(
        [
            node("Transpose", ["input_1:0"], ["model/conv2d/Conv2D__6:0"], "model/conv2d/Conv2D__6", perm=[0, 3, 1, 2]),
            node(
                "Conv", ["model/conv2d/Conv2D__6:0", "model/conv2d/Conv2D_weights_fused_bn", "model/conv2d/bias"],
                ["model/conv2d/BiasAdd:0"], "model/conv2d/BiasAdd", auto_pad="SAME_UPPER", dilations=[1, 1],
                group=1, kernel_shape=[3, 3], strides=[1, 1],
            ),
            node(
                "Transpose", ["model/conv2d/BiasAdd:0"], ["model/conv2d/BiasAdd__10:0"], "model/conv2d/BiasAdd__10",
                perm=[0, 2, 3, 1],
            ),
            node("Softmax", ["model/conv2d/BiasAdd__10:0"], ["model/softmax/Softmax:0"], "model/softmax/Softmax",
                 axis=3),
            node(
                "Xlogy", ["model/softmax/Softmax:0", "model/softmax/Softmax:0"], ["model/tf.math.xlogy/Xlogy:0"],
                "model/tf.math.xlogy/Xlogy", domain="ai.onnx.converters.tensorflow",
            ),
            node("ReduceSum", ["model/tf.math.xlogy/Xlogy:0", "const_axes__12"], ["model/sum/Sum:0"], "model/sum/Sum",
                 keepdims=0),
            node("Neg", ["model/sum/Sum:0"], ["tf.math.negative"], "model/tf.math.negative/Neg"),
        ],
        {"input_1:0": [1, 6, 8, 3]},
        {"tf.math.negative": [1, 6, 8]},
        {
            "model/conv2d/Conv2D_weights_fused_bn": _weights(3, 5, 3, 3, 3),
            "model/conv2d/bias": _weights(4, 5),
            "const_axes__12": np.array([3], np.int64),
        },
        {"": 15, "ai.onnx.converters.tensorflow": 1},
        "tf2onnx",
    )  # fmt: skip


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "swish": swish,
    "swish_function": swish_function,
    "roll": roll,
    "grid_sample_5d": grid_sample_5d,
    "tf2onnx": tf2onnx,
}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in MODELS.items():
        onnx.save(make(), folder / f"{name}.onnx")
