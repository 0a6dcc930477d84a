"""The plan's integer expressions."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from plugin_autogen import resources
from plugin_autogen.codegen import expr as ex
from plugin_autogen.codegen.expr import Binary, Const, Expr, Select, Symbol

CUDA = Path(__file__).parents[1] / "cpu_cuda" / "include"
N, M = Symbol("n"), Symbol("m")


@pytest.mark.parametrize(
    ("built", "folded"),
    [
        (ex.add(Const(2), Const(3)), Const(5)),
        (ex.add(N, ex.ZERO), N),
        (ex.add(ex.ZERO, N), N),
        (ex.mul(N, ex.ONE), N),
        (ex.mul(ex.ZERO, N), ex.ZERO),
        (ex.binary("//", N, ex.ONE), N),
        (ex.binary("//", Const(-7), Const(2)), Const(-4)),
        (ex.binary("%", Const(-7), Const(4)), Const(1)),
        (ex.maximum(N, N), N),
        (ex.select(Const(1), N, M), N),
        (ex.select(Const(0), N, M), M),
        (ex.product(()), ex.ONE),
        (ex.align(Const(257), 256), Const(512)),
        (ex.align(Const(256), 256), Const(256)),
        (ex.align(Const(0), 256), Const(0)),
    ],
)
def test_constants_fold(built: Expr, folded: Expr) -> None:
    assert built == folded


def test_a_division_by_a_constant_zero_is_left_to_run_time() -> None:
    assert ex.binary("//", Const(3), ex.ZERO) == Binary("//", Const(3), ex.ZERO)


EXPRESSIONS: list[Expr] = [
    ex.align(ex.mul(N, Const(12)), 256),
    Select(Binary("<", N, M), ex.add(N, Const(1)), Binary("-", M, N)),
    Binary("%", Binary("//", Binary("*", N, M), Const(7)), Const(5)),
    Binary("max", Binary("min", N, M), Const(3)),
    Binary("<<", Const(2), Binary("%", N, Const(5))),
    Binary("||", Binary("==", N, M), Binary("!=", N, Const(4))),
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_json_round_trip_keeps_the_expression(expression: Expr) -> None:
    assert ex.from_json(ex.to_json(expression)) == expression
    assert ex.symbols_of(expression) <= {"n", "m"}


def test_cpp_means_what_evaluate_computes(tmp_path: Path) -> None:
    """All expressions in one program, compiled with the helpers that plugins use."""
    values = [{"n": 0, "m": 9}, {"n": 4, "m": 4}, {"n": 1000, "m": 3}]
    prints = "\n".join(f'std::printf("%lld\\n", (long long)({ex.to_cpp(e)}));' for e in EXPRESSIONS)
    (tmp_path / "test.cpp").write_text(
        '#include <cstdint>\n#include <cstdio>\n#include "basics.h"\n'
        f"void all(int64_t n, int64_t m) {{ {prints} }}\n"
        "int main() { " + " ".join(f"all({v['n']}, {v['m']});" for v in values) + " }\n"
    )
    command = ["g++", "-std=c++14", f"-I{resources.templates()}", f"-I{CUDA}", "test.cpp", "-o", "test"]
    subprocess.run(command, cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "test"], capture_output=True, text=True, check=True).stdout.split()
    assert list(map(int, printed)) == [ex.evaluate(e, v) for v in values for e in EXPRESSIONS]


def test_evaluate_wants_every_symbol() -> None:
    with pytest.raises(KeyError):
        ex.evaluate(ex.add(N, M), {"n": 1})
