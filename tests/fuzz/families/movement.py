"""Operators that move elements: indexing, scatter, slices, padding, reshapes, sets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.fuzz import draw as d
from tests.fuzz.case import Case, evaluator, fuzz
from tests.fuzz.draw import Array, Draw, Shape

INDICES = ("int64", "int32")
INT64 = np.iinfo(np.int64)


def _data(draw: Draw, least: int = 0, empty: bool = True, most: int = 6, **limits: Any) -> Array:
    return d.values(draw, d.shape(draw, least=least, most=most, empty=empty, **limits), d.one_of(draw, d.ANY))


def _ints(*values: Any) -> Array:
    return np.array(values, np.int64)


# gather ---------------------------------------------------------------------------------------------------------------


@fuzz("Gather")
def gather(draw: Draw, operator: str) -> Case:
    x = _data(draw, least=1, most=4)
    axis = d.axis(draw, x.ndim)
    own = d.shape(draw, most=3, empty=True, sizes=(2, 1, 3, 4, 0), elements=24)
    if not x.shape[axis]:
        own = (*own, 0)
    indices = (
        d.indices(draw, own, x.shape[axis], d.one_of(draw, INDICES)) if math.prod(own) else np.zeros(own, np.int64)
    )
    return Case(operator, [x, indices], {"axis": axis} if axis or d.flag(draw) else {}, d.one_of(draw, [[], [1]]),
                exact=True)  # fmt: skip


@fuzz("GatherElements")
def gather_elements(draw: Draw, operator: str) -> Case:
    x = _data(draw, least=1, empty=False)
    axis = d.axis(draw, x.ndim)
    own = tuple(d.integer(draw, 0, 6) if i == axis % x.ndim else d.integer(draw, 1, s) for i, s in enumerate(x.shape))
    indices = d.indices(draw, own, x.shape[axis], d.one_of(draw, INDICES))
    return Case(operator, [x, indices], {"axis": axis}, d.one_of(draw, [[], [1]]), exact=True)


def _tuples(draw: Draw, sizes: Shape, outer: Shape, unique: bool) -> Array:
    """Index tuples into axes of these sizes, some counted from the end; without duplicates where that is asked."""
    rng = np.random.default_rng(d.integer(draw, 0, 2**31))
    places, count = math.prod(sizes), math.prod(outer)
    flat = rng.permutation(places)[:count] if unique else rng.integers(0, max(places, 1), count)
    if not sizes:
        return np.zeros((*outer, 0), np.int64)
    chosen = np.stack(np.unravel_index(flat, sizes), axis=-1).astype(np.int64) if count else np.zeros((0, len(sizes)))
    back = rng.integers(0, 2, chosen.shape).astype(bool)
    return np.where(back, chosen - np.array(sizes), chosen).astype(np.int64).reshape(*outer, len(sizes))


@fuzz("GatherND")
def gather_nd(draw: Draw, operator: str) -> Case:
    x = _data(draw, least=1, empty=False, most=5)
    batch = d.integer(draw, 0, x.ndim - 1) if d.flag(draw) else 0
    depth = d.integer(draw, 1, x.ndim - batch)
    more = d.shape(draw, most=2, sizes=(2, 1, 3, 0), elements=12)
    indices = _tuples(draw, x.shape[batch : batch + depth], (*x.shape[:batch], *more), unique=False)
    return Case(operator, [x, indices], {"batch_dims": batch} if batch else {}, d.one_of(draw, [[], [1]]), exact=True)


@fuzz("OneHot")
def one_hot(draw: Draw, operator: str) -> Case:
    own = d.shape(draw, most=4, elements=60)
    depth, axis = d.integer(draw, 1, 9), d.axis(draw, len(own) + 1)
    indices = d.values(
        draw, own, d.one_of(draw, ("int64", "int32", "float32", "uint8")), low=-depth - 3, high=depth + 3
    )
    if indices.dtype == np.float32:
        indices = np.round(indices)
    on_off = d.values(draw, (2,), d.one_of(draw, d.ANY))
    deep = np.array(depth, np.int64) if d.flag(draw) else _ints(depth)

    def expected(where: Array, _: Array, values: Array) -> Array:
        wide = where.astype(np.int64)
        place = np.where((wide >= -depth) & (wide < 0), wide + depth, wide)
        hot = np.expand_dims(place, axis) == np.arange(depth).reshape([-1 if i == axis % (len(own) + 1) else 1 for i in range(len(own) + 1)])  # noqa: E501  # fmt: skip
        return np.where(hot, values[1], values[0])

    attributes = {"axis": axis} if axis != -1 or d.flag(draw) else {}
    return Case(operator, [indices, deep, on_off], attributes, d.one_of(draw, [[1], [1, 2]]), expected=expected,
                exact=True)  # fmt: skip


# scatter --------------------------------------------------------------------------------------------------------------

_REDUCTIONS = ("none", "add", "mul", "max", "min")


def _updates(draw: Draw, shape: Shape, reduction: str) -> tuple[Array, Array]:
    """Data of `shape`, and a function's worth of limits for the updates: sums must not depend on the order."""
    dtype = d.one_of(draw, d.ANY if reduction == "none" else d.NUMBERS)
    if reduction == "none":
        return d.values(draw, shape, dtype), np.zeros((), dtype=d.kind_of(dtype))
    return d.values(draw, shape, dtype, low=-3, high=3, special=False), np.zeros((), dtype=d.kind_of(dtype))


def _more(draw: Draw, shape: Shape, like: Array, reduction: str) -> Array:
    limits: dict[str, Any] = {} if reduction == "none" else {"low": -3, "high": 3, "special": False}
    return d.values(draw, shape, like.dtype.name, **limits)


@fuzz("ScatterElements")
def scatter_elements(draw: Draw, operator: str) -> Case:
    reduction = d.one_of(draw, _REDUCTIONS)
    shape = d.shape(draw, least=1, empty=False, most=4)
    x, _ = _updates(draw, shape, reduction)
    axis = d.axis(draw, x.ndim)
    at = axis % x.ndim
    extent = shape[at]
    own = tuple(d.integer(draw, 1, extent if i != at or reduction == "none" else extent + 4) if i == at
                else d.integer(draw, 1, s) for i, s in enumerate(shape))  # fmt: skip
    if reduction == "none":
        rng = np.random.default_rng(d.integer(draw, 0, 2**31))
        wide = tuple(extent if i == at else s for i, s in enumerate(own))
        order = np.argsort(rng.random(wide), axis=at)
        indices = np.take(order, np.arange(own[at]), axis=at)
        indices = np.where(rng.random(own) < 0.5, indices - extent, indices)
    else:
        indices = d.indices(draw, own, extent)
    indices = indices.astype(d.one_of(draw, INDICES))
    attributes: dict[str, Any] = {"axis": axis}
    if reduction != "none":
        attributes["reduction"] = reduction
    inputs = [x, indices, _more(draw, own, x, reduction)]

    def expected(data: Array, where: Array, update: Array) -> Array:
        result = data.copy()
        wrapped = np.where(where < 0, where + extent, where)
        for place in np.ndindex(own):
            to = (*place[:at], int(wrapped[place]), *place[at + 1 :])
            result[to] = _combined(reduction, result[to], update[place])
        return result

    return Case(operator, inputs, attributes, d.one_of(draw, [[], [1], [0]]), opset=18, expected=expected,
                exact=reduction == "none")  # fmt: skip


def _combined(reduction: str, old: Any, new: Any) -> Any:
    if reduction in ("max", "min"):
        return (np.maximum if reduction == "max" else np.minimum)(old, new)
    return new if reduction == "none" else old + new if reduction == "add" else old * new


@fuzz("ScatterND")
def scatter_nd(draw: Draw, operator: str) -> Case:
    reduction = d.one_of(draw, _REDUCTIONS)
    shape = d.shape(draw, least=1, empty=False, most=5)
    x, _ = _updates(draw, shape, reduction)
    depth = d.integer(draw, 1, x.ndim)
    unique = reduction == "none"
    places = math.prod(shape[:depth])
    outer = d.shape(draw, most=2, sizes=(2, 1, 3, 0), elements=12)
    if unique and math.prod(outer) > places:
        outer = (places,)
    indices = _tuples(draw, shape[:depth], outer, unique)
    inputs = [x, indices, _more(draw, (*outer, *shape[depth:]), x, reduction)]

    def expected(data: Array, where: Array, update: Array) -> Array:
        result = data.copy()
        for place in np.ndindex(outer):
            to = tuple(int(i) for i in where[place])
            result[to] = _combined(reduction, result[to], update[place])
        return result

    attributes = {} if reduction == "none" else {"reduction": reduction}
    return Case(operator, inputs, attributes, d.one_of(draw, [[], [1], [0]]), opset=18, expected=expected,
                exact=reduction == "none")  # fmt: skip


# parts ----------------------------------------------------------------------------------------------------------------


@fuzz("Slice")
def slice_(draw: Draw, operator: str) -> Case:
    x = _data(draw, least=1)
    axes = d.axes(draw, x.ndim, least=1)
    bound = [INT64.max, INT64.min, 2**31 - 1, -(2**31)]
    starts, ends, steps = [], [], []
    by_attribute = x.dtype == np.float32 and d.flag(draw)
    for axis in axes:
        size = x.shape[axis]
        starts.append(d.one_of(draw, [*range(-size - 2, size + 3), *bound]))
        ends.append(d.one_of(draw, [*range(-size - 2, size + 3), *bound]))
        steps.append(1 if by_attribute else d.one_of(draw, [1, -1, 2, -2, 3, -7, *bound[:2]]))

    def expected(value: Array, *_: Array) -> Array:
        index: list[Any] = [slice(None)] * value.ndim
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            size = value.shape[axis]
            low, high = (0, size) if step > 0 else (-1, size - 1)
            first = min(max(start + size if start < 0 else start, max(low, 0)), high)
            last = min(max(end + size if end < 0 else end, low), size)
            index[axis] = list(range(first, last, step))
            value = np.take(value, np.array(index[axis], np.int64), axis=axis)
        return value

    if by_attribute:
        return Case(
            operator, [x], {"starts": starts, "ends": ends, "axes": axes}, opset=9, expected=expected, exact=True
        )
    inputs: list[Array | None] = [x, _ints(*starts), _ints(*ends), _ints(*axes), _ints(*steps)]
    if all(s == 1 for s in steps) and d.flag(draw):
        inputs.pop()
    return Case(operator, inputs, {}, range(1, len(inputs)), expected=expected, exact=True)


@fuzz("Pad")
def pad(draw: Draw, operator: str) -> Case:
    mode = d.one_of(draw, ["constant", "reflect", "edge", "wrap"])
    x = _data(draw, least=0 if mode == "constant" else 1, empty=mode == "constant", most=5, elements=120)
    axes = d.axes(draw, x.ndim, least=0) if d.flag(draw) else list(range(x.ndim))
    pads = []
    for axis in (*axes, *axes):
        size = x.shape[axis]
        least = -(size // 2) if mode == "constant" else 0
        pads.append(d.integer(draw, least, size - 1 if mode == "reflect" else 5))
    inputs: list[Array | None] = [x, _ints(*pads)]
    constants = [1]
    if mode == "constant" and d.flag(draw):
        inputs.append(d.values(draw, (), x.dtype.name))
        constants += [2] if d.flag(draw) else []
    if axes != list(range(x.ndim)):
        inputs += [None] * (3 - len(inputs)) + [np.array(axes, d.one_of(draw, INDICES))]
        constants.append(3)

    def expected(value: Array, _: Array, fill: Array | None = None, *__: Array) -> Array:
        before, after = [0] * value.ndim, [0] * value.ndim
        for i, axis in enumerate(axes):
            before[axis], after[axis] = pads[i], pads[i + len(axes)]
        crop = tuple(slice(max(-b, 0), s - max(-a, 0)) for b, a, s in zip(before, after, value.shape, strict=True))
        width = [(max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True)]
        if mode != "constant":
            return np.pad(value[crop], width, mode=mode)
        result = np.full([s.stop - s.start + sum(w) for s, w in zip(crop, width, strict=True)],
                         0 if fill is None else fill, value.dtype)  # fmt: skip
        result[tuple(slice(w[0], r - w[1]) for w, r in zip(width, result.shape, strict=True))] = value[crop]
        return result

    return Case(operator, inputs, {"mode": mode}, constants, expected=expected, exact=True)


@fuzz("Split")
def split(draw: Draw, operator: str) -> Case:
    x = _data(draw, least=1)
    axis = d.axis(draw, x.ndim)
    size = x.shape[axis]
    if d.flag(draw):
        cuts = sorted(d.integer(draw, 0, size) for _ in range(d.integer(draw, 0, 3)))
        parts = [b - a for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
        return Case(operator, [x, _ints(*parts)], {"axis": axis}, [1], outputs=len(parts), opset=18, exact=True)
    count = d.integer(draw, 1, max(size, 1))
    if -(-size // count) * (count - 1) > size:  # the last part would be negative
        count = 1
    return Case(operator, [x], {"axis": axis, "num_outputs": count}, outputs=count, opset=18, exact=True)


@fuzz("Concat")
def concat(draw: Draw, operator: str) -> Case:
    first = _data(draw, least=1, elements=200)
    axis = d.axis(draw, first.ndim)
    shapes = [
        tuple(d.integer(draw, 0, 4) if i == axis % first.ndim else s for i, s in enumerate(first.shape))
        for _ in range(d.integer(draw, 0, 3))
    ]
    inputs = [first, *(d.values(draw, s, first.dtype.name) for s in shapes)]
    constants = [i for i in range(1, len(inputs)) if d.flag(draw)]
    return Case(operator, inputs, {"axis": axis}, constants, exact=True)


@fuzz("Compress")
def compress(draw: Draw, operator: str) -> Case:
    x = _data(draw, least=1, empty=False)
    axis = None if d.flag(draw) else d.axis(draw, x.ndim)
    extent = x.size if axis is None else x.shape[axis]
    condition = d.values(draw, (d.integer(draw, 1, extent),), "bool")
    return Case(operator, [x, condition], {} if axis is None else {"axis": axis}, exact=True)


@fuzz("NonZero")
def non_zero(draw: Draw, operator: str) -> Case:
    x = _data(draw, least=1)
    return Case(operator, [x], expected=lambda value: np.stack(np.nonzero(value)).astype(np.int64))


@fuzz("Unique")
def unique(draw: Draw, operator: str) -> Case:
    dtype = d.one_of(draw, d.NUMBERS)
    shape = d.shape(draw, least=1, empty=False, most=4)
    special = [v for v in d.specials(dtype) if v == v]  # ONNX does not say whether NaNs are equal
    x = d.values(draw, shape, dtype, special=special)
    attributes: dict[str, Any] = {"sorted": int(d.flag(draw))}
    if d.flag(draw):
        attributes["axis"] = d.axis(draw, x.ndim)
    outputs = [True, d.flag(draw), d.flag(draw), d.flag(draw)]
    while not outputs[-1]:
        outputs.pop()

    def expected(value: Array) -> list[Array]:
        axis = attributes.get("axis")
        found = np.unique(value, return_index=True, return_inverse=True, return_counts=True, axis=axis)
        values, first, inverse, counts = found
        inverse = inverse.reshape(-1)
        if not attributes["sorted"]:
            order = np.argsort(first, kind="stable")
            values = np.take(values, order, axis=0 if axis is None else axis)
            first, counts = first[order], counts[order]
            inverse = np.argsort(order, kind="stable")[inverse]
        every = [values, *(v.astype(np.int64) for v in (first, inverse, counts))]
        return [v for v, kept in zip(every, outputs, strict=False) if kept]

    return Case(operator, [x], attributes, outputs=outputs, expected=expected)


# permutations and views -----------------------------------------------------------------------------------------------


@fuzz("Transpose")
def transpose(draw: Draw, operator: str) -> Case:
    x = _data(draw)
    attributes = {"perm": list(draw(d.st.permutations(range(x.ndim))))} if x.ndim and d.flag(draw) else {}
    return Case(operator, [x], attributes, exact=True)


@fuzz("Reshape")
def reshape(draw: Draw, operator: str) -> Case:
    x = _data(draw)
    rest = x.size
    wanted: list[int] = []
    if rest:
        for factor in _factors(draw, rest):
            wanted.append(factor)
    else:
        wanted = list(draw(d.st.permutations(x.shape)))
    zero_means_zero = not rest
    if rest and wanted and d.flag(draw):
        wanted[d.integer(draw, 0, len(wanted) - 1)] = -1
    attributes = {"allowzero": 1} if zero_means_zero else {}
    for i, size in enumerate(wanted):
        if not zero_means_zero and i < x.ndim and size == x.shape[i] and d.flag(draw):
            wanted[i] = 0
    return Case(operator, [x, _ints(*wanted)], attributes, [1], exact=True)


def _factors(draw: Draw, number: int) -> list[int]:
    result = []
    for _ in range(d.integer(draw, 0, 4)):
        factor = d.one_of(draw, [f for f in range(1, min(number, 60) + 1) if number % f == 0])
        result.append(factor)
        number //= factor
    return [*result, number] if number > 1 or not result else result


@fuzz("Flatten")
def flatten(draw: Draw, operator: str) -> Case:
    x = _data(draw)
    return Case(operator, [x], {"axis": d.integer(draw, -x.ndim, x.ndim)}, exact=True)


@fuzz("Squeeze")
def squeeze(draw: Draw, operator: str) -> Case:
    x = _data(draw, sizes=(1, 2, 3, 0))
    ones = [i for i, s in enumerate(x.shape) if s == 1]
    if d.flag(draw) or not ones:
        return Case(operator, [x], exact=True)
    chosen = [i - x.ndim if d.flag(draw) else i for i in ones if d.flag(draw)] or [ones[0]]
    return Case(operator, [x, _ints(*chosen)], {}, [1], exact=True)


@fuzz("Unsqueeze")
def unsqueeze(draw: Draw, operator: str) -> Case:
    x = _data(draw, most=4)
    more = d.integer(draw, 1, 3)
    chosen = draw(d.st.permutations(range(x.ndim + more)))[:more]
    return Case(operator, [x, _ints(*(a - x.ndim - more if d.flag(draw) else a for a in chosen))], {}, [1], exact=True)


@fuzz("Expand")
def expand(draw: Draw, operator: str) -> Case:
    whole = d.shape(draw)
    x = d.values(draw, d.broadcast(draw, whole), d.one_of(draw, d.ANY))
    wanted = tuple(1 if d.flag(draw) and i >= len(whole) - x.ndim else s for i, s in enumerate(whole))
    result = np.broadcast_shapes(wanted, x.shape)
    return Case(operator, [x, _ints(*wanted)], {}, [1], expected=lambda v, _: np.broadcast_to(v, result).copy(),
                exact=True)  # fmt: skip


@fuzz("Tile")
def tile(draw: Draw, operator: str) -> Case:
    x = _data(draw, elements=60)
    repeats = [d.one_of(draw, [1, 2, 3, 0]) for _ in range(x.ndim)]
    return Case(operator, [x, _ints(*repeats)], {}, [1], expected=lambda v, r: np.tile(v, tuple(r)), exact=True)


@fuzz("Trilu")
def trilu(draw: Draw, operator: str) -> Case:
    x = _data(draw, least=2)
    upper = d.flag(draw)
    k = d.one_of(draw, [None, *range(-8, 9), INT64.max, INT64.min])
    inputs = [x] if k is None else [x, np.array(k, np.int64)]

    def expected(value: Array, *_: Array) -> Array:
        far = min(max(k or 0, -100), 100)
        return (np.triu if upper else np.tril)(value, far)

    constants = [1] if len(inputs) > 1 and d.flag(draw) else []
    return Case(operator, inputs, {"upper": int(upper)}, constants, expected=expected, exact=True)


@fuzz("ReverseSequence")
def reverse_sequence(draw: Draw, operator: str) -> Case:
    x = _data(draw, least=2, empty=False)
    time = d.integer(draw, 0, 1)
    lengths = d.values(draw, (x.shape[1 - time],), "int64", low=1, high=x.shape[time], special=False)

    def expected(value: Array, sizes: Array) -> Array:
        result = value.copy()
        for i, length in enumerate(sizes):
            batch = value.take(i, axis=1 - time)  # time is its first axis now
            turned = np.concatenate([batch[:length][::-1], batch[length:]])
            if time:
                result[i] = turned
            else:
                result[:, i] = turned
        return result

    return Case(operator, [x, lengths], {"time_axis": time, "batch_axis": 1 - time}, d.one_of(draw, [[], [1]]),
                expected=expected, exact=True)  # fmt: skip


@fuzz("DepthToSpace", "SpaceToDepth")
def depth_to_space(draw: Draw, operator: str) -> Case:
    k = d.integer(draw, 1, 3)
    n, c, h, w = (d.integer(draw, 1, 3) for _ in range(4))
    deep = operator == "DepthToSpace"
    shape = (n, c * k * k, h, w) if deep else (n, c, h * k, w * k)
    x = d.values(draw, shape, d.one_of(draw, d.ANY))
    attributes: dict[str, Any] = {"blocksize": k}
    if deep and d.flag(draw):
        attributes["mode"] = d.one_of(draw, ["DCR", "CRD"])
    case = Case(operator, [x], attributes, exact=True)
    return Case(operator, [x], attributes, expected=lambda _: evaluator(case), exact=True, widen=False)


# creation -------------------------------------------------------------------------------------------------------------


@fuzz("EyeLike")
def eye_like(draw: Draw, operator: str) -> Case:
    from plugin_autogen import dtypes

    x = d.values(draw, d.shape(draw, least=2, most=2), d.one_of(draw, d.ANY))
    attributes: dict[str, Any] = {"k": d.integer(draw, -9, 9)} if d.flag(draw) else {}
    kind = x.dtype
    if d.flag(draw):
        to = d.one_of(draw, d.ANY)
        attributes["dtype"], kind = dtypes.from_name(to).onnx, d.kind_of(to)
    return Case(operator, [x], attributes, widen=False,
                expected=lambda v: np.eye(*v.shape, k=attributes.get("k", 0)).astype(kind))  # fmt: skip


@fuzz("Range")
def range_(draw: Draw, operator: str) -> Case:
    dtype = d.one_of(draw, ("int64", "int32", "int16", "float32", "float64"))
    start, limit = d.integer(draw, -20, 20), d.integer(draw, -20, 20)
    step = d.one_of(draw, [1, -1, 2, -3, 7, 0.25, -0.5] if d.is_float(dtype) else [1, -1, 2, -3, 7])
    inputs = [np.array(v, dtype) for v in (start, limit, step)]
    return Case(operator, inputs, {}, [0, 1, 2], expected=lambda a, b, c: np.arange(a, b, c, dtype=dtype))


@fuzz("Shape", "Size")
def shape_of(draw: Draw, operator: str) -> Case:
    x = _data(draw)
    attributes = {}
    if operator == "Shape" and d.flag(draw):
        attributes = {"start": d.integer(draw, -8, 8), "end": d.integer(draw, -8, 8)}
    case = Case(operator, [x], attributes)
    return Case(operator, [x], attributes, expected=lambda _: evaluator(case), widen=False)


@fuzz("ConstantOfShape")
def constant_of_shape(draw: Draw, operator: str) -> Case:
    import onnx.numpy_helper

    sizes = d.shape(draw)
    value = d.values(draw, (1,), d.one_of(draw, d.ANY))
    attributes = {"value": onnx.numpy_helper.from_array(value)}
    return Case(operator, [_ints(*sizes)], attributes, [0], widen=False, exact=True,
                expected=lambda _: np.full(sizes, value[0], value.dtype))  # fmt: skip


@fuzz("Identity")
def identity(draw: Draw, operator: str) -> Case:
    return Case(operator, [_data(draw)], exact=True)


@fuzz("CenterCropPad")
def center_crop_pad(draw: Draw, operator: str) -> Case:
    x = _data(draw, least=1, empty=False, elements=100)
    axes = d.axes(draw, x.ndim, least=1)
    wanted = _ints(*(d.integer(draw, 1, 8) for _ in axes))
    return Case(operator, [x, wanted], {"axes": axes}, [1], exact=True)
