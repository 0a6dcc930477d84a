"""Random inputs for a subgraph: values that its operators may legally see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from plugin_autogen.errors import UnsupportedError
from plugin_autogen.graph.subgraph import BorderTensor, Subgraph

if TYPE_CHECKING:
    import numpy as np
    import onnx

Shapes = Mapping[str, tuple[int, ...]]


def random_inputs(
    subgraph: Subgraph, seed: int = 0, dimensions: Mapping[str, int] | None = None
) -> dict[str, np.ndarray]:
    """One array for each input of `subgraph.model`, by its name there, in ONNX's type (not the border's).

    Args:
        subgraph: its inputs' shapes and operators decide the values.
        seed: equal seeds give equal inputs.
        dimensions: sizes of the symbolic dimensions.

    Indices into a tensor (Gather, Scatter, OneHot …) stay in range, recurrences are drawn such that they do not
    diverge; other integers are small, floats are normally distributed with a standard deviation of 2.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    sizes = dimensions or {}
    shapes = _shapes(subgraph, sizes)
    # sizes that are inputs must fit tensors inside, too
    inner = _inferred(subgraph.model, shapes) if any(t.is_shape for t in subgraph.inputs) else {}
    bounds = _bounds(subgraph.model, {**inner, **shapes})
    return {
        info.name: _random(rng, tensor, shapes[info.name], bounds.get(info.name))
        for info, tensor in zip(subgraph.model.graph.input, subgraph.inputs, strict=True)
    }


def _shapes(subgraph: Subgraph, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    shapes = {i.name: tuple(i.dims) for i in subgraph.model.graph.initializer}
    for info, tensor in zip(subgraph.model.graph.input, subgraph.inputs, strict=True):
        missing = [d for d in tensor.shape if isinstance(d, str) and d not in sizes]
        if missing:
            raise UnsupportedError(
                f"input '{tensor.name}' has dimensions without a size: {', '.join(map(str, missing))}"
            )
        shapes[info.name] = tuple(d if isinstance(d, int) else sizes[d] for d in tensor.shape)
    return shapes


def _inferred(model: onnx.ModelProto, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Shapes of tensors inside the model, as far as ONNX infers them from those of its inputs."""
    import onnx

    from plugin_autogen.shape_inference import infer_shapes

    concrete = onnx.ModelProto()
    concrete.CopyFrom(model)
    del concrete.graph.value_info[:]
    for info in concrete.graph.input:
        info.CopyFrom(onnx.helper.make_tensor_value_info(info.name, info.type.tensor_type.elem_type, shapes[info.name]))
    for info in concrete.graph.output:
        info.type.tensor_type.ClearField("shape")
    try:
        found = infer_shapes(concrete).graph.value_info
    except Exception:  # sizes that do not go together: the reference says so
        return {}
    tensors = {v.name: v.type.tensor_type.shape.dim for v in found if v.type.tensor_type.HasField("shape")}
    return {
        name: tuple(d.dim_value for d in dims)
        for name, dims in tensors.items()
        if all(d.HasField("dim_value") for d in dims)
    }


def _random(
    rng: np.random.Generator, tensor: BorderTensor, shape: tuple[int, ...], bound: Callable[..., np.ndarray] | None
) -> np.ndarray:
    dtype = tensor.dtype
    if bound is not None:
        return bound(rng, shape).astype(dtype.numpy)
    if dtype.name == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.name.startswith("uint"):
        return rng.integers(0, min(2**dtype.bits, 256), shape).astype(dtype.numpy)
    if dtype.is_integer:
        low, high = (-(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1)) if dtype.bits <= 8 else (-100, 100)
        return rng.integers(low, high, shape).astype(dtype.numpy)
    return (2 * rng.standard_normal(shape)).astype(dtype.numpy)


def _bounds(model: onnx.ModelProto, shapes: Shapes) -> dict[str, Callable[..., np.ndarray]]:
    """For each input whose values an operator limits: how to draw it."""
    found: dict[str, Callable[..., np.ndarray]] = {}
    for node in model.graph.node:
        for index, source, make in _LIMITED_INPUTS.get(node.op_type, ()):
            if len(node.input) <= max(index, source) or node.input[index] not in shapes:
                continue
            data = shapes.get(node.input[source])
            if data is not None:
                found[node.input[index]] = make(node, data)
    return found


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def _along_axis(node: onnx.NodeProto, data: tuple[int, ...]) -> Callable[..., np.ndarray]:
    """Indices in [-size, size) of the node's axis."""
    size = data[_attribute(node, "axis", 0)] if data else 1
    return lambda rng, shape: rng.integers(-size, size, shape) if size else rng.integers(0, 1, shape)


def _unique_along_axis(node: onnx.NodeProto, data: tuple[int, ...]) -> Callable[..., np.ndarray]:
    """Indices that do not repeat along the axis: with duplicates ONNX leaves a scatter's result open."""
    import numpy as np

    axis = _attribute(node, "axis", 0)
    size = data[axis]

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        wide = tuple(size if a == axis % len(shape) else d for a, d in enumerate(shape))
        order = np.argsort(rng.random(wide), axis=axis)
        return np.take(order, np.arange(shape[axis]) % size, axis=axis)

    return draw


def _tuples(node: onnx.NodeProto, data: tuple[int, ...]) -> Callable[..., np.ndarray]:
    """Index tuples for GatherND and ScatterND; they do not repeat while the data has enough places."""
    import numpy as np

    batch = _attribute(node, "batch_dims", 0)

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        sizes = data[batch : batch + shape[-1]]
        count, places = int(np.prod(shape[:-1])), int(np.prod(sizes))
        flat = rng.permutation(places)[:count] if count <= places <= 2**24 else rng.integers(0, max(places, 1), count)
        return np.stack(np.unravel_index(flat, sizes), axis=-1).reshape(shape) if sizes else np.zeros(shape)

    return draw


def _up_to(limit: int) -> Callable[[onnx.NodeProto, tuple[int, ...]], Callable[..., np.ndarray]]:
    return lambda node, data: lambda rng, shape: rng.integers(0, limit, shape)


def _one_hot(node: onnx.NodeProto, data: tuple[int, ...]) -> Callable[..., np.ndarray]:
    """OneHot's indices may lie outside [-depth, depth): such rows are all off."""
    return lambda rng, shape: rng.integers(-6, 12, shape)


def _rows(node: onnx.NodeProto, data: tuple[int, ...]) -> Callable[..., np.ndarray]:
    """Indices into the first axis."""
    return lambda rng, shape: rng.integers(0, max(data[0], 1), shape)


def _lengths(node: onnx.NodeProto, data: tuple[int, ...]) -> Callable[..., np.ndarray]:
    """Numbers of valid entries along the axis before the last."""
    return lambda rng, shape: rng.integers(0, data[-2] + 1, shape)


def _between(low: float, high: float) -> Callable[[onnx.NodeProto, tuple[int, ...]], Callable[..., np.ndarray]]:
    return lambda node, data: lambda rng, shape: rng.uniform(low, high, shape)


def _short_keys(node: onnx.NodeProto, data: tuple[int, ...]) -> Callable[..., np.ndarray]:
    """Keys shorter than 1: a delta rule with longer ones multiplies its state's errors at every step."""
    size = max(data[-1] // max(_attribute(node, "kv_num_heads", 1), 1), 1)
    return lambda rng, shape: rng.uniform(-1, 1, shape) / size**0.5


def _open(node: onnx.NodeProto, data: tuple[int, ...]) -> Callable[..., np.ndarray]:
    """A shape that fits every number of elements: -1 in one place, 1 elsewhere."""
    import numpy as np

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.where(np.arange(shape[0]) == rng.integers(0, max(shape[0], 1)), -1, 1)

    return draw


def _expanded(node: onnx.NodeProto, data: tuple[int, ...]) -> Callable[..., np.ndarray]:
    """A shape that the data can be expanded to: 3 where they have 1."""
    import numpy as np

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        sizes = (1,) * (shape[0] - len(data)) + data
        return np.array([3 if d == 1 else d for d in sizes[len(sizes) - shape[0] :]])

    return draw


def _resized(node: onnx.NodeProto, data: tuple[int, ...]) -> Callable[..., np.ndarray]:
    """Sizes around those of the data along spatial axes."""
    import numpy as np

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        given = next((list(a.ints) for a in node.attribute if a.name == "axes"), range(len(data)))
        axes = [axis % len(data) for axis in given]
        return np.array([data[a] if a < 2 < len(data) else rng.integers(1, 2 * data[a] + 2) for a in axes])

    return draw


Rule = Callable[["onnx.NodeProto", tuple[int, ...]], Callable[..., "np.ndarray"]]

_LIMITED_INPUTS: dict[str, tuple[tuple[int, int, Rule], ...]] = {
    "Attention": ((6, 1, _lengths),),
    "BitShift": ((1, 0, _up_to(8)),),
    "ConstantOfShape": ((0, 0, _up_to(5)),),
    "Expand": ((1, 0, _expanded),),
    "Gather": ((1, 0, _along_axis),),
    "GatherElements": ((1, 0, _along_axis),),
    "GatherND": ((1, 0, _tuples),),
    "LinearAttention": ((1, 1, _short_keys), (4, 1, _between(-1, 0)), (5, 1, _between(0, 1))),
    "NonZero": ((0, 0, _up_to(2)),),
    "OneHot": ((0, 0, _one_hot),),
    "Reshape": ((1, 1, _open),),
    "Resize": ((3, 0, _resized),),
    "RotaryEmbedding": ((3, 1, _rows),),
    "Scatter": ((1, 0, _unique_along_axis),),
    "ScatterElements": ((1, 0, _unique_along_axis),),
    "ScatterND": ((1, 0, _tuples),),
    "Slice": ((1, 1, _between(-9, 9)), (2, 2, _between(-9, 9))),
    "Tile": ((1, 1, _up_to(4)),),
    "Unique": ((0, 0, _up_to(8)),),
}
"""Operator → (input with limited values, input whose shape matters, how to draw it from the node and that shape)."""
