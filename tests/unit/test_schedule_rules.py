"""Each schedule rule, forced upon functions of many shapes, either does not apply or computes what numpy computes.

What a schedule does wrong LLVM never sees, for it runs the unscheduled functions. Here the kernels themselves run, as
plugins on the emulated device, which checks each access for its bounds and for races.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import pytest

from plugin_autogen import dtypes
from plugin_autogen.codegen.plan import KernelPlan, PluginPlan, launches
from plugin_autogen.codegen.plan_builder import build_plan
from plugin_autogen.graph.subgraph import BorderTensor, Subgraph
from plugin_autogen.lowering.importer import RelaxModule
from plugin_autogen.lowering.legalize import legalize, to_calls
from plugin_autogen.releases import release
from plugin_autogen.schedule.lower import LoweredFunction, NotSchedulable, _check_limits, lower
from plugin_autogen.schedule.rules import Rule, default_rules
from plugin_autogen.schedule.rules.elementwise import Elementwise
from plugin_autogen.schedule.rules.matmul import TILES, Matmul
from plugin_autogen.schedule.rules.reduction import Reduction
from plugin_autogen.schedule.rules.short_rows import ShortRows
from plugin_autogen.schedule.rules.thread_per_row import rows_attribute
from plugin_autogen.schedule.rules.transpose import Transpose
from plugin_autogen.schedule.target import cuda_target
from plugin_autogen.schedule.unit_reductions import without_unit_reductions
from plugin_autogen.verify.compare import difference
from tests.cpu_cuda.runner import CpuLibrary, Sanitizer, output_specs

Array = np.ndarray[Any, Any]
PER_OUTPUT = {"plugin_autogen.schedule": "thread_per_output"}


@dataclass(frozen=True)
class Case:
    """A computation over tensors, and what numpy says it gives.

    Attributes:
        inputs: (element type, shape) of each.
        compute: TE tensors → TE tensor.
        expected: arrays → array.
        rules: the rules that must apply to it.
        alone: whether other rules need not be tried: they have cases enough like it.
    """

    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    compute: Callable[..., Any]
    expected: Callable[..., Array]
    rules: tuple[str, ...] = ()
    alone: bool = False


def _values(dtype: str, shape: tuple[int, ...], seed: int) -> Array:
    rng = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return np.asarray(rng.standard_normal(shape)).astype(dtype)
    return np.asarray(rng.integers(-9 if dtype.startswith("int") else 0, 9, shape)).astype(dtype)


# element-wise -----------------------------------------------------------------------------------------------------


def _map(shape: tuple[int, ...], dtype: str = "float32", **more: Any) -> Case:
    def compute(x: Any) -> Any:
        from tvm import te

        twice = te.compute(x.shape, lambda *i: x(*i) + x(*i), name="twice")
        return te.compute(x.shape, lambda *i: twice(*i) * x(*i), name="result")

    return Case(((dtype, shape),), compute, lambda x: (x + x) * x, **more)


def _chain(shape: tuple[int, ...], length: int, **more: Any) -> Case:
    """Steps that each read the one before twice; the first is a row for all."""

    def compute(x: Any) -> Any:
        from tvm import te

        row = x.shape[-1:]
        v = te.compute(row, lambda *i: x(*(0,) * (len(x.shape) - len(i)), *i) + 1.0, name="start")

        def step(before: Any, shape: Any) -> Any:
            def value(*i: Any) -> Any:
                read = before(*i[len(i) - len(before.shape) :])
                return read * 0.75 - te.min(read, 1.0) * 0.5

            return te.compute(shape, value, name="step")

        for number in range(length):
            v = step(v, x.shape if number > 1 else row)
        return te.compute(x.shape, lambda *i: v(*i) + x(*i), name="result")

    def expected(x: Array) -> Array:
        v = x[(0,) * (x.ndim - 1)] + np.float32(1)
        for _ in range(length):
            v = v * np.float32(0.75) - np.minimum(v, np.float32(1)) * np.float32(0.5)
        return v + x

    return Case((("float32", shape),), compute, expected, **more)


def _transpose(shape: tuple[int, int, int], **more: Any) -> Case:
    def compute(x: Any) -> Any:
        from tvm import te

        return te.compute((x.shape[2], x.shape[0], x.shape[1]), lambda a, b, c: x[b, c, a] + 1.0, name="result")

    return Case((("float32", shape),), compute, lambda x: x.transpose(2, 0, 1) + np.float32(1), **more)


# reductions -------------------------------------------------------------------------------------------------------

_COMBINED: dict[str, Callable[..., Any]] = {"sum": np.sum, "max": np.max, "min": np.min}


def _reduce(
    shape: tuple[int, ...],
    axes: Sequence[int],
    dtype: str = "float32",
    combine: str = "sum",
    behind: bool = False,
    attributes: dict[str, str] | None = None,
    **more: Any,
) -> Case:
    """A reduction; `behind`: with an element-wise block that is no plain copy after it."""
    kept = [a for a in range(len(shape)) if a not in axes]
    wide = "float32" if dtype == "float16" else "int32" if dtype == "int8" else dtype

    def compute(x: Any) -> Any:
        from tvm import te

        variables = {a: te.reduce_axis((0, shape[a]), f"r{a}") for a in axes}

        def element(*i: Any) -> Any:
            place = dict(zip(kept, i, strict=True)) | variables
            return getattr(te, combine)(
                x(*(place[a] for a in range(len(shape)))).astype(wide), axis=[*variables.values()]
            )

        reduced = te.compute([shape[a] for a in kept], element, name="reduced", attrs=attributes)
        if not behind:
            return reduced
        return te.compute(reduced.shape, lambda *i: reduced(*i) * reduced(*i) + 3, name="result", attrs=attributes)

    def expected(x: Array) -> Array:
        reduced = np.asarray(_COMBINED[combine](x.astype(wide), axis=tuple(axes)))
        reduced = reduced.astype(wide)
        return np.asarray(reduced * reduced + np.asarray(3, wide)).astype(wide) if behind else reduced

    return Case(((dtype, shape),), compute, expected, **more)


def _softmax(shape: tuple[int, int], axis: int, per_row: bool = False, **more: Any) -> Case:
    def compute(x: Any) -> Any:
        from tvm import te, tirx

        def at(row: Any, element: Any) -> Any:
            return x[row, element] if axis == 1 else x[element, row]

        rows, count = x.shape[1 - axis], x.shape[axis]
        k, m = te.reduce_axis((0, count), "k"), te.reduce_axis((0, count), "m")
        largest = te.compute((rows,), lambda row: te.max(at(row, m), axis=m), name="largest")
        total = te.compute((rows,), lambda row: te.sum(tirx.exp(at(row, k) - largest[row]), axis=k), name="total")
        return te.compute(
            x.shape,
            lambda i, j: tirx.exp(x[i, j] - largest[(i, j)[1 - axis]]) / total[(i, j)[1 - axis]],
            name="result",
            attrs=rows_attribute([1 - axis]) if per_row else None,
        )

    def expected(x: Array) -> Array:
        e = np.exp(x - x.max(axis, keepdims=True))
        return np.asarray(e / e.sum(axis, keepdims=True))

    return Case((("float32", shape),), compute, expected, **more)


def _softmax_rank_3(shape: tuple[int, int, int], **more: Any) -> Case:
    def compute(x: Any) -> Any:
        from tvm import te, tirx

        k, m = te.reduce_axis((0, x.shape[2]), "k"), te.reduce_axis((0, x.shape[2]), "m")
        largest = te.compute(x.shape[:2], lambda a, b: te.max(x[a, b, m], axis=m), name="largest")
        total = te.compute(x.shape[:2], lambda a, b: te.sum(tirx.exp(x[a, b, k] - largest[a, b]), axis=k), name="total")
        return te.compute(x.shape, lambda a, b, c: tirx.exp(x[a, b, c] - largest[a, b]) / total[a, b], name="result")

    def expected(x: Array) -> Array:
        e = np.exp(x - x.max(2, keepdims=True))
        return np.asarray(e / e.sum(2, keepdims=True))

    return Case((("float32", shape),), compute, expected, **more)


# contractions -----------------------------------------------------------------------------------------------------


def _matmul(
    m: int,
    n: int,
    k: int,
    dtype: str = "float32",
    wide: str = "float32",
    behind: str = "",
    batch: int = 0,
    across: bool = False,
    **more: Any,
) -> Case:
    """a @ b.T with sums in `wide`; `behind`: "bias", "transposed", "merged" axes, "part" of the product.

    `across`: a.T @ b, both operands the other way round in memory.
    """

    def compute(a: Any, b: Any) -> Any:
        from tvm import te, tirx

        r = te.reduce_axis((0, k), "r")
        lead = (batch,) if batch else ()

        def dot(*i: Any) -> Any:
            left, right = ((r, i[-2]), (r, i[-1])) if across else ((i[-2], r), (i[-1], r))
            return te.sum(a(*i[:-2], *left).astype(wide) * b(*i[:-2], *right).astype(wide), axis=r)

        product = te.compute((*lead, m, n), dot, name="product")
        if behind == "bias":
            zero = tirx.const(0, wide)
            return te.compute(
                product.shape,
                lambda *i: tirx.max(product(*i) + b(*i[:-2], i[-1], 0).astype(wide), zero),
                name="result",
            )
        if behind == "transposed":
            return te.compute((*lead, n, m), lambda *i: product(*i[:-2], i[-1], i[-2]), name="result")
        if behind == "merged":  # as a grouped convolution has it: (batch, m, n) as (batch * m, n)
            return te.compute(
                (batch * m, n), lambda i, j: product(i // m, i % m, j) + tirx.const(1, wide), name="result"
            )
        if behind == "merged_columns":  # the inner axis of the tile is cut off by a division
            return te.compute(
                (batch, m * n), lambda i, j: product(i, j // n, j % n) + tirx.const(1, wide), name="result"
            )
        if behind == "part":
            return te.compute((*lead, m - 1, n), lambda *i: product(*i[:-2], i[-2] + 1, i[-1]), name="result")
        if behind == "window":
            return te.compute(
                (*lead, m - 1, n), lambda *i: product(*i) + product(*i[:-2], i[-2] + 1, i[-1]), name="result"
            )
        return product

    def expected(a: Array, b: Array) -> Array:
        x, y = a.astype(wide), b.astype(wide)
        product = np.einsum("...km,...kn->...mn" if across else "...mk,...nk->...mn", x, y).astype(wide)
        if behind == "bias":
            return np.maximum(product + y[..., None, :, 0], 0).astype(wide)
        if behind == "transposed":
            return np.swapaxes(product, -1, -2)
        if behind == "merged":
            return np.asarray(product.reshape(batch * m, n) + np.asarray(1, wide))
        if behind == "merged_columns":
            return np.asarray(product.reshape(batch, m * n) + np.asarray(1, wide))
        if behind == "part":
            return product[..., 1:, :]
        if behind == "window":
            return np.asarray(product[..., :-1, :] + product[..., 1:, :])
        return product

    lead = (batch,) if batch else ()
    shapes = ((k, m), (k, n)) if across else ((m, k), (n, k))
    return Case(tuple((dtype, (*lead, *shape)) for shape in shapes), compute, expected, **more)


def _other_products(kind: str) -> Case:
    """Functions with a product's accesses whose padding with zeros would count."""

    def compute(a: Any, b: Any) -> Any:
        from tvm import te, tirx

        r = te.reduce_axis((0, 17), "r")
        element = {
            "max_plus": lambda i, j: te.max(a[i, r] + b[j, r], axis=r),
            "distance": lambda i, j: te.sum(tirx.exp(a[i, r] - b[j, r]), axis=r),
            "shifted": lambda i, j: te.sum((a[i, r] - 3.0) * (b[j, r] - 2.0), axis=r),
        }[kind]
        return te.compute((33, 35), element, name="product")

    def expected(a: Array, b: Array) -> Array:
        x, y = a[:, None], b[None]
        if kind == "max_plus":
            return np.asarray((x + y - 100).max(-1) + 100)
        if kind == "distance":
            return np.asarray(np.exp(x - y).sum(-1))
        return np.asarray(((x - 3) * (y - 2)).sum(-1))

    return Case((("float32", (33, 17)), ("float32", (35, 17))), compute, expected)


def _negative_max_plus() -> Case:
    """The largest of sums that are all negative: a 0 of the padding would win."""

    def compute(a: Any, b: Any) -> Any:
        from tvm import te

        r = te.reduce_axis((0, 17), "r")
        return te.compute((33, 35), lambda i, j: te.max(a[i, r] - 50.0 + b[j, r], axis=r), name="product")

    return Case(
        (("float32", (33, 17)), ("float32", (35, 17))),
        compute,
        lambda a, b: np.asarray((a[:, None] - np.float32(50) + b[None]).max(-1)),
    )


def _vector(rows: int, k: int, dtype: str = "float32", behind: bool = False, **more: Any) -> Case:
    def compute(a: Any, b: Any) -> Any:
        from tvm import te, tirx

        r = te.reduce_axis((0, k), "r")
        total = te.compute(
            (rows,), lambda i: te.sum(a[i, r].astype("float32") * b[r].astype("float32"), axis=r), name="total"
        )
        return te.compute((rows,), lambda i: tirx.exp(total[i] * 0.1), name="result") if behind else total

    def expected(a: Array, b: Array) -> Array:
        total = (a.astype("float32") @ b.astype("float32")).astype("float32")
        return np.exp(total * np.float32(0.1)) if behind else total

    return Case(((dtype, (rows, k)), (dtype, (k,))), compute, expected, **more)


def _window(channels: int, size: int, width: int, **more: Any) -> Case:
    """A sum over overlapping windows, then a function of it, by one thread an output."""

    def compute(x: Any, w: Any) -> Any:
        from tvm import te, tirx

        r = te.reduce_axis((0, width), "r")
        total = te.compute(
            (channels, size), lambda c, i: te.sum(x[c, i + r] * w[c, r], axis=r), name="total", attrs=PER_OUTPUT
        )
        return te.compute((channels, size), lambda c, i: tirx.exp(total[c, i] * 0.1), name="result")

    def expected(x: Array, w: Array) -> Array:
        windows = np.lib.stride_tricks.sliding_window_view(x, width, -1)
        return np.exp(np.einsum("cik,ck->ci", windows, w) * np.float32(0.1))

    return Case((("float32", (channels, size + width - 1)), ("float32", (channels, width))), compute, expected, **more)


MATMUL, TENSOR_CORES = ("matmul",), ("tensor_cores", "matmul")
GENERAL, PER_THREAD = ("dlight.GeneralReduction",), ("reduction", "dlight.Fallback")
CASES: dict[str, Case] = {
    "map_rank_0": _map((), rules=("dlight.Fallback",)),
    "map_1": _map((1,), rules=("dlight.Fallback",)),
    "map_prime": _map((1031,), rules=("dlight.Fallback",)),
    "map_long": _map((13000,), rules=("dlight.Fallback",)),
    "chain_of_registers": _chain((5, 77), 10, rules=("chain",)),
    "chain_rank_1": _chain((600,), 9, rules=("chain",)),
    "chain_short": _chain((5, 77), 3, rules=("dlight.Fallback",)),
    "map_rank_4": _map((3, 1, 5, 7), rules=("dlight.Fallback",)),
    "map_half": _map((37,), "float16", rules=("dlight.Fallback",)),
    "map_int8": _map((37,), "int8", rules=("dlight.Fallback",)),
    "map_int64": _map((37,), "int64", rules=("dlight.Fallback",)),
    "transpose_prime": _transpose((7, 31, 33), rules=("transpose", "dlight.Fallback")),
    "transpose_whole": _transpose((3, 64, 32), rules=("transpose",)),
    "map_whole": _map((24, 64), rules=("elementwise",)),
    "map_tail": _map((37, 36), rules=("elementwise",)),
    "map_tail_half": _map((37, 40), "float16", rules=("elementwise",)),
    "map_tail_int8": _map((21, 48), "int8", rules=("elementwise",)),
    "map_tail_int64": _map((37, 6), "int64", rules=("elementwise",)),
    "transpose_tail": _transpose((7, 12, 33), rules=("elementwise",)),
    "sum_all": _reduce((7, 11), (0, 1), behind=True, rules=("reduction",)),
    "sum_of_one": _reduce((1,), (0,), behind=True, rules=("dlight.Fallback",)),
    "sum_of_ones": _reduce((5, 1), (1,), behind=True, rules=("dlight.Fallback",)),
    "sum_inner_prime": _reduce((13, 331), (1,), rules=PER_THREAD),
    "sum_inner_behind": _reduce((13, 331), (1,), behind=True, rules=PER_THREAD),
    "sum_inner_short": _reduce((5003, 33), (1,), behind=True, rules=PER_THREAD),
    "sum_outer_prime": _reduce((67, 29), (0,), behind=True, rules=PER_THREAD),
    "sum_middle": _reduce((3, 37, 5), (1,), behind=True, rules=PER_THREAD),
    "sum_two_axes": _reduce((3, 5, 7, 11), (1, 3), behind=True, rules=PER_THREAD),
    "sum_all_in_parts": _reduce((96, 515), (0, 1), rules=("reduction in parts",)),
    "sum_outer_in_parts": _reduce((96, 4099), (0,), behind=True, rules=("reduction in parts",)),
    "max_outer_in_parts": _reduce((3, 64, 1400), (1,), combine="max", rules=("reduction in parts",)),
    "sum_half": _reduce((9, 515), (1,), "float16", behind=True, rules=PER_THREAD),
    "sum_int8": _reduce((9, 515), (1,), "int8", behind=True, rules=PER_THREAD),
    "max_int64": _reduce((9, 131), (1,), "int64", "max", rules=PER_THREAD),
    "min_one_row": _reduce((1, 1025), (1,), combine="min", behind=True, rules=PER_THREAD),
    "max_one_column": _reduce((257, 1), (0,), combine="max", behind=True, rules=PER_THREAD),
    "softmax": _softmax((7, 331), 1, rules=GENERAL),
    "softmax_one": _softmax((5, 1), 1),
    "softmax_short": _softmax((37, 64), 1, rules=("short_rows",)),
    "softmax_short_prime": _softmax((41, 67), 1, rules=("short_rows",)),
    "softmax_short_rank_3": _softmax_rank_3((3, 13, 33), rules=("short_rows",)),
    "softmax_shorter": _softmax((9, 5), 1, rules=("short_rows",)),
    "softmax_columns": _softmax((31, 130), 0),
    "softmax_rows_per_thread": _softmax((31, 131), 0, per_row=True, rules=("thread_per_row",)),
    "softmax_one_row_per_thread": _softmax((31, 1), 0, per_row=True, rules=("thread_per_row",)),
    "softmax_single_per_thread": _softmax((1, 257), 0, per_row=True, rules=("thread_per_row",)),
    "window": _window(3, 259, 5, rules=("thread_per_output",)),
    "window_of_one": _window(7, 19, 1, rules=("thread_per_output",)),
    "window_one_output": _window(1, 1, 3, rules=("thread_per_output",)),
    "vector": _vector(67, 131),
    "vector_behind": _vector(37, 1030, behind=True),
    "vector_half": _vector(16, 64, "float16", behind=True),
    "vector_one": _vector(1, 3, behind=True),
    "matmul_small": _matmul(4, 3, 5, rules=MATMUL),
    "matmul_prime": _matmul(37, 67, 19, rules=(*MATMUL, "matmul, large tile")),
    "matmul_one_deep": _matmul(33, 65, 1),
    "matmul_one_row": _matmul(1, 65, 17),
    "matmul_bias": _matmul(31, 61, 17, behind="bias"),
    "matmul_transposed": _matmul(31, 61, 17, behind="transposed", rules=MATMUL),
    "matmul_part": _matmul(34, 65, 17, behind="part"),
    "matmul_window": _matmul(34, 65, 17, behind="window"),
    "matmul_batch": _matmul(31, 33, 18, batch=3, rules=MATMUL),
    "matmul_batch_bias": _matmul(31, 33, 18, batch=3, behind="bias"),
    "matmul_merged": _matmul(16, 42, 36, batch=2, behind="merged", rules=MATMUL),
    "matmul_merged_columns": _matmul(17, 21, 36, batch=3, behind="merged_columns", rules=MATMUL),
    "matmul_merged_transposed": _matmul(17, 21, 36, batch=3, behind="transposed", rules=MATMUL),
    "matmul_int8": _matmul(33, 65, 35, "int8", "int32", rules=MATMUL),
    "matmul_int8_large": _matmul(66, 130, 70, "int8", "int32", rules=TENSOR_CORES),
    "matmul_int8_merged": _matmul(33, 65, 35, "int8", "int32", batch=3, behind="merged", rules=TENSOR_CORES),
    "matmul_half": _matmul(33, 65, 35, "float16", rules=TENSOR_CORES),
    "matmul_half_small": _matmul(31, 65, 35, "float16", rules=MATMUL),
    "matmul_half_whole": _matmul(128, 128, 64, "float16", rules=TENSOR_CORES),
    "matmul_half_prime": _matmul(67, 131, 71, "float16", rules=TENSOR_CORES),
    "matmul_half_transposed": _matmul(67, 131, 71, "float16", batch=2, behind="transposed", rules=TENSOR_CORES),
    "matmul_half_merged": _matmul(65, 66, 67, "float16", batch=2, behind="merged", rules=TENSOR_CORES),
    "matmul_half_columns": _matmul(33, 34, 67, "float16", batch=2, behind="merged_columns", rules=TENSOR_CORES),
    "matmul_across": _matmul(37, 67, 19, across=True, rules=MATMUL, alone=True),
    "matmul_across_whole": _matmul(
        64, 128, 32, batch=2, across=True, rules=(*MATMUL, "matmul, large tile"), alone=True
    ),
    "matmul_half_across": _matmul(67, 131, 71, "float16", across=True, rules=TENSOR_CORES, alone=True),
    "matmul_half_across_whole": _matmul(64, 128, 64, "float16", batch=2, across=True, rules=TENSOR_CORES, alone=True),
    "matmul_int8_across": _matmul(66, 130, 70, "int8", "int32", across=True, rules=TENSOR_CORES, alone=True),
    "matmul_int64": _matmul(17, 33, 35, "int64", "int64", rules=MATMUL),
    "product_distance": _other_products("distance"),
    "product_shifted": _other_products("shifted"),
    "product_max_plus": _negative_max_plus(),
}


def _relax_module(case: Case) -> RelaxModule:
    from tvm import relax

    builder = relax.BlockBuilder()
    parameters = [relax.Var(f"x{i}", relax.TensorType(s, d)) for i, (d, s) in enumerate(case.inputs)]
    with builder.function("main", parameters):
        with builder.dataflow():
            result = builder.emit_output(relax.Tuple([builder.emit_te(case.compute, *parameters)]))
        builder.emit_func_output(result)
    return RelaxModule(builder.get(), {})


@functools.cache
def _calls(name: str) -> Any:
    """The module of the case, before it is scheduled."""
    return to_calls(legalize(_relax_module(CASES[name]), cuda_target()), cuda_target())


def _functions(name: str) -> dict[str, Any]:
    from tvm import tirx

    return {
        variable.name_hint: function
        for variable, function in _calls(name).functions.items()
        if isinstance(function, tirx.PrimFunc)
    }


def _plan(name: str, rule: Rule) -> KernelPlan | None:
    """The case as this rule schedules it; None where the rule does not apply."""
    target, case, (_, output) = cuda_target(), CASES[name], _reference(name)
    functions: dict[str, LoweredFunction] = {}
    for function_name, function in _functions(name).items():
        try:
            scheduled = rule.apply(without_unit_reductions(function), target)
            if scheduled is None:
                return None
            functions[function_name] = lower(scheduled, function_name, rule.name, target, rule.keeps_host_loops)
        except NotSchedulable:
            return None
        except Exception:  # as in schedule.default: a rule that fails inside TVM is one that does not apply
            return None
    inputs = tuple(BorderTensor(f"x{i}", t := dtypes.from_name(d), s, t) for i, (d, s) in enumerate(case.inputs))
    dtype = dtypes.from_name(output.dtype.name)
    graph = onnx.helper.make_graph([], "case", [], [])
    subgraph = Subgraph(
        f"tpat_{name}",
        onnx.helper.make_model(graph),
        inputs,
        (BorderTensor("y", dtype, output.shape, dtype),),
        ("node",),
        ("Case",),
    )
    return build_plan(subgraph, _calls(name), functions, _relax_module(case), target)


@functools.cache
def _reference(name: str) -> tuple[list[Array], Array]:
    case = CASES[name]
    inputs = [_values(d, s, i) for i, (d, s) in enumerate(case.inputs)]
    return inputs, np.asarray(case.expected(*inputs))


RULES: dict[str, Rule] = {rule.name: rule for rule in default_rules() if rule.name not in ("mapped", "bound")}
RULES["short_rows"] = ShortRows(fewest_rows=1)
RULES["reduction in parts"] = Reduction(busy_threads=1 << 17)
RULES["transpose"] = Transpose(few_elements=1)
RULES["matmul, large tile"] = Matmul(TILES[:1])
RULES["elementwise"] = Elementwise(few_elements=1)  # small cases show the same as large ones


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_right_wherever_it_applies(rule: str, tmp_path: Path) -> None:
    plans: dict[str, PluginPlan] = {}
    for name, case in CASES.items():
        if case.alone and rule not in case.rules:
            continue
        plan = _plan(name, RULES[rule])
        assert plan is not None or rule not in case.rules, f"{rule} no longer applies to {name}"
        if plan is not None:
            plans[name] = PluginPlan(f"tpat_{name}", (plan,))
    assert plans, f"{rule} applies to nothing"
    wrong = {}
    library = CpuLibrary.from_plans("tpat_rules", list(plans.values()), release("rtx"), tmp_path, Sanitizer.CHECK)
    for name, plan in plans.items():
        inputs, expected = _reference(name)
        specs = output_specs(plan, inputs)
        try:
            result = library.run(plan.name, inputs, specs, fingerprint=plan.fingerprint)
        except Exception as error:  # every case's fault belongs into the message
            wrong[name] = str(error)
            continue
        message = difference(result.outputs[0], expected).message
        if message is not None:
            wrong[name] = message
    assert not wrong, "\n".join(f"{name}: {message}" for name, message in wrong.items())


def test_tile_of_products_does_not_take_what_padding_changes() -> None:
    for name in ("product_max_plus", "product_distance", "product_shifted"):
        for rule in ("matmul", "tensor_cores"):
            assert _plan(name, RULES[rule]) is None


def test_reduction_and_what_follows_share_a_kernel_only_where_no_other_block_reads_it() -> None:
    """A schedule with several kernels passes what is between them through the workspace, never through registers."""
    plan = _plan("sum_inner_behind", RULES["reduction"])
    assert plan is not None
    assert len(launches(plan.steps)) == 2


def test_dynamic_shared_memory_counts() -> None:
    from tvm import s_tir

    (function,) = _functions("map_long").values()
    schedule = s_tir.Schedule(function)
    first, block = schedule.get_child_blocks(schedule.get_sblock("root"))
    schedule.compute_inline(first)
    whole, _, thread = schedule.split(*schedule.get_loops(block), [1, None, 1000])
    schedule.bind(whole, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    staged = schedule.cache_read(block, 0, "shared.dyn")
    schedule.compute_at(staged, whole)
    schedule.bind(schedule.split(schedule.get_loops(staged)[-1], [None, 1000])[1], "threadIdx.x")
    with pytest.raises(NotSchedulable, match="52000 bytes of shared memory"):
        lower(schedule.mod["main"], "map", "by hand", cuda_target())


def test_local_memory_has_a_limit() -> None:
    with pytest.raises(NotSchedulable, match="local memory"):
        _check_limits(_local_kernel(200_000))
    _check_limits(_local_kernel(100_000))


def _local_kernel(elements: int) -> Any:
    """A kernel that keeps so many float32 in each thread."""
    from tvm import tirx

    buffer = tirx.decl_buffer((elements,), "float32", scope="local")
    zero = tirx.const(0, "int32")
    body = tirx.SeqStmt([tirx.AllocBuffer(buffer), tirx.BufferStore(buffer, tirx.const(0.0, "float32"), [zero])])
    return tirx.PrimFunc([], body)


@pytest.mark.parametrize("shape", [(16, 64, 132, 132), (8, 3, 7, 40000)])
def test_threads_of_large_tensors_keep_their_own_elements_only(shape: tuple[int, ...]) -> None:
    """Where an element comes from depends on a condition, so it passes through registers."""
    from tvm import te, tirx

    x = te.placeholder(shape, "float32", name="x")
    half = shape[-1] // 2
    y = te.compute(shape, lambda *i: tirx.Select(i[-1] < half, x(*i), x(*i[:-1], shape[-1] - 1 - i[-1])), name="y")
    function, target = te.create_prim_func([x, y]), cuda_target()
    scheduled = Elementwise().apply(function, target)
    assert scheduled is not None
    (kernel,) = lower(scheduled, "f", "elementwise", target).kernels.values()
    sizes = [int(n) for n in re.findall(r"alloc_local\(\((\d+),\)", kernel.script())]
    assert sizes and max(sizes) <= 8, kernel.script()


def test_tensor_cores_stay_away_from_gpus_without_them() -> None:
    name = next(name for name, case in CASES.items() if "tensor_cores" in case.rules)
    (function, *_) = _functions(name).values()
    rule = RULES["tensor_cores"]
    assert rule.apply(function, cuda_target()) is not None
    assert rule.apply(function, cuda_target(72)) is None


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "reduction in parts" in case.rules])
def test_long_reductions_of_few_outputs_take_a_kernel_more(name: str) -> None:
    whole, parts = _plan(name, Reduction(busy_threads=0)), _plan(name, RULES["reduction in parts"])
    assert whole is not None and parts is not None
    assert len(launches(parts.steps)) == len(launches(whole.steps)) + 1


@pytest.mark.parametrize(
    ("name", "access"), [("map_tail", "float4"), ("map_tail_half", "uint4"), ("map_tail_int8", "int2")]
)
def test_elementwise_functions_store_vectors(name: str, access: str) -> None:
    plan = _plan(name, RULES["elementwise"])
    assert plan is not None
    assert f"*({access}*)(result_ptr" in plan.source
