"""Where indices have 32 bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from plugin_autogen.schedule.narrow import narrowed


def _sampled(size: int, clamped: bool, guarded: bool) -> Any:
    """y[i] = x[the integer that f[i] is], with int64 indices, perhaps only where that integer is inside."""
    from tvm import te, tirx

    x, f = te.placeholder((size,), "float32", name="x"), te.placeholder((37,), "float32", name="f")

    def element(i: Any) -> Any:
        position = tirx.max(tirx.min(f[i], 1000.0), -4.0) if clamped else f[i]
        at = tirx.floor(position).astype("int64")
        if not guarded:
            return x[at]
        return tirx.if_then_else(tirx.all(at >= 0, at < size), x[at], tirx.const(0.0, "float32"))

    return te.create_prim_func([x, f, te.compute((tirx.const(37, "int64"),), element, name="y")])


def _with_int64_data(size: int) -> Any:
    from tvm import te, tirx

    x = te.placeholder((tirx.const(size, "int64"),), "int64", name="x")
    return te.create_prim_func([x, te.compute(x.shape, lambda i: x[i] + i, name="y")])


@pytest.mark.parametrize(
    ("function", "fits"),
    [
        (lambda: _sampled(64, clamped=True, guarded=True), True),
        (lambda: _sampled(64, clamped=False, guarded=False), True),  # an access never leaves its tensor
        (lambda: _sampled(64, clamped=False, guarded=True), False),  # the comparison needs all 64 bits
        (lambda: _sampled(1 << 32, clamped=True, guarded=True), False),
        (lambda: _with_int64_data(64), False),
    ],
    ids=["clamped", "bounded by the tensor", "compared", "large tensor", "int64 data"],
)
def test_indices_have_32_bits_where_nothing_can_exceed_them(function: Callable[[], Any], fits: bool) -> None:
    made = narrowed(function(), {})
    assert (made is not None) == fits
    if made is not None:
        assert "int64" not in made.script()
