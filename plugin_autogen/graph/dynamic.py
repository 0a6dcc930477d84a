"""Makes dimensions of a model symbolic where the user gives ranges, and finds out what they mean inside the model.

The ranges of the inputs become those of every tensor by inferring the model's shapes at the smallest, best and largest
shapes: what a plugin in the middle of a network sees need not be said by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from plugin_autogen.errors import SelectionError, shorten
from plugin_autogen.graph import model as models
from plugin_autogen.graph import naming
from plugin_autogen.graph.model import Model, Value, read_names
from plugin_autogen.graph.selection import PluginRequest
from plugin_autogen.graph.shapes import Range, Shape, ShapeRange, ShapeRanges

USUAL_BATCH, USUAL_LENGTH, USUAL_IMAGE = 2, 16, 64
"""Sizes at which a plugin is checked where no range says better: axis 0, others, the last two of rank 4 and more."""


@dataclass(frozen=True)
class DynamicModel:
    """A model with its dynamic dimensions.

    Attributes:
        model: with symbolic dimensions where the user asked for them or the model has them.
        ranges: tensor → range of each axis, for tensors with dynamic dimensions; None for an axis of which nothing is
            known.
        profile: the ranges of the graph's dynamic inputs that the user decided, whole shapes.
        warnings: one line each.
    """

    model: Model
    ranges: Mapping[str, tuple[Range | None, ...]] = field(default_factory=dict)
    profile: Mapping[str, ShapeRange] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def with_dynamic_shapes(model: Model, requests: Sequence[PluginRequest], wanted: ShapeRanges) -> DynamicModel:
    """The model with what `wanted` says about its shapes.

    A dimension whose smallest and largest size are equal becomes that number, any other one symbolic, whatever the
    model states. `wanted.batch` makes the first dimension of every graph input symbolic that the requests depend on:
    inputs of equal fixed size share one symbol.

    Raises:
        SelectionError: a tensor that the model lacks or of another rank, or a batch that reaches no selected node.
    """
    _check_names(model, wanted)
    inputs = {name: model.value(name) for name in model.graph_inputs}
    ranges: dict[str, Range] = {}
    shapes = {}
    for name, value in inputs.items():
        if value.shape is None:
            continue
        own = wanted.tensors.get(name)
        shapes[name] = value.shape if own is None else _ranged(model, name, value.shape, own, ranges)
    if wanted.batch is not None:
        _batch(model, requests, wanted, shapes, ranges)
    changed = {name for name, shape in shapes.items() if shape != inputs[name].shape}
    result = models.with_inputs(model, {name: shapes[name] for name in changed}) if changed else model
    _inner(result, wanted, ranges)
    if wanted.batch is not None:
        _check_batch(result, requests)
    return _described(result, shapes, ranges)


def _check_names(model: Model, wanted: ShapeRanges) -> None:
    for name, shape in wanted.tensors.items():
        value = model.values.get(name)
        if value is None or name in model.initializers:
            what = "is a constant" if name in model.initializers else "is none of the model"
            raise SelectionError(
                f'the shapes name tensor "{shorten(name)}", which {what}; the model\'s inputs are '
                f"{shorten(', '.join(model.graph_inputs), 300)}"
            )
        if value.shape is not None and len(value.shape) != len(shape.opt):
            raise SelectionError(
                f'the shapes give tensor "{shorten(name)}" rank {len(shape.opt)}, the model {len(value.shape)}'
            )


def _ranged(
    model: Model, name: str, shape: tuple[int | str | None, ...], own: ShapeRange, ranges: dict[str, Range]
) -> tuple[int | str | None, ...]:
    """The tensor's shape with numbers where the range is one, symbols elsewhere; adds the symbols' ranges."""
    result: list[int | str | None] = []
    for axis, (size, given) in enumerate(zip(shape, own.axes, strict=True)):
        if given.min == given.max:
            result.append(given.opt)
            continue
        symbol = size if isinstance(size, str) else naming.unique(f"{name}_dim{axis}", {*_symbols(model), *ranges})
        ranges[symbol] = ranges[symbol].union(given) if symbol in ranges else given
        result.append(symbol)
    return tuple(result)


def _symbols(model: Model) -> set[str]:
    return {d for value in model.values.values() for d in value.shape or () if isinstance(d, str)}


def _batch(
    model: Model,
    requests: Sequence[PluginRequest],
    wanted: ShapeRanges,
    shapes: dict[str, tuple[int | str | None, ...]],
    ranges: dict[str, Range],
) -> None:
    """Makes the first dimension of the graph inputs above the requests symbolic."""
    assert wanted.batch is not None
    above = _above(model, requests)
    symbols: dict[int, str] = {}
    for name, shape in shapes.items():
        if name not in above or name in wanted.tensors or not shape:
            continue
        first = shape[0]
        if isinstance(first, int):
            if first not in symbols:
                symbols[first] = naming.unique("batch", {*_symbols(model), *ranges})
                ranges[symbols[first]] = wanted.batch
            symbol = symbols[first]
        else:
            symbol = first or naming.unique(f"{name}_dim0", {*_symbols(model), *ranges})
            ranges.setdefault(symbol, wanted.batch)
        shapes[name] = (symbol, *shape[1:])


def _above(model: Model, requests: Iterable[PluginRequest]) -> set[str]:
    """Names of all tensors that the requests' nodes depend on."""
    found: set[str] = set()
    stack = [n for r in requests for key in r.node_names for n in read_names(model.node(key))]
    while stack:
        name = stack.pop()
        if name in found:
            continue
        found.add(name)
        if name in model.producer:
            stack += read_names(model.proto.graph.node[model.producer[name]])
    return found


def _check_batch(model: Model, requests: Sequence[PluginRequest]) -> None:
    """Every selected node must see the batch: one that does not has a fixed shape somewhere above it."""
    for request in requests:
        read = [n for key in request.node_names for n in read_names(model.node(key)) if n not in model.initializers]
        shapes = [(n, s) for n in read if (s := model.value(n).shape)]
        if shapes and all(isinstance(size, int) for _, shape in shapes for size in shape):
            name, shape = shapes[0]
            raise SelectionError(
                f'node "{shorten(request.node_names[0])}": the first dimension of its input "{shorten(name)}" stays '
                f"{shape[0]} whatever the batch is, since a node above it (a Reshape to a constant shape, say) fixes "
                "it: export the model with a dynamic batch, or leave -dynamic out"
            )


def _inner(model: Model, wanted: ShapeRanges, ranges: dict[str, Range]) -> None:
    """What the user says about tensors that are no graph inputs: it counts more than what is inferred."""
    for name, own in wanted.tensors.items():
        if name not in model.graph_inputs:
            value = model.value(name)
            shape = value.shape if value.shape is not None else (None,) * len(own.opt)
            model.values[name] = replace(value, shape=_ranged(model, name, shape, own, ranges))


# --- what the ranges mean inside the model ----------------------------------------------------------------------------


def _described(
    model: Model, shapes: Mapping[str, tuple[int | str | None, ...]], ranges: Mapping[str, Range]
) -> DynamicModel:
    dynamic = {
        name: value.shape
        for name, value in model.values.items()
        if value.shape is not None and any(not isinstance(d, int) for d in value.shape)
    }
    if not dynamic:
        return DynamicModel(model)
    inputs = {name: _axis_ranges(shape, ranges) for name, shape in shapes.items()}
    decided = {
        name: ShapeRange(*(tuple(_at(r, d, which) for r, d in zip(axes, shapes[name], strict=True)) for which in _ENDS))
        for name, axes in inputs.items()
        if name in dynamic
        and all(
            isinstance(d, int) or (r is not None and r.max is not None) for r, d in zip(axes, shapes[name], strict=True)
        )
    }
    warnings = []
    missing = [name for name in model.graph_inputs if name in dynamic and name not in decided]
    if missing:
        warnings.append(
            f'input "{shorten(missing[0])}"{f" and {len(missing) - 1} more" if len(missing) > 1 else ""} has dynamic '
            "dimensions without a range: the plugins take any size, but the engine needs --minShapes, --optShapes and "
            "--maxShapes for it"
        )
    # Of a model whose inputs are all fixed no more is known at one point than at another.
    is_open = any(name in dynamic for name in model.graph_inputs)
    points = _points(model, shapes, ranges, complete=not missing) if is_open else []
    found: dict[str, tuple[Range | None, ...]] = {}
    for name, shape in dynamic.items():
        known = _axis_ranges(shape, ranges)
        at = [point.get(name, Value()).shape for point in points]
        found[name] = tuple(
            r
            if r is not None or isinstance(shape[axis], int)
            else _range_between([None if s is None else s[axis] for s in at])
            for axis, r in enumerate(known)
        )
    return DynamicModel(model, found, decided, tuple(warnings))


_ENDS = ("min", "opt", "max")


def _axis_ranges(shape: tuple[int | str | None, ...], ranges: Mapping[str, Range]) -> list[Range | None]:
    return [ranges.get(d) if isinstance(d, str) else None for d in shape]


def _at(known: Range | None, size: int | str | None, which: str) -> int:
    if isinstance(size, int):
        return size
    assert known is not None
    value = getattr(known, which)
    assert isinstance(value, int)
    return value


def _points(
    model: Model,
    shapes: Mapping[str, tuple[int | str | None, ...]],
    ranges: Mapping[str, Range],
    complete: bool,
) -> list[dict[str, Value]]:
    """Everything's shape at the smallest, best and largest inputs; at usual ones alone where ranges are missing."""
    points = []
    for which in _ENDS if complete else ("opt",):
        usual: dict[str, int] = {}
        fixed: dict[str, Shape] = {}
        for name, shape in shapes.items():
            sizes = []
            for axis, size in enumerate(shape):
                if isinstance(size, int):
                    sizes.append(size)
                    continue
                known = ranges.get(size or "")
                guess = _usual(axis, len(shape))
                value = (
                    getattr(known, which) if known is not None else usual.setdefault(size or f"{name} {axis}", guess)
                )
                sizes.append(value)
            fixed[name] = tuple(sizes)
        points.append(models.with_inputs(model, fixed).values)
    return points


def _usual(axis: int, rank: int) -> int:
    if axis == 0:
        return USUAL_BATCH
    return USUAL_IMAGE if rank >= 4 and axis >= rank - 2 else USUAL_LENGTH


def _range_between(sizes: Sequence[int | str | None]) -> Range | None:
    """The range of a dimension with these sizes at the three points, or without limit at the only one."""
    if not sizes or not all(isinstance(s, int) for s in sizes):
        return None
    numbers = [s for s in sizes if isinstance(s, int)]
    if len(numbers) == 1:
        return Range(0, numbers[0])
    return Range(min(numbers), numbers[1], max(numbers))
