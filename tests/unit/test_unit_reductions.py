"""A reduction over one element keeps its meaning when its consumer is inlined."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize("order", ["consumer first", "sum first"])
def test_consumer_is_applied_once(order: str) -> None:
    import tvm
    from tvm import s_tir, te
    from tvm.s_tir.dlight.analysis import normalize_prim_func
    from tvm.s_tir.dlight.base import try_inline

    from plugin_autogen.schedule.unit_reductions import without_unit_reductions

    a, b = te.placeholder((4, 1), "float32", name="a"), te.placeholder((4,), "float32", name="b")
    k = te.reduce_axis((0, 1), name="k")
    total = te.compute((4,), lambda i: te.sum(a[i, k], axis=k), name="total")
    result = te.compute(
        (4,), lambda i: b[i] + total[i] if order == "consumer first" else total[i] + b[i], name="result"
    )
    schedule = s_tir.Schedule(without_unit_reductions(te.create_prim_func([a, b, result])))
    blocks = normalize_prim_func(schedule)
    assert blocks is not None
    try_inline(schedule, blocks)
    compiled = tvm.compile(schedule.mod["main"].with_attr("global_symbol", "main"), target="llvm")
    x, y = np.arange(4, dtype=np.float32)[:, None], np.full(4, 10, np.float32)
    output = tvm.runtime.empty((4,), "float32")
    compiled["main"](tvm.runtime.tensor(x), tvm.runtime.tensor(y), output)
    np.testing.assert_array_equal(output.numpy(), x[:, 0] + y)


def test_pairs_and_longer_reductions() -> None:
    from tvm import te, tirx

    from plugin_autogen.schedule.unit_reductions import without_unit_reductions

    a = te.placeholder((4, 1), "float32", name="a")
    k = te.reduce_axis((0, 1), name="k")
    reducer = te.comm_reducer(
        lambda x, y: (tirx.Select(x[1] >= y[1], x[0], y[0]), tirx.Select(x[1] >= y[1], x[1], y[1])),
        lambda i, v: (tirx.const(-1, i), tirx.min_value(v)),
        name="argmax",
    )
    index, value = te.compute((4,), lambda i: reducer((k.var, a[i, k]), axis=k), name="pair")
    text = str(without_unit_reductions(te.create_prim_func([a, index, value])))
    assert "T.init()" not in text

    long = te.placeholder((4, 5), "float32", name="long")
    j = te.reduce_axis((0, 5), name="j")
    untouched = te.create_prim_func([long, te.compute((4,), lambda i: te.sum(long[i, j], axis=j), name="total")])
    assert "T.init()" in str(without_unit_reductions(untouched))
