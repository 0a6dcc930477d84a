"""Sorting lines of a tensor on the device: a bitonic network, in shared memory where a line fits.

The order is total: equal values keep the order of their indices, and NaN counts as the largest value, as in numpy.
This module loads TVM; converters import it inside their functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from plugin_autogen.lowering import te_loops as tl
from plugin_autogen.lowering.registry import Dimension, NodeContext
from plugin_autogen.lowering.te_helpers import is_float

TILE = 2048
"""Elements that one block sorts in shared memory: with 8-byte values and 4-byte indices half of what it may use."""

SYMBOLIC_TILE = 512
"""The least that a block sorts of a line whose length is known only at run time, and which may be short."""

Before = Callable[[Any, Any, Any, Any], Any]


def working_type(dtype: str) -> str:
    """The type in which values are compared; half-precision values convert to it and back without loss."""
    return {"float16": "float32", "bfloat16": "float32", "bool": "uint8"}.get(dtype, dtype)


def before(a: Any, index_a: Any, b: Any, index_b: Any, descending: bool) -> Any:
    """Whether the first of two (value, index) pairs comes first. A negative index is padding, which comes last."""
    first = a > b if descending else a < b
    equal = a == b
    if is_float(str(a.ty.dtype)):
        nan_a, nan_b = tirx.isnan(a), tirx.isnan(b)
        first = tirx.any(first, tirx.all(nan_a, tirx.Not(nan_b)) if descending else tirx.all(nan_b, tirx.Not(nan_a)))
        equal = tirx.any(equal, tirx.all(nan_a, nan_b))
    chosen = tirx.any(first, tirx.all(equal, index_a < index_b))
    return tirx.all(index_a >= 0, tirx.any(index_b < 0, chosen))


def sorted_lines(
    context: NodeContext, values: Any, lines: Dimension, extent: Dimension, keep: int, descending: bool, name: str
) -> list[Any]:
    """Sorts each line and keeps its first elements.

    Args:
        context: of the node.
        values: Relax tensor [lines, extent] in a type of `working_type`.
        lines: number of lines.
        extent: elements of a line.
        keep: how many sorted elements of each line to give, at most `extent`. Of a symbolic extent that turns out to be
            smaller, the places behind hold the index -1.
        descending: largest first.
        name: of the TIR functions.

    Returns:
        the sorted values [lines, keep] in the same type and their indices in the line [lines, keep] in int32.
    """
    dtype = str(values.ty.dtype.dtype)
    if not isinstance(extent, int):
        if keep > TILE // 2:
            return _sort_in_device_memory(context, values, lines, extent, keep, descending, name)
        # Each tile gives its first elements to the second kernel, in which one block goes through those of a line.
        size = max(SYMBOLIC_TILE, 1 << (2 * keep - 1).bit_length())
        tiles = tirx.max(tirx.ceildiv(extent, size), 1)
        firsts = _sort_tiles(context, values, None, lines, extent, tiles, size, keep, descending, name, dtype)
        return _merge_firsts(context, *firsts, lines, tiles * keep, keep, descending, name, dtype)
    if extent > TILE and keep > TILE // 2:
        return _sort_in_device_memory(context, values, lines, extent, keep, descending, name)
    # Each round sorts tiles and keeps the first of each: a tournament, until one tile is left.
    indices = None
    while True:
        tiles = max(1, -(-extent // TILE))
        kept = min(keep, extent, TILE)
        size = extent if tiles == 1 else TILE
        values, indices = _sort_tiles(
            context, values, indices, lines, extent, tiles, size, kept, descending, name, dtype
        )
        extent = tiles * kept
        if tiles == 1:
            return [values, indices]


def _sort_tiles(
    context: NodeContext,
    values: Any,
    indices: Any,
    lines: Dimension,
    extent: Dimension,
    tiles: Dimension,
    size: int,
    keep: int,
    descending: bool,
    name: str,
    dtype: str,
) -> tuple[Any, Any]:
    """One block sorts one tile, `size` elements of a line, and writes its first `keep`: [lines, tiles * keep]."""
    power = max(1, (size - 1).bit_length())
    padded = 1 << power
    threads = min(512, max(32, padded // 2))

    def body(*buffers: Any) -> None:
        source, *given, out_values, out_indices = buffers
        with tl.block(lines, tiles, threads=threads) as (line, tile):
            keys, places = tl.shared([padded], dtype), tl.shared([padded], "int32")
            with tl.thread(padded) as (i,):
                at = tile * size + i
                keys[i] = tirx.const(0, dtype)
                places[i] = -1
                with tl.when(tirx.all(i < size, at < extent)):
                    keys[i] = source[line, at]
                    places[i] = given[0][line, at] if given else at
            _network(keys, places, power, descending, dtype, lambda half: tl.thread(half))
            with tl.thread(keep) as (i,):
                out_values[line, tile * keep + i] = keys[i]
                out_indices[line, tile * keep + i] = places[i]

    inputs = [values] if indices is None else [values, indices]
    shape = (lines, tiles * keep)
    a, b = tl.kernel(context, body, inputs, [(shape, dtype), (shape, "int32")], name)
    return a, b


def _merge_firsts(
    context: NodeContext,
    values: Any,
    indices: Any,
    lines: Dimension,
    extent: Dimension,
    keep: int,
    descending: bool,
    name: str,
    dtype: str,
) -> list[Any]:
    """The first `keep` of each line, however long: one block takes a part at a time and keeps the best so far."""
    power = max(8, (2 * keep - 1).bit_length())
    padded = 1 << power
    part = padded - keep
    threads = min(512, padded // 2)

    def body(source: Any, given: Any, out_values: Any, out_indices: Any) -> None:
        with tl.block(lines, threads=threads) as (line,):
            keys, places = tl.shared([padded], dtype), tl.shared([padded], "int32")
            with tl.thread(padded) as (i,):
                keys[i] = tirx.const(0, dtype)
                places[i] = -1
            with tl.serial(tirx.ceildiv(extent, part)) as turn:
                with tl.thread(part) as (i,):
                    at = turn * part + i
                    keys[keep + i] = tirx.const(0, dtype)
                    places[keep + i] = -1
                    with tl.when(at < extent):
                        keys[keep + i] = source[line, at]
                        places[keep + i] = given[line, at]
                _network(keys, places, power, descending, dtype, lambda half: tl.thread(half))
            with tl.thread(keep) as (i,):
                out_values[line, i] = keys[i]
                out_indices[line, i] = places[i]

    shape = (lines, keep)
    return tl.kernel(context, body, [values, indices], [(shape, dtype), (shape, "int32")], f"{name}_merge")


def _sort_in_device_memory(
    context: NodeContext, values: Any, lines: Dimension, extent: Dimension, keep: int, descending: bool, name: str
) -> list[Any]:
    """The whole line, one kernel launch a step of the network."""
    dtype = str(values.ty.dtype.dtype)
    power: Any
    if isinstance(extent, int):
        power = (extent - 1).bit_length()
        padded: Any = 1 << power
    else:
        # The bits of extent - 1, counted: indices are of 32 bits.
        bits = [tirx.Select(extent > (1 << bit), tirx.const(1, "int64"), tirx.const(0, "int64")) for bit in range(31)]
        power = sum(bits[1:], bits[0])
        padded = tirx.const(1, "int64") << power

    def body(source: Any, out_values: Any, out_indices: Any) -> None:
        all_keys, all_places = tl.scratch([lines, padded], dtype), tl.scratch([lines, padded], "int32")
        index = tl.index_type((lines, padded))
        with tl.grid(lines, padded, dtype=index) as (line, i):
            inside = i < extent
            all_keys[line, i] = tirx.if_then_else(inside, source[line, i], tirx.const(0, dtype))
            all_places[line, i] = tirx.Select(inside, i.astype("int32"), tirx.const(-1, "int32"))
        with (
            tl.serial(power) as stage,
            tl.serial(stage + 1) as step,
            tl.grid(lines, padded // 2, dtype=index) as (line, pair),
        ):
            number = pair.astype("int32")
            _exchange(lambda i: (line, i), all_keys, all_places, number, stage, stage - step, descending, dtype)
        with tl.grid(lines, keep, dtype=index) as (line, i):
            out_values[line, i] = all_keys[line, i]
            out_indices[line, i] = all_places[line, i]

    shape = (lines, keep)
    return tl.kernel(context, body, [values], [(shape, dtype), (shape, "int32")], name)


def _network(keys: Any, places: Any, power: int, descending: bool, dtype: str, pairs: Callable[[int], Any]) -> None:
    with tl.serial(power) as stage, tl.serial(stage + 1) as step, pairs(1 << (power - 1)) as (pair,):
        _exchange(lambda i: (i,), keys, places, pair, stage, stage - step, descending, dtype)


def _exchange(
    at: Callable[[Any], tuple[Any, ...]],
    keys: Any,
    places: Any,
    pair: Any,
    stage: Any,
    shift: Any,
    descending: bool,
    dtype: str,
) -> None:
    """Compares the two elements that lie `1 << shift` apart; runs of `2 << stage` are sorted up and down in turn."""
    one = tirx.const(1, "int32")
    low = tl.bind(((pair >> shift) << (shift + 1)) | (pair & ((one << shift) - 1)))
    high = tl.bind(low | (one << shift))
    key_a, key_b = tl.local(dtype), tl.local(dtype)
    place_a, place_b = tl.local("int32"), tl.local("int32")
    key_a[0], key_b[0] = keys[at(low)], keys[at(high)]
    place_a[0], place_b[0] = places[at(low)], places[at(high)]
    upwards = ((low >> (stage + 1)) & 1) == 0
    swap = tirx.Select(
        upwards,
        before(key_b[0], place_b[0], key_a[0], place_a[0], descending),
        before(key_a[0], place_a[0], key_b[0], place_b[0], descending),
    )
    with tl.when(swap):
        keys[at(low)], keys[at(high)] = key_b[0], key_a[0]
        places[at(low)], places[at(high)] = place_b[0], place_a[0]
