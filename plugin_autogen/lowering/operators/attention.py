"""Attention, FlexAttention, RotaryEmbedding and LinearAttention.

Attention is three kernels: the scores with everything that is added to them, a softmax over each row, and the weighted
sum of the values. Query heads that share a key head are one axis of the products beside the queries' positions, so that
a key is read once for all of them, and packed inputs (batch, sequence, heads * size) are read where they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plugin_autogen.lowering.operators.normalization import Rows, largest_of
from plugin_autogen.lowering.registry import Dimension, NodeContext, converter, dtype_of, shape_of
from plugin_autogen.lowering.te_helpers import (
    UNKNOWN_SIZE,
    at,
    bits_of,
    broadcast_index,
    c_math_expr,
    cast_expr,
    const_expr,
    dims,
    elementwise,
    wide,
)
from plugin_autogen.lowering.te_operands import rounded_to

if TYPE_CHECKING:
    from tvm import relax, te, tirx

Indices = Sequence[Any]
_RAW, _CAPPED, _BIASED, _SOFTMAX = range(4)
"""What `qk_matmul_output_mode` asks for, in the order of computation."""


# batched products ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Operand:
    """A tensor with a label for each axis: `b` batch, `h` key head, `g` query head of its group, `q` and `k` positions
    in the sequences, `d` and `e` elements of a head."""

    value: relax.Expr
    labels: str


def _product(
    context: NodeContext,
    a: _Operand,
    b: _Operand,
    result: str,
    dtype: str,
    finish: Callable[..., tirx.Expr] | None = None,
    extras: Sequence[relax.Expr] = (),
    name: str = "product",
) -> _Operand:
    """The sum over the one label that the result lacks, in float32 or wider: one kernel.

    Args:
        context: of the node.
        a: first operand.
        b: second operand.
        result: labels of the result's axes.
        dtype: of the result.
        finish: takes the sum, its position by label, and a TE tensor for each of `extras`; None for the sum itself.
        extras: Relax tensors that `finish` reads.
        name: of the TIR function.
    """
    from tvm import te, tirx

    from plugin_autogen.lowering.te_loops import wide as wide_shape

    work = max((wide(dtype_of(a.value)), wide(dtype_of(b.value))), key=bits_of)
    first_sizes, sizes = (dict(zip(x.labels, shape_of(x.value), strict=True)) for x in (a, b))
    for label in first_sizes.keys() & sizes.keys():
        if isinstance(first_sizes[label], int) and isinstance(sizes[label], int) and first_sizes[label] != sizes[label]:
            context.unsupported(f"the inputs' shapes do not fit: sizes {first_sizes[label]} and {sizes[label]}")
    sizes |= first_sizes
    (summed,) = set(a.labels + b.labels) - set(result)
    shape = wide_shape([sizes[label] for label in result])

    def compute(first: te.Tensor, second: te.Tensor, *more: te.Tensor) -> te.Tensor:
        axis = te.reduce_axis((tirx.const(0, "int64"), wide_shape([sizes[summed]])[0]), name=summed)

        def term(*position: Any) -> tirx.Expr:
            if isinstance(sizes[summed], int) and sizes[summed] == 0:
                return tirx.const(0, work)
            place = dict(zip(result, position, strict=True)) | {summed: axis.var}
            factors = (x(*[place[label] for label in labels]) for x, labels in ((first, a.labels), (second, b.labels)))
            left, right = (cast_expr(factor, work) for factor in factors)
            return te.sum(left * right, axis=axis)

        total = te.compute(shape, term, name="total")
        if finish is None and dtype == work:
            return total  # a single stage, behind which TVM fuses element-wise operators
        return te.compute(
            shape,
            lambda *position: cast_expr(
                finish(total(*position), dict(zip(result, position, strict=True)), *more)
                if finish is not None
                else total(*position),
                dtype,
            ),
            name=name,
        )

    return _Operand(context.te(compute, a.value, b.value, *extras, name=name), result)


# what comes between the two products ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bias:
    """Which keys a query attends, and what is added to its scores.

    A key that is masked, be it by False, by minus infinity or by its position, takes no part, whatever its score.

    Attributes:
        mask: bool, or numbers to add; broadcast to (batch, query heads, queries, keys); None without a mask.
        pads: whether keys beyond the end of a shorter mask are masked (since opset 24).
        lengths: int64 (batch,), the number of valid keys; None where all are.
        offset: the position of the first query, where `lengths` does not decide it.
        queries: how many there are.
        before: how many keys before its own position a query attends; None for all.
        after: how many after it; None for all.
    """

    mask: relax.Expr | None
    pads: bool
    lengths: relax.Expr | None
    offset: Dimension
    queries: Dimension
    before: int | None
    after: int | None

    @property
    def tensors(self) -> list[relax.Expr]:
        """What `apply` reads, in this order."""
        return [x for x in (self.mask, self.lengths) if x is not None]

    def apply(self, score: tirx.Expr, b: Any, head: Any, q: Any, k: Any, *tensors: te.Tensor) -> tirx.Expr:
        """The score of query `q` and key `k` with the bias: minus infinity where the key is masked."""
        from tvm import tirx

        rest = list(tensors)
        kind = str(score.ty.dtype)
        lowest = tirx.const(float("-inf"), kind)
        attended: list[tirx.Expr] = []
        if self.mask is not None:
            mask, inside = self._mask_at(rest.pop(0), [b, head, q, k])
            attended += inside
            if str(mask.ty.dtype) == "bool":
                attended.append(mask)
            else:
                mask = cast_expr(mask, kind)
                score = score + mask
                if kind.startswith("float"):
                    attended.append(mask != lowest)
        own = q + self.offset
        if self.lengths is not None:
            length = cast_expr(rest.pop(0)(b), "int64")
            own = q + length - self.queries
            attended.append(k < length)
        if self.before is not None:
            attended.append(k >= own - self.before)
        if self.after is not None:
            attended.append(k <= own + self.after)
        return tirx.Select(tirx.all(*attended), score, lowest) if attended else score

    def _mask_at(self, mask: te.Tensor, place: Indices) -> tuple[tirx.Expr, list[tirx.Expr]]:
        """The mask's element, and the condition that it lies inside."""
        from tvm import tirx

        shape = dims(mask)
        if not self.pads or not shape:
            return at(mask, place, [UNKNOWN_SIZE] * len(place)), []
        last = tirx.min(place[-1], shape[-1] - 1)
        own = [broadcast_index(i, n, UNKNOWN_SIZE) for i, n in zip(place[4 - len(shape) :], shape, strict=True)]
        return mask(*own[:-1], last), [place[-1] < shape[-1]]


def _softmax(
    context: NodeContext,
    scores: _Operand,
    precision: str,
    dtype: str,
    finish: Callable[..., tirx.Expr],
    extras: Sequence[relax.Expr] = (),
    masks: bool = True,
) -> _Operand:
    """Softmax over the last axis. One kernel.

    Args:
        context: of the node.
        scores: floats.
        precision: the type whose values enter and leave; narrow floats are computed in float32.
        dtype: of the result.
        finish: what is still missing of the scores: takes one, its position by label, and TE tensors.
        extras: Relax tensors that `finish` reads.
        masks: whether a row of nothing but minus infinity gives zeros; else NaN, as ONNX's Softmax has it.
    """
    from tvm import te, tirx

    kind = wide(precision)

    def compute(x: te.Tensor, *more: te.Tensor) -> te.Tensor:
        sizes = dims(x)
        rows = Rows(sizes, [len(sizes) - 1])
        zero = tirx.const(0.0, kind)
        lowest = tirx.const(float("-inf"), kind)

        def value(*i: Any) -> tirx.Expr:
            place = dict(zip(scores.labels, i, strict=True))
            score = finish(cast_expr(x(*i), wide(dtype_of(scores.value))), place, *more)
            return rounded_to(cast_expr(score, kind), precision)

        top = largest_of(rows, value)

        def power(*i: Any) -> tirx.Expr:
            largest = top(*i)
            return tirx.exp(value(*i) - (tirx.Select(largest == lowest, zero, largest) if masks else largest))

        total = rows.reduce("sum", power, "total")

        def result(*i: Any) -> tirx.Expr:
            below = total(*rows.row(i))
            if masks:
                below = tirx.Select(below == zero, tirx.const(1.0, kind), below)
            share = power(*i) / below
            return cast_expr(rounded_to(share, precision) if bits_of(precision) < bits_of(dtype) else share, dtype)

        return te.compute(sizes, result, name="softmax", attrs=rows.attributes)

    return _Operand(context.te(compute, scores.value, *extras, name="attention_softmax"), scores.labels)


# Attention -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Heads:
    """Heads of the keys, and how many heads of the queries share each."""

    keys: int
    group: int

    @property
    def labels(self) -> str:
        return "h" if self.group == 1 else "hg"

    @property
    def sizes(self) -> list[int]:
        return [self.keys] if self.group == 1 else [self.keys, self.group]

    def query_head(self, place: dict[str, Any]) -> Any:
        return place["h"] if self.group == 1 else place["h"] * self.group + place["g"]


def _heads(context: NodeContext, queries: Any, keys: Any) -> _Heads:
    if not isinstance(queries, int) or not isinstance(keys, int):
        context.unsupported("the number of heads must be known (q_num_heads and kv_num_heads, or the inputs' shapes)")
    if min(queries, keys) < 1 or queries % keys:
        context.unsupported(f"{queries} query heads cannot share {keys} key heads evenly")
    return _Heads(keys, queries // keys)


def _head_size(context: NodeContext, hidden: Dimension, heads: int) -> int:
    if not isinstance(hidden, int) or hidden % heads:
        context.unsupported(f"the last axis ({hidden}) is not known to be a multiple of {heads} heads")
    return hidden // heads


def _reshape(context: NodeContext, value: relax.Expr, shape: Sequence[Dimension]) -> relax.Expr:
    """A view. The value itself where it has the shape."""
    from tvm import relax

    if list(shape_of(value)) == list(shape):
        return value
    return context.emit(relax.op.reshape(value, list(shape)))


def _query(context: NodeContext, value: relax.Expr, heads: _Heads) -> _Operand:
    """Queries with their heads split into groups."""
    shape = shape_of(value)
    if len(shape) == 4:
        view = _reshape(context, value, [shape[0], *heads.sizes, *shape[2:]])
        return _Operand(view, f"b{heads.labels}qd")
    size = _head_size(context, shape[2], heads.keys * heads.group)
    return _Operand(_reshape(context, value, [*shape[:2], *heads.sizes, size]), f"bq{heads.labels}d")


def _key_or_value(context: NodeContext, value: relax.Expr, heads: _Heads, element: str) -> _Operand:
    """Keys (`element` "d") or values ("e")."""
    shape = shape_of(value)
    if len(shape) == 4:
        return _Operand(value, f"bhk{element}")
    size = _head_size(context, shape[2], heads.keys)
    return _Operand(_reshape(context, value, [*shape[:2], heads.keys, size]), f"bkh{element}")


def _present(context: NodeContext, past: relax.Expr | None, new: _Operand) -> _Operand:
    """The past with the new keys or values behind it, (batch, heads, sequence, size): one kernel."""
    from tvm import te, tirx

    from plugin_autogen.lowering.te_loops import wide as wide_shape

    element = new.labels[-1]
    labels = f"bhk{element}"
    sizes = dict(zip(new.labels, shape_of(new.value), strict=True))
    before = shape_of(past)[2] if past is not None else 0
    shape = [sizes["b"], sizes["h"], before + sizes["k"], sizes[element]]

    def compute(added: te.Tensor, *held: te.Tensor) -> te.Tensor:
        def entry(*position: Any) -> tirx.Expr:
            place = dict(zip(labels, position, strict=True))
            own = added(*[place[label] - before if label == "k" else place[label] for label in new.labels])
            if not held:
                return own
            return tirx.if_then_else(place["k"] < before, held[0](*position), own)

        return te.compute(wide_shape(shape), entry, name="present")

    if past is None and new.labels == labels:
        return new
    return _Operand(context.te(compute, new.value, *([] if past is None else [past]), name="present"), labels)


def _scale(context: NodeContext, size: Dimension, dtype: str, computed: str = "float64") -> float:
    """The factor of the scores: queries and keys are each multiplied by its square root, `computed`, in their type."""
    import ml_dtypes
    import numpy as np

    if not isinstance(size, int):
        context.unsupported("the size of the heads must be known")
    scale = context.attribute("scale")
    with np.errstate(invalid="ignore", divide="ignore"):
        root = np.sqrt(np.float64(1.0) / np.sqrt(np.float64(size)) if scale is None else np.float64(scale))
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    return float(root.astype(computed).astype(kind)) ** 2


def _precision(context: NodeContext, default: str) -> str:
    """The type of the softmax."""
    from plugin_autogen import dtypes

    code = context.attribute("softmax_precision")
    if code is None:
        return default
    precision = dtypes.from_onnx(int(code)).held_as
    if precision not in ("float16", "bfloat16", "float32", "float64"):
        context.unsupported(f"softmax_precision {int(code)} is no floating-point type of at least 16 bits")
    return precision


def _bias(context: NodeContext, queries: Dimension) -> _Bias:
    """The mask, lengths and windows of an Attention node."""
    past = context.input(4) if context.has_input(4) else None
    lengths = context.input(6) if context.has_input(6) else None
    if past is not None and lengths is not None:
        context.unsupported("nonpad_kv_seqlen and past_key exclude each other")
    mask = context.input(3) if context.has_input(3) else None
    if mask is not None and len(shape_of(mask)) > 4:
        context.unsupported(f"a mask of rank {len(shape_of(mask))}")
    left, right = (int(context.attribute(f"{side}_window_size", -1)) for side in ("left", "right"))
    if min(left, right) < -1:
        context.unsupported(f"a window of {min(left, right)} keys")
    causal = bool(context.attribute("is_causal", 0))
    return _Bias(
        mask=mask,
        pads=context.opset >= 24,
        lengths=lengths,
        offset=shape_of(past)[2] if past is not None else 0,
        queries=queries,
        before=left if left >= 0 else None,
        after=0 if causal else right if right >= 0 else None,
    )


@converter("Attention", since=23)
def attention(context: NodeContext) -> list[relax.Expr | None]:
    """Attention-23, 24 (valid lengths, masks shorter than the keys), 25 (windows)."""
    query, key, value = (context.input(i) for i in range(3))
    rank, dtype = len(shape_of(query)), dtype_of(query)
    if {len(shape_of(key)), len(shape_of(value)), rank} not in ({3}, {4}):
        context.unsupported("query, key and value must all have rank 3, or all rank 4")
    if context.has_input(4) != context.has_input(5):
        context.unsupported("past_key and past_value go together")
    if rank == 3:
        heads = _heads(context, context.attribute("q_num_heads"), context.attribute("kv_num_heads"))
    else:
        heads = _heads(context, shape_of(query)[1], shape_of(key)[1])
    queries = _query(context, query, heads)
    presents = [_key_or_value(context, x, heads, element) for x, element in ((key, "d"), (value, "e"))]
    for i in range(2):
        if context.has_input(4 + i) or context.has_output(1 + i):
            presents[i] = _present(context, context.input(4 + i) if context.has_input(4 + i) else None, presents[i])
    sequence = shape_of(queries.value)[queries.labels.index("q")]
    scale = _scale(context, shape_of(queries.value)[-1], dtype)
    softcap = float(context.attribute("softcap", 0.0))
    bias = _bias(context, sequence)
    exposed = int(context.attribute("qk_matmul_output_mode", 0)) if context.has_output(3) else _BIASED
    if not _RAW <= exposed <= _SOFTMAX:
        context.unsupported(f"qk_matmul_output_mode {exposed}")
    stored = min(exposed, _BIASED)

    def stages(first: int, last: int) -> tuple[Callable[..., tirx.Expr], list[relax.Expr]]:
        """From what `first` names to what `last` names, and the tensors that are read."""

        def finish(score: tirx.Expr, place: dict[str, Any], *tensors: te.Tensor) -> tirx.Expr:
            kind = str(score.ty.dtype)
            if first < _CAPPED <= last and softcap > 0:
                cap = const_expr(softcap, kind)
                score = c_math_expr("tanh", score / cap) * cap
            if first < _BIASED <= last:
                score = bias.apply(score, place["b"], heads.query_head(place), place["q"], place["k"], *tensors)
            return score

        return finish, bias.tensors if first < _BIASED <= last else []

    capped, read = stages(_RAW, stored)
    scores = _product(
        context,
        queries,
        presents[0],
        f"b{heads.labels}qk",
        dtype,
        lambda score, *more: capped(score * const_expr(scale, str(score.ty.dtype)), *more),
        read,
        "attention_scores",
    )
    missing, read = stages(stored, _BIASED)
    weights = _softmax(context, scores, _precision(context, dtype), dtype, missing, read)
    results: list[relax.Expr | None] = [_output(context, weights, presents[1], heads, rank, dtype)]
    results += [p.value if context.has_output(1 + i) else None for i, p in enumerate(presents)]
    if context.has_output(3):
        shown = weights.value if exposed == _SOFTMAX else scores.value
        sizes = shape_of(shown)
        results.append(_reshape(context, shown, [sizes[0], heads.keys * heads.group, *sizes[-2:]]))
    return results


def _output(
    context: NodeContext, weights: _Operand, values: _Operand, heads: _Heads, rank: int, dtype: str
) -> relax.Expr:
    """The weighted sum of the values, in the layout of the queries."""
    labels = f"b{heads.labels}qe" if rank == 4 else f"bq{heads.labels}e"
    product = _product(context, weights, values, labels, dtype, name="attention_output")
    shape = dict(zip(labels, shape_of(product.value), strict=True))
    count = heads.keys * heads.group
    if rank == 4:
        return _reshape(context, product.value, [shape["b"], count, shape["q"], shape["e"]])
    return _reshape(context, product.value, [shape["b"], shape["q"], count * shape["e"]])


# FlexAttention -------------------------------------------------------------------------------------------------------


@converter("FlexAttention", domain="ai.onnx.preview", since=1)
def flex_attention(context: NodeContext) -> relax.Expr:
    """FlexAttention-1: as Attention, with graphs of the model that change the scores and the weights."""
    query, key, value = (context.input(i) for i in range(3))
    dtype = dtype_of(query)
    precision = _precision(context, wide(dtype))
    if any(len(shape_of(x)) != 4 for x in (query, key, value)):
        context.unsupported("query, key and value must have rank 4")
    heads = _heads(context, shape_of(query)[1], shape_of(key)[1])
    queries, keys = _query(context, query, heads), _key_or_value(context, key, heads, "d")
    scale = _scale(context, shape_of(query)[3], dtype, "float32")
    scores = _product(context, queries, keys, f"b{heads.labels}qk", precision, name="attention_scores")
    scaled = elementwise(context, lambda score: score * const_expr(scale, wide(precision)), scores.value, name="scale")
    # the graphs see all heads as one axis
    sizes = [*shape_of(query)[:3], shape_of(key)[2]]
    changed = _modified(context, "score_mod", _reshape(context, scaled, sizes))
    weights = _softmax(context, _Operand(changed, "bhqk"), precision, precision, lambda score, _: score, masks=False)
    grouped = _modified(context, "prob_mod", weights.value)
    grouped = _reshape(context, grouped, [sizes[0], *heads.sizes, *sizes[2:]])
    values = _key_or_value(context, value, heads, "e")
    return _output(context, _Operand(grouped, f"b{heads.labels}qk"), values, heads, 4, dtype)


def _modified(context: NodeContext, name: str, value: relax.Expr) -> relax.Expr:
    """What the graph of this attribute makes of the tensor; the tensor itself where the node has none."""
    graph = context.attribute(name)
    if graph is None:
        return value
    if len(graph.input) != 1 or len(graph.output) != 1:
        context.unsupported(f"{name} must have one input and one output")
    (result,) = context.inline(graph, [value])
    if dtype_of(result) != dtype_of(value) or list(shape_of(result)) != list(shape_of(value)):
        context.unsupported(
            f"{name} gives {dtype_of(result)}{list(shape_of(result))} for {dtype_of(value)}{list(shape_of(value))}"
        )
    return result


# RotaryEmbedding -----------------------------------------------------------------------------------------------------


@converter("RotaryEmbedding", since=23)
def rotary_embedding(context: NodeContext) -> relax.Expr:
    """RotaryEmbedding-23: pairs of elements turned by the angles of their position. One kernel, element by element."""
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    value = context.input(0)
    shape, dtype = shape_of(value), dtype_of(value)
    compute = wide(dtype)
    if len(shape) == 4:
        size, axis = shape[3], 2
    elif len(shape) == 3:
        size, axis = _head_size(context, shape[2], max(1, int(context.attribute("num_heads", 0)))), 1
    else:
        context.unsupported(f"an input of rank {len(shape)}")
    if not isinstance(size, int):
        context.unsupported("the size of the heads must be known")
    turned = int(context.attribute("rotary_embedding_dim", 0)) or size
    if turned % 2 or not 0 < turned <= size:
        context.unsupported(f"rotary_embedding_dim {turned} is not even, or larger than the head size {size}")
    half, interleaved = turned // 2, bool(context.attribute("interleaved", 0))
    has_ids = context.has_input(3)
    if len(context.shape(1)) != (2 if has_ids else 3):
        context.unsupported("the caches must have rank 2 with position_ids, else rank 3")

    def element(i: list[Any], x: te.Tensor, cosines: te.Tensor, sines: te.Tensor, *ids: te.Tensor) -> tirx.Expr:
        inner = i[-1] if len(shape) == 4 else tirx.floormod(i[-1], size)
        if interleaved:
            angle, is_second = tirx.floordiv(inner, 2), tirx.floormod(inner, 2) == 1
            step = tirx.const(1, "int64")
        else:
            angle, is_second = tirx.floormod(inner, half), inner >= half
            step = tirx.const(half, "int64")

        def turn(cache: te.Tensor) -> tirx.Expr:
            if has_ids:
                row = tl.clamp_index(at(ids[0], [i[0], i[axis]]), cache.shape[0], "int64")
                return cast_expr(cache(row, angle), compute)
            return cast_expr(at(cache, [i[0], i[axis], angle]), compute)

        def turned_element() -> tirx.Expr:
            other = cast_expr(x(*i[:-1], i[-1] + tirx.Select(is_second, -step, step)), compute)
            rest = turn(sines) * other
            return cast_expr(turn(cosines) * cast_expr(x(*i), compute) + tirx.Select(is_second, rest, -rest), dtype)

        if turned == size:
            return turned_element()
        return tirx.if_then_else(inner < turned, turned_element(), x(*i))

    inputs = [value, context.input(1), context.input(2), *([context.input(3)] if has_ids else [])]
    return tl.gather(context, shape, element, *inputs)


# LinearAttention -----------------------------------------------------------------------------------------------------

_LONGEST_STATE = 512
"""Elements of a state's column that a thread keeps."""


@converter("LinearAttention", since=27)
def linear_attention(context: NodeContext) -> list[relax.Expr]:
    """LinearAttention-27. One kernel: a thread for each column of a state, which no other column influences."""
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    rule = str(context.attribute("update_rule", "gated_delta"))
    if rule not in ("linear", "gated", "delta", "gated_delta"):
        context.unsupported("update_rule is none of linear, gated, delta and gated_delta")
    gated, corrected = rule.startswith("gated"), rule.endswith("delta")
    if context.has_input(4) != gated or context.has_input(5) != corrected:
        context.unsupported(f"update_rule {rule} {'needs' if gated else 'forbids'} decay and "
                            f"{'needs' if corrected else 'forbids'} beta")  # fmt: skip
    heads = _heads(context, context.attribute("q_num_heads"), context.attribute("kv_num_heads"))
    query, value = context.shape(0), context.shape(2)
    size = _head_size(context, query[2], heads.keys * heads.group)
    width = _head_size(context, value[2], heads.keys)
    if size > _LONGEST_STATE:
        context.unsupported(f"heads of {size} elements, a thread keeps at most {_LONGEST_STATE}")
    scale = float(context.attribute("scale", 0.0)) or size**-0.5
    batch, steps, count = query[0], query[1], heads.keys * heads.group
    state_type = dtype_of(context.input(3)) if context.has_input(3) else context.dtype(0)
    outputs = [([batch, steps, count * width], context.dtype(0)), ([batch, heads.keys, size, width], state_type)]
    optional = {i: context.input(i) for i in (3, 4, 5) if context.has_input(i)}
    inputs = [context.input(0), context.input(1), context.input(2), *optional.values()]
    for i, counts in ((4, (heads.keys, heads.keys * size)), (5, (heads.keys, 1))):
        if i in optional and context.shape(i)[2] not in counts:
            context.unsupported(f"the last axis of input {i} has size {context.shape(i)[2]}, not one of {counts}")
    index = tl.index_type(*(shape_of(x) for x in inputs), *(shape for shape, _ in outputs))
    decays_by_head = gated and context.shape(4)[2] == heads.keys
    beta_by_head = corrected and context.shape(5)[2] == heads.keys

    def body(*buffers: Any) -> None:
        q, k, v = buffers[:3]
        given: dict[int, Any] = dict(zip(optional, buffers[3:-2], strict=True))
        past, decay, beta = given.get(3), given.get(4), given.get(5)
        result, present = buffers[-2:]

        def real(x: Any) -> tirx.Expr:
            return cast_expr(x, "float32")

        zero = tirx.const(0.0, "float32")
        with tl.grid(batch, heads.keys, width, dtype=index, threads=32) as (b, h, m):
            state, written, read = tl.local("float32", size), tl.local("float32"), tl.local("float32")
            with tl.serial(size, index) as d:
                state[d] = real(past[b, h, d, m]) if past is not None else zero
            with tl.serial(steps, index) as t:
                read[0] = zero
                if decay is not None or beta is not None:
                    with tl.serial(size, index) as d:
                        if decay is not None:
                            gate = decay[b, t, h] if decays_by_head else decay[b, t, h * size + d]
                            state[d] = state[d] * tirx.exp(real(gate))
                        if beta is not None:
                            read[0] = read[0] + state[d] * real(k[b, t, h * size + d])
                written[0] = real(v[b, t, h * width + m])
                if beta is not None:
                    written[0] = real(beta[b, t, h if beta_by_head else 0]) * (written[0] - read[0])
                with tl.serial(size, index) as d:
                    state[d] = state[d] + real(k[b, t, h * size + d]) * written[0]
                with tl.serial(heads.group, index) as g:
                    head = h * heads.group + g
                    read[0] = zero
                    with tl.serial(size, index) as d:
                        read[0] = read[0] + real(q[b, t, head * size + d]) * state[d]
                    result[b, t, head * width + m] = cast_expr(read[0] * tirx.const(scale, "float32"), context.dtype(0))
            with tl.serial(size, index) as d:
                present[b, h, d, m] = cast_expr(state[d], state_type)

    return tl.kernel(context, body, inputs, outputs)
