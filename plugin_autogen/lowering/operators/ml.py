"""TfIdfVectorizer, and ai.onnx.ml's operators that are plain tensor code: Binarizer, LabelEncoder, TreeEnsemble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from plugin_autogen.lowering.registry import NodeContext, converter

if TYPE_CHECKING:
    import numpy as np


def _table(values: Sequence[Any] | np.ndarray, dtype: str) -> Any:
    """A constant of the plugin: never empty, since no buffer is."""
    import numpy as np
    from tvm import relax

    array = np.asarray(values, dtype).reshape(-1)
    return relax.const(array if array.size else np.zeros(1, dtype), dtype)


@converter("Binarizer", domain="ai.onnx.ml", since=1)
def _binarizer(context: NodeContext) -> Any:
    from plugin_autogen.lowering.te_helpers import const_expr, elementwise

    dtype = context.dtype(0)
    threshold = float(context.attribute("threshold", 0.0))
    return elementwise(context, lambda x: (x > const_expr(threshold, str(x.ty.dtype))).astype(dtype), context.input(0))


@converter("LabelEncoder", domain="ai.onnx.ml", since=2)
def _label_encoder(context: NodeContext) -> Any:
    """A binary search among the sorted keys."""
    import numpy as np
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    shape, dtype, result_type = context.shape(0), context.dtype(0), context.output().dtype.name
    keys = _first(context, "keys_floats", "keys_int64s", "keys_tensor")
    values = _first(context, "values_floats", "values_int64s", "values_tensor")
    if keys is None or values is None:
        context.unsupported("keys or values are strings")
    kind = "floats" if context.attribute("values_floats") is not None else "int64"
    default = _first(context, "default_tensor", "default_float" if kind == "floats" else "default_int64")
    if default is None:
        default = np.array(-0.0 if result_type.startswith("float") else -1)
    chosen = dict(zip(np.asarray(keys).reshape(-1).tolist(), np.asarray(values).reshape(-1).tolist(), strict=True))
    other = next((v for k, v in chosen.items() if k != k), np.asarray(default).reshape(-1)[0].item())
    ordered = sorted((k, v) for k, v in chosen.items() if k == k)
    inputs = [_table([k for k, _ in ordered], dtype), _table([v for _, v in ordered], result_type)]
    count = len(ordered)
    fallback = tirx.const(np.asarray(default).reshape(-1)[0].item(), result_type)

    def body(x: Any, own_keys: Any, own_values: Any, result: Any) -> None:
        with tl.grid(*shape) as position:
            at = tuple(position)
            value = tl.bind(x[at])
            low, high = tl.local("int32"), tl.local("int32")  # the first key that is not smaller lies in [low, high]
            low[0], high[0] = tirx.const(0, "int32"), tirx.const(max(count - 1, 0), "int32")
            with tl.serial(max(count, 1).bit_length()), tl.when(low[0] < high[0]):
                middle = tl.bind(tirx.floordiv(low[0] + high[0], 2))
                with tl.when(own_keys[middle] < value):
                    low[0] = middle + 1
                with tl.when(own_keys[middle] >= value):
                    high[0] = middle
            found = tirx.Select(own_keys[low[0]] == value, own_values[low[0]], fallback) if count else fallback
            if dtype.startswith("float"):
                found = tirx.Select(tirx.isnan(value), tirx.const(other, result_type), found)
            result[at] = found

    return tl.kernel(context, body, [context.input(0), *inputs], [(shape, result_type)])


def _first(context: NodeContext, *names: str) -> Any:
    return next((context.attribute(name) for name in names if context.attribute(name) is not None), None)


@converter("TreeEnsemble", domain="ai.onnx.ml", since=5)
def _tree_ensemble(context: NodeContext) -> Any:
    """One thread for each sample and target walks down every tree.

    Values that crossed the plugin's border in a narrower type (TensorRT has no double) are compared with splits that
    are rounded alike: a value that equals a split still does.
    """
    import numpy as np
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    shape, dtype = context.shape(0), context.dtype(0)
    samples, targets = shape[0], int(context.attribute("n_targets"))
    get = context.attribute
    modes, roots = np.asarray(get("nodes_modes")).reshape(-1), get("tree_roots")
    count = len(modes)
    true_ids, false_ids = get("nodes_truenodeids"), get("nodes_falsenodeids")
    true_leafs, false_leafs = get("nodes_trueleafs"), get("nodes_falseleafs")
    set_starts, members = _memberships(
        modes, get("membership_values"), roots, true_ids, false_ids, true_leafs, false_leafs
    )
    # A step leads to a node, or to leaf `i`, written as `-1 - i`.
    branches = [
        [-1 - i if leaf else i for i, leaf in zip(ids, leafs, strict=True)]
        for ids, leafs in ((true_ids, true_leafs), (false_ids, false_leafs))
    ]
    starts = [
        -1 - true_ids[r] if true_leafs[r] and false_leafs[r] and true_ids[r] == false_ids[r] else r for r in roots
    ]
    aggregate, post = int(get("aggregate_function", 1)), int(get("post_transform", 0))
    if post:
        context.unsupported(f"post_transform {post}")
    missing = get("nodes_missing_value_tracks_true") or [0] * count
    leaf_weights = np.asarray(get("leaf_weights")).reshape(-1)
    tables = [
        _table(starts, "int32"),
        _table(branches[0], "int32"),
        _table(branches[1], "int32"),
        _table(modes, "int32"),
        _table(get("nodes_featureids"), "int32"),
        _table(np.asarray(get("nodes_splits")).astype(context.rounded.get(0, dtype)), dtype),
        _table(missing, "int32"),
        _table(set_starts, "int32"),
        _table(np.asarray(members).astype(context.rounded.get(0, dtype)), dtype),
        _table(get("leaf_targetids"), "int32"),
        _table(leaf_weights, dtype),
    ]
    depth = _depth(starts, branches)
    limits = np.finfo(np.float64 if dtype == "float64" else np.float16 if dtype == "float16" else np.float32)
    neutral = {2: float(limits.max), 3: float(limits.min)}.get(aggregate, 0.0)

    def holds(value: Any, node: Any, mode: Any, split: Any, sets: Any, elements: Any) -> Any:
        """Whether the node sends the value to its true branch."""
        found = tl.local("bool")
        found[0] = tirx.const(False, "bool")
        limit = split[node]
        # under LLVM != compares ordered: NaN would equal everything
        unequal = tirx.any(value != limit, tirx.isnan(value), tirx.isnan(limit))
        tests = [value <= limit, value < limit, value >= limit, value > limit, value == limit, unequal]
        for number, passed in enumerate(tests):
            with tl.when(mode[node] == number):
                found[0] = passed
        with (
            tl.when(mode[node] == 6),
            tl.serial(sets[node + 1] - sets[node]) as i,
            tl.when(elements[sets[node] + i] == value),
        ):
            found[0] = tirx.const(True, "bool")
        return found

    def body(*buffers: Any) -> None:
        x, first, on_true, on_false, mode, feature, split, tracks, sets, elements, target_of, weight, result = buffers
        with tl.grid(samples, targets) as (sample, target):
            total = tl.local(dtype)
            total[0] = tirx.const(neutral, dtype)
            with tl.serial(len(starts)) as tree:
                node = tl.local("int32")
                node[0] = first[tree]
                with tl.serial(depth) as _, tl.when(node[0] >= 0):
                    here = tl.bind(node[0])
                    value = tl.bind(x[sample, feature[here]])
                    found = holds(value, here, mode, split, sets, elements)
                    nan = tirx.all(tirx.isnan(value), tracks[here] != 0)
                    node[0] = tirx.Select(tirx.any(found[0], nan), on_true[here], on_false[here])
                leaf = tl.bind(-1 - node[0])
                with tl.when(target_of[leaf] == target):
                    value = weight[leaf]
                    if aggregate == 0:
                        value = value / tirx.const(len(starts), dtype)
                    if aggregate == 2:
                        total[0] = tirx.min(total[0], value)
                    elif aggregate == 3:
                        total[0] = tirx.max(total[0], value)
                    else:
                        total[0] = total[0] + value
            result[sample, target] = total[0]

    return tl.kernel(context, body, [context.input(0), *tables], [([samples, targets], dtype)])


def _memberships(
    modes: Any, values: Any, roots: Any, true_ids: Any, false_ids: Any, true_leafs: Any, false_leafs: Any
) -> tuple[list[int], list[float]]:
    """Where each node's set begins in the list of all members. NaN ends a set; nodes come in the order of a walk."""
    count = len(modes)
    sets: list[list[float]] = [[] for _ in range(count)]
    if values is not None:
        rest = iter(float(v) for v in values.reshape(-1))
        stack = [int(r) for r in roots][::-1]
        seen: set[int] = set()
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if modes[node] == 6:
                while (member := next(rest)) == member:
                    sets[node].append(member)
            if not false_leafs[node]:
                stack.append(false_ids[node])
            if not true_leafs[node]:
                stack.append(true_ids[node])
    starts = [0]
    for members in sets:
        starts.append(starts[-1] + len(members))
    return starts, [member for members in sets for member in members]


def _depth(starts: Sequence[int], branches: Sequence[Sequence[int]]) -> int:
    """The longest way from a root to a leaf."""
    deepest, level = 0, [s for s in starts if s >= 0]
    while level and deepest <= len(branches[0]):
        deepest += 1
        level = [side[node] for node in level for side in branches if side[node] >= 0]
    return deepest


@converter("TfIdfVectorizer", since=9)
def _tf_idf(context: NodeContext) -> Any:
    """One thread for each place of the result counts the n-grams that belong to it."""
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    shape = context.shape(0)
    get = context.attribute
    pool, counts, indexes = get("pool_int64s"), get("ngram_counts"), get("ngram_indexes")
    if pool is None:
        context.unsupported("n-grams of strings")
    shortest, longest, skips = int(get("min_gram_length")), int(get("max_gram_length")), int(get("max_skip_count"))
    mode, weights = str(get("mode")), get("weights")
    grams: dict[tuple[int, ...], int] = {}
    identifier = 0
    for i, start in enumerate(counts):
        end = counts[i + 1] if i + 1 < len(counts) else len(pool)
        for first in range(start, end - i, i + 1):
            if shortest <= i + 1 <= longest:
                grams[tuple(pool[first : first + i + 1])] = identifier
            identifier += 1
    width = max(indexes) + 1
    own: list[list[tuple[int, ...]]] = [[] for _ in range(width)]
    for gram, number in grams.items():
        own[indexes[number]].append(gram)
    ordered = [gram for place in own for gram in place]
    first_of = [sum(len(place) for place in own[:i]) for i in range(width + 1)]
    offsets = [sum(len(g) for g in ordered[:i]) for i in range(len(ordered) + 1)]
    scales = [float(weights[grams[gram]]) if weights and mode != "TF" else 1.0 for gram in ordered]
    tables = [
        _table(first_of, "int32"),
        _table(offsets, "int32"),
        _table([token for gram in ordered for token in gram], "int64"),
        _table(scales, "float32"),
    ]
    rank, length = len(shape), shape[-1]

    def body(x: Any, gram_of: Any, offset: Any, tokens: Any, scale: Any, result: Any) -> None:
        with tl.grid(*shape[:-1], width) as position:
            *row, place = position
            total = tl.local("float32")
            total[0] = tirx.const(0, "float32")
            with tl.serial(gram_of[place + 1] - gram_of[place]) as k:
                gram = tl.bind(gram_of[place] + k)
                size = tl.bind(offset[gram + 1] - offset[gram])
                found = tl.local("int32")
                found[0] = tirx.const(0, "int32")
                # a 1-gram has nothing to skip and counts once
                with tl.serial(tirx.Select(size == 1, tirx.const(1, "int32"), tirx.const(skips + 1, "int32"))) as skip:
                    reach = tl.bind((size - 1) * (skip + 1))
                    with tl.serial(tirx.max(length - reach, 0)) as start:
                        same = tl.local("int32")
                        same[0] = tirx.const(1, "int32")
                        with tl.serial(size) as i:
                            at = (*row, start + i * (skip + 1))
                            with tl.when(x[at].astype("int64") != tokens[offset[gram] + i]):
                                same[0] = tirx.const(0, "int32")
                        found[0] = found[0] + same[0]
                counted = tirx.min(found[0], 1) if mode == "IDF" else found[0]
                total[0] = total[0] + scale[gram] * counted.astype("float32")
            result[tuple(position)] = total[0]

    if rank not in (1, 2):
        context.unsupported(f"an input of rank {rank}")
    return tl.kernel(context, body, [context.input(0), *tables], [([*shape[:-1], width], "float32")])
