"""MatMul, Gemm, Einsum and Det. Half-precision products are summed in float32."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from plugin_autogen.lowering.registry import Dimension, NodeContext, converter, dtype_of, shape_of


@converter("MatMul", since=1)
def _matmul(context: NodeContext) -> Any:
    from plugin_autogen.lowering.te_helpers import broadcast_shape

    a, b = context.input(0), context.input(1)
    rank_a, rank_b = len(shape_of(a)), len(shape_of(b))
    if min(rank_a, rank_b) == 0:
        context.unsupported("an operand of rank 0")
    batch = broadcast_shape([shape_of(a)[:-2], shape_of(b)[:-2]])
    names = [f"b{i}" for i in range(len(batch))]
    labels_a = names[len(names) - max(rank_a - 2, 0) :] + (["m"] if rank_a > 1 else []) + ["k"]
    labels_b = names[len(names) - max(rank_b - 2, 0) :] + ["k"] + (["n"] if rank_b > 1 else [])
    result = names + (["m"] if rank_a > 1 else []) + (["n"] if rank_b > 1 else [])
    return contract(context, [a, b], [labels_a, labels_b], result, broadcast=names)


@converter("Gemm", since=1)
def _gemm(context: NodeContext) -> Any:
    """One kernel: the transposes are the order in which the operands are read, scaling and bias come after the sum."""
    a, b = context.input(0), context.input(1)
    labels_a = ["k", "m"] if context.attribute("transA", 0) else ["m", "k"]
    labels_b = ["n", "k"] if context.attribute("transB", 0) else ["k", "n"]
    alpha, beta = float(context.attribute("alpha", 1.0)), float(context.attribute("beta", 1.0))
    bias = context.input(2) if context.has_input(2) else None
    return contract(context, [a, b], [labels_a, labels_b], ["m", "n"], alpha=alpha, bias=bias, beta=beta, broadcast=())


@converter("Einsum", since=12)
def _einsum(context: NodeContext) -> Any:
    """Operands are contracted in pairs, in the order that numpy finds cheapest: each pair is one kernel."""
    operands = list(context.inputs)
    if any(x is None for x in operands):
        context.unsupported("an operand is missing")
    shapes = [shape_of(x) for x in operands]
    terms, result = _labels(context, str(context.attribute("equation")), [len(s) for s in shapes])
    while len(operands) > 2:
        first, second = _next_pair(terms, shapes, result)
        later = {label for i, t in enumerate(terms) if i not in (first, second) for label in t} | set(result)
        kept = [label for label in dict.fromkeys(terms[first] + terms[second]) if label in later]
        pair = contract(context, [operands[first], operands[second]], [terms[first], terms[second]], kept)
        rest = [i for i in range(len(operands)) if i not in (first, second)]
        operands = [*(operands[i] for i in rest), pair]
        terms = [*(terms[i] for i in rest), kept]
        shapes = [*(shapes[i] for i in rest), shape_of(pair)]
    return contract(context, operands, terms, result)


def _labels(context: NodeContext, equation: str, ranks: Sequence[int]) -> tuple[list[list[str]], list[str]]:
    """The labels of each operand's axes and of the result's; an ellipsis becomes labels of its own."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks) or not re.fullmatch(r"[A-Za-z.,]*", left + right) or "," in right:
        context.unsupported("the equation does not fit the operands")
    labels = []
    widest = 0
    for term, rank in zip(terms, ranks, strict=True):
        before, dots, after = term.partition("...")
        hidden = rank - len(before) - len(after)
        if "." in before + after or hidden < 0 or (hidden and not dots):
            context.unsupported("the equation does not fit the operands' ranks")
        widest = max(widest, hidden)
        labels.append([*before, *(f".{i}" for i in range(hidden, 0, -1)), *after])
    ellipsis = [f".{i}" for i in range(widest, 0, -1)]
    if arrow:
        before, dots, after = right.partition("...")
        result = [*before, *(ellipsis if dots else []), *after]
    else:
        letters = [label for term in labels for label in term if not label.startswith(".")]
        result = ellipsis + sorted(label for label in set(letters) if letters.count(label) == 1)
    if len(set(result)) != len(result) or not set(result) <= {label for term in labels for label in term}:
        context.unsupported("the equation's result repeats a label, or has one that no operand has")
    return labels, result


def _next_pair(
    terms: Sequence[Sequence[str]], shapes: Sequence[Sequence[Dimension]], result: Sequence[str]
) -> tuple[int, int]:
    """The two operands to contract first."""
    import numpy as np

    if any(not isinstance(d, int) for shape in shapes for d in shape):
        return 0, 1
    symbols = {label: chr(ord("a") + i) for i, label in enumerate(dict.fromkeys(label for t in terms for label in t))}
    if len(symbols) > 26:
        return 0, 1
    equation = ",".join("".join(symbols[label] for label in t) for t in terms)
    equation += "->" + "".join(symbols[label] for label in result)
    arrays = [np.broadcast_to(np.float32(0), shape) for shape in shapes]
    path = np.einsum_path(equation, *arrays, optimize="greedy")[0]
    step = path[1]
    return (step[0], step[1]) if len(step) == 2 else (0, 1)


def contract(
    context: NodeContext,
    operands: Sequence[Any],
    labels: Sequence[Sequence[str]],
    result: Sequence[str],
    alpha: float = 1.0,
    bias: Any = None,
    beta: float = 1.0,
    broadcast: Collection[str] | None = None,
) -> Any:
    """The sum over all labels that the result lacks of the product of the operands: one kernel.

    Args:
        context: of the node.
        operands: Relax tensors of one element type.
        labels: for each operand a label an axis. A label twice in one operand takes the diagonal; axes of one label
            have the same size, or 1, which is broadcast.
        result: labels of the result's axes.
        alpha: factor of the sum.
        bias: a Relax tensor added to the result, broadcast to it.
        beta: factor of the bias.
        broadcast: labels whose sizes of 1 are broadcast; None: all.

    Returns:
        a tensor of the operands' type. Half precision is multiplied and summed in float32, integers wrap.
    """
    from tvm import te, tirx

    from plugin_autogen.lowering import te_loops as tl
    from plugin_autogen.lowering.te_helpers import at, broadcast_index, const_expr, dims

    dtype = dtype_of(operands[0])
    work = tl.accumulator(dtype)
    sizes = _sizes(context, operands, labels, broadcast)
    summed = [label for label in sizes if label not in result]
    shape = tl.wide([sizes[label] for label in result])

    def compute(*tensors: Any) -> Any:
        values, biases = tensors[: len(operands)], tensors[len(operands) :]
        axes = {
            label: te.reduce_axis((tirx.const(0, "int64"), tl.wide([sizes[label]])[0]), name=f"k{i}")
            for i, label in enumerate(summed)
        }

        def term(*position: Any) -> Any:
            place = dict(zip(result, position, strict=True)) | {label: axis.var for label, axis in axes.items()}
            product = None
            for value, own in zip(values, labels, strict=True):
                index = [
                    broadcast_index(place[k], d, sizes[k] if broadcast is None or k in broadcast else None)
                    for k, d in zip(own, dims(value), strict=True)
                ]
                factor = value(*index).astype(work)
                product = factor if product is None else product * factor
            if any(isinstance(sizes[label], int) and sizes[label] == 0 for label in summed):
                return tirx.const(0, work)  # a sum over nothing: TIR would not even write it
            return te.sum(product, axis=list(axes.values())) if axes else product

        total = te.compute(shape, term, name="contract")

        def scaled(*position: Any) -> Any:
            value = total(*position)
            if alpha != 1.0:
                value = value * const_expr(alpha, work) if "int" not in work else _scaled(value, alpha, work)
            for b in biases:
                addend = at(b, position, [sizes[label] for label in result]).astype(work)
                if beta != 1.0:
                    addend = addend * const_expr(beta, work) if "int" not in work else _scaled(addend, beta, work)
                value = value + addend
            return value.astype(dtype)

        if not biases and alpha == 1.0 and work == dtype:
            return total
        return te.compute(shape, scaled, name="scaled")

    return context.te(compute, *operands, *([] if bias is None or beta == 0.0 else [bias]))


def _scaled(value: Any, factor: float, dtype: str) -> Any:
    """An integer times a real factor: exact for a whole one, else by way of float64, truncated."""
    from tvm import tirx

    if factor == int(factor):
        return value * tirx.const(int(factor), dtype)
    return (value.astype("float64") * tirx.const(factor, "float64")).astype(dtype)


def _sizes(
    context: NodeContext,
    operands: Sequence[Any],
    labels: Sequence[Sequence[str]],
    broadcast: Collection[str] | None,
) -> Mapping[str, Dimension]:
    """The size of each label, in order of appearance; of several that shall be equal a known one, or the first."""
    from plugin_autogen.lowering.te_helpers import broadcast_size

    sizes: dict[str, Dimension] = {}
    for value, own in zip(operands, labels, strict=True):
        for label, size in zip(own, shape_of(value), strict=True):
            known = sizes.get(label, 1)
            if isinstance(size, int) and isinstance(known, int) and known != 1 and size not in (1, known):
                context.unsupported(f"axes of sizes {known} and {size} cannot be multiplied")
            if broadcast is None or label in broadcast:
                sizes[label] = broadcast_size(known, size)
            elif label not in sizes or isinstance(size, int):
                sizes[label] = size
    return sizes


@converter("Det", since=11)
def _det(context: NodeContext) -> Any:
    """One block for each matrix: elimination with partial pivoting, all rows below the pivot at once."""
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as tl

    shape, dtype = context.shape(0), context.dtype(0)
    work, n, batch = tl.accumulator(dtype), shape[-1], list(shape[:-2])
    if not isinstance(n, int):
        context.unsupported("the size of the matrices must be known")
    count = tl.product(batch)
    in_shared = n * n * 8 <= 32 * 1024
    index = tl.index_type(shape)

    def body(x: Any, result: Any) -> None:
        device = None if in_shared else tl.scratch([count, n, n], work)
        with tl.block(count, dtype=index, threads=min(256, max(32, n * n))) as (matrix,):
            own = tl.shared([n, n], work) if in_shared else None

            def at(i: Any, j: Any) -> Any:
                return (i, j) if own is not None else (matrix, i, j)

            rows = own if own is not None else device
            assert rows is not None
            determinant, pivot = tl.shared([1], work), tl.shared([1], "int32")
            factors = tl.shared([max(n, 1)], work)
            determinant[0] = tirx.const(1, work)
            with tl.thread(n, n) as (i, j):
                element = (*tl.unravel(matrix, batch), i, j)
                rows[at(i, j)] = x[element].astype(work)
            with tl.serial(n) as k:
                pivot[0] = k
                with tl.serial(n) as i:
                    larger = tirx.abs(rows[at(i, k)]) > tirx.abs(rows[at(pivot[0], k)])
                    with tl.when(tirx.all(i > k, larger)):
                        pivot[0] = i
                determinant[0] = determinant[0] * rows[at(pivot[0], k)]
                with tl.when(pivot[0] != k):
                    determinant[0] = tirx.const(0, work) - determinant[0]
                with tl.thread(n) as (j,):
                    kept = tl.local(work)
                    kept[0] = rows[at(k, j)]
                    rows[at(k, j)] = rows[at(pivot[0], j)]
                    rows[at(pivot[0], j)] = kept[0]
                with tl.thread(n) as (i,):
                    zero = rows[at(k, k)] == tirx.const(0, work)
                    factors[i] = tirx.if_then_else(zero, tirx.const(0, work), rows[at(i, k)] / rows[at(k, k)])
                with tl.thread(n, n) as (i, j), tl.when(tirx.all(i > k, j > k)):
                    rows[at(i, j)] = rows[at(i, j)] - factors[i] * rows[at(k, j)]
            result[tuple(tl.unravel(matrix, batch))] = determinant[0].astype(dtype)

    return tl.kernel(context, body, [context.input(0)], [(batch, dtype)])
