"""The kernels that are measured: an ONNX node, its inputs, and the same in PyTorch.

`FACTS` are the shapes of TPAT's published tables and a few more; the others are one case for each kind of operator that
TensorRT lacks or that networks spend their time in. PyTorch is imported when a case's function runs, not before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Input:
    """A random tensor, made on the device.

    Attributes:
        dtype: numpy's name.
        shape: in elements.
        below: integers in [0, below); 0: normal values, or whole small numbers for integer types.
        scale: of normal values.
    """

    dtype: str
    shape: Shape
    below: int = 0
    scale: float = 1.0

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Case:
    """One kernel.

    Attributes:
        name: a C identifier.
        title: for the table.
        operator: of ONNX.
        inputs: those that change; by position, `constants` fill the others.
        torch: the same function of PyTorch; None where it has none.
        attributes: of the node.
        constants: by position.
        outputs: names of those that are wanted; "" leaves one out.
        domain, opset: of the operator.
        moved: bytes that must move; None: all inputs and outputs once.
        capture: whether PyTorch's function can be captured in a CUDA graph.
    """

    name: str
    title: str
    operator: str
    inputs: tuple[Input, ...]
    torch: Callable[..., Any] | None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[int, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("y",)
    domain: str = ""
    opset: int = 20
    moved: int | None = None
    capture: bool = True


def _f32(*shape: int) -> Input:
    return Input("float32", shape)


def _weights(*shape: int) -> Input:
    return Input("float32", shape, scale=0.04)


def _f16(*shape: int) -> Input:
    return Input("float16", shape)


def _i64(below: int, *shape: int) -> Input:
    return Input("int64", shape, below)


def _functional() -> Any:
    import torch

    return torch.nn.functional


def _torch() -> Any:
    import torch

    return torch


def _resize(size: Shape) -> Callable[..., Any]:
    return lambda x: _functional().interpolate(x, size=size, mode="bilinear", align_corners=False)


def _resize_case(name: str, shape: Shape, size: Shape) -> Case:
    sizes = np.array([*shape[:2], *size], np.int64)
    title = f"Resize linear {'x'.join(map(str, shape))} → {'x'.join(map(str, size))}"
    constants = {1: np.zeros(0, np.float32), 2: np.zeros(0, np.float32), 3: sizes}
    return Case(name, title, "Resize", (_f32(*shape),), _resize(size), {"mode": "linear"}, constants)


def _gather_nd(x: Any, i: Any) -> Any:
    return x[i[..., 0], i[..., 1], i[..., 2]]


def _scatter_nd(x: Any, i: Any, u: Any) -> Any:
    return x.index_put((i[..., 0], i[..., 1], i[..., 2]), u)


def _one_hot(i: Any) -> Any:
    return _functional().one_hot(i, 16384).float()


def _grid_sample(x: Any, grid: Any) -> Any:
    return _functional().grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


FACTS = (
    Case("reduce_max", "ReduceMax 256x82x128 over axis 1", "ReduceMax", (_f32(256, 82, 128),), lambda x: x.amax(1),
         {"keepdims": 0}, {1: np.array([1])}),
    _resize_case("resize_44", (32, 32, 44, 50), (176, 200)),
    _resize_case("resize_11", (32, 64, 11, 12), (176, 200)),
    Case("gather_nd", "GatherND 1x128x128x224, 600 rows", "GatherND", (_f32(1, 128, 128, 224), _i64(1, 600, 3)),
         _gather_nd, moved=2 * 600 * 224 * 4),
    Case("scatter_nd", "ScatterND 32x128x128x256, 32x600 rows", "ScatterND",
         (_f32(32, 128, 128, 256), _i64(32, 32, 600, 3), _f32(32, 600, 256)), _scatter_nd),
    Case("one_hot", "OneHot depth 16384, 16 indices", "OneHot", (_i64(16384, 16),), _one_hot, {"axis": -1},
         {1: np.array(16384), 2: np.array([0, 1], np.float32)}),
    Case("layer_norm", "LayerNormalization 4096x1024", "LayerNormalization", (_f32(4096, 1024), _f32(1024), _f32(1024)),
         lambda x, w, b: _functional().layer_norm(x, (1024,), w, b)),
    Case("softmax", "Softmax 4096x1024", "Softmax", (_f32(4096, 1024),), lambda x: x.softmax(-1)),
    Case("grid_sample", "GridSample 8x64x128x128, bilinear", "GridSample",
         (_f32(8, 64, 128, 128), _f32(8, 128, 128, 2)), _grid_sample),
)  # fmt: skip


def _dft(x: Any) -> Any:
    return _torch().view_as_real(_torch().fft.fft(x[..., 0]))


def _dynamic_quantize(x: Any) -> Any:
    torch = _torch()
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = (high - low) / 255
    zero = torch.round(-low / scale).clamp(0, 255)
    return (torch.round(x / scale) + zero).clamp(0, 255).to(torch.uint8), scale, zero.to(torch.uint8)


def _lstm(x: Any, w: Any, r: Any, b: Any) -> Any:
    """ONNX orders the gates i, o, f, c; PyTorch i, f, c, o."""
    torch = _torch()

    def gates(t: Any) -> Any:
        i, o, f, c = t.chunk(4)
        return torch.cat([i, f, c, o])

    parameters = [gates(w[0]), gates(r[0]), gates(b[0, :2048]), gates(b[0, 2048:])]
    state = torch.zeros(1, x.shape[1], 512, device=x.device)
    return torch.lstm(x, (state, state), parameters, True, 1, 0.0, False, False, False)[0].unsqueeze(1)


def _attention(q: Any, k: Any, v: Any) -> Any:
    return _functional().scaled_dot_product_attention(q, k, v)


def _rms_norm(x: Any, w: Any) -> Any:
    return _functional().rms_norm(x, (1024,), w, 1e-5)


def _instance_norm(x: Any, w: Any, b: Any) -> Any:
    return _functional().instance_norm(x, weight=w, bias=b, eps=1e-5)


def _conv(**options: Any) -> Callable[..., Any]:
    return lambda x, w: _functional().conv2d(x, w, **options)


_AXIS_1 = {1: np.array([1])}

MORE = (
    Case("dft_1024", "DFT 64x1024", "DFT", (_f32(64, 1024, 1),), _dft, constants={1: np.array(1024), 2: np.array(1)}),
    Case("det", "Det 256x16x16", "Det", (_f32(256, 16, 16),), lambda x: _torch().linalg.det(x), capture=False),
    Case("grid_sample_3d", "GridSample 2x16x32x64x64, trilinear", "GridSample",
         (_f32(2, 16, 32, 64, 64), _f32(2, 32, 64, 64, 3)), _grid_sample),
    Case("matmul_integer", "MatMulInteger 1024x1024x1024", "MatMulInteger",
         (Input("int8", (1024, 1024)), Input("int8", (1024, 1024))), lambda a, b: _torch()._int_mm(a, b)),
    Case("dynamic_quantize", "DynamicQuantizeLinear 4096x1024", "DynamicQuantizeLinear", (_f32(4096, 1024),),
         _dynamic_quantize, outputs=("y", "scale", "zero")),
    Case("lstm_512", "LSTM 512, 32 steps, batch 16", "LSTM",
         (_f32(32, 16, 512), _weights(1, 2048, 512), _weights(1, 2048, 512), _weights(1, 4096)), _lstm,
         {"hidden_size": 512}),
    Case("top_k", "TopK 64x10000, k 50", "TopK", (_f32(64, 10000),), lambda x: x.topk(50), {}, {1: np.array([50])},
         outputs=("values", "indices")),
    Case("cum_sum", "CumSum 4096x1024", "CumSum", (_f32(4096, 1024),), lambda x: x.cumsum(1), {}, {1: np.array(1)}),
    Case("add_row", "Add 4096x4096 + 4096", "Add", (_f32(4096, 4096), _f32(4096)), lambda x, y: x + y),
    Case("gelu", "Gelu 4096x4096", "Gelu", (_f32(4096, 4096),), lambda x: _functional().gelu(x)),
    Case("gelu_16", "Gelu 4096x4096, float16", "Gelu", (_f16(4096, 4096),), lambda x: _functional().gelu(x)),
    Case("transpose", "Transpose 4096x4096", "Transpose", (_f32(4096, 4096),), lambda x: x.t().contiguous(),
         {"perm": [1, 0]}),
    Case("to_channels_last", "Transpose 32x64x56x56 to channels last", "Transpose", (_f32(32, 64, 56, 56),),
         lambda x: x.permute(0, 2, 3, 1).contiguous(), {"perm": [0, 2, 3, 1]}),
    Case("concat", "Concat 2 of 64x256x1024", "Concat", (_f32(64, 256, 1024), _f32(64, 256, 1024)),
         lambda x, y: _torch().cat([x, y], 1), {"axis": 1}),
    Case("pad_reflect", "Pad 16x64x128x128 by 2, reflect", "Pad", (_f32(16, 64, 128, 128),),
         lambda x: _functional().pad(x, (2, 2, 2, 2), mode="reflect"), {"mode": "reflect"},
         {1: np.array([0, 0, 2, 2, 0, 0, 2, 2])}),
    Case("gather", "Gather 4096 of 30522x768", "Gather", (_f32(30522, 768), _i64(30522, 4096)), lambda x, i: x[i],
         moved=2 * 4096 * 768 * 4),
    Case("scatter_add", "ScatterElements add, 1M into 4096x1024", "ScatterElements",
         (_f32(4096, 1024), _i64(4096, 1024, 1024), _f32(1024, 1024)), lambda x, i, u: x.scatter_add(0, i, u),
         {"axis": 0, "reduction": "add"}),
    Case("reduce_columns", "ReduceSum 4096x4096 over axis 0", "ReduceSum", (_f32(4096, 4096),), lambda x: x.sum(0),
         {"keepdims": 0}, {1: np.array([0])}),
    Case("reduce_rows", "ReduceMean 4096x4096 over axis 1", "ReduceMean", (_f32(4096, 4096),), lambda x: x.mean(1),
         {"keepdims": 0}, _AXIS_1),
    Case("reduce_all", "ReduceSum 16M", "ReduceSum", (_f32(4096, 4096),), lambda x: x.sum(), {"keepdims": 0}),
    Case("arg_max", "ArgMax 128x32000", "ArgMax", (_f32(128, 32000),), lambda x: x.argmax(1),
         {"axis": 1, "keepdims": 0}),
    Case("log_softmax", "LogSoftmax 128x32000", "LogSoftmax", (_f32(128, 32000),), lambda x: x.log_softmax(-1)),
    Case("softmax_short", "Softmax 65536x64", "Softmax", (_f32(65536, 64),), lambda x: x.softmax(-1)),
    Case("rms_norm_16", "RMSNormalization 4096x1024, float16", "RMSNormalization", (_f16(4096, 1024), _f16(1024)),
         _rms_norm, {"axis": -1}, opset=23),
    Case("instance_norm", "InstanceNormalization 8x64x128x128", "InstanceNormalization",
         (_f32(8, 64, 128, 128), _f32(64), _f32(64)), _instance_norm),
    Case("matmul", "MatMul 1024x1024x1024", "MatMul", (_f32(1024, 1024), _f32(1024, 1024)), lambda a, b: a @ b),
    Case("matmul_16", "MatMul 1024x1024x1024, float16", "MatMul", (_f16(1024, 1024), _f16(1024, 1024)),
         lambda a, b: a @ b),
    Case("matmul_row", "MatMul 1x4096x4096", "MatMul", (_f32(1, 4096), _f32(4096, 4096)), lambda a, b: a @ b),
    Case("attention_16", "Attention 1x8x512x64, float16", "Attention", (_f16(1, 8, 512, 64),) * 3, _attention,
         opset=23),
    Case("conv", "Conv 8x64x56x56, 3x3 to 64", "Conv", (_f32(8, 64, 56, 56), _f32(64, 64, 3, 3)), _conv(padding=1),
         {"pads": [1, 1, 1, 1]}),
    Case("depthwise", "Conv 8x128x56x56, 3x3, depthwise", "Conv", (_f32(8, 128, 56, 56), _f32(128, 1, 3, 3)),
         _conv(padding=1, groups=128), {"pads": [1, 1, 1, 1], "group": 128}),
    Case("max_pool", "MaxPool 32x64x112x112, 3x3 by 2", "MaxPool", (_f32(32, 64, 112, 112),),
         lambda x: _functional().max_pool2d(x, 3, 2, 1), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}),
    Case("trilu", "Trilu 16x1024x1024", "Trilu", (_f32(16, 1024, 1024),), lambda x: x.triu(), {"upper": 1}),
    Case("where", "Where 4096x4096", "Where", (Input("bool", (4096, 4096), 2), _f32(4096, 4096), _f32(4096, 4096)),
         lambda c, x, y: _torch().where(c, x, y)),
)  # fmt: skip

CASES = {case.name: case for case in (*FACTS, *MORE)}
