"""`python -m tests.fuzz`: draws cases of operators, compares, prints a table and the first failure of each.

Exit code 1 where something failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

import hypothesis
from hypothesis import HealthCheck, Phase

from plugin_autogen.errors import one_line, shorten
from tests.fuzz import families as _  # noqa: F401  (registers all operators)
from tests.fuzz.case import STRATEGIES, Case, NoReferenceError, check_case


@dataclass
class Tally:
    """What happened to one operator's cases."""

    passed: int = 0
    plugins: int = 0
    undecided: int = 0
    seconds: float = 0.0
    failure: str = ""
    case: str = ""
    why_undecided: str = ""


def run(operator: str, examples: int, seed: int, plugin_share: int, shrink: bool) -> Tally:
    """Draws `examples` cases of an operator, or as many as it takes to find one that fails."""
    tally = Tally()
    last: list[tuple[Case, BaseException]] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(STRATEGIES[operator])
    def test(case: Case) -> None:
        try:
            tally.plugins += check_case(case, plugin_share)
        except NoReferenceError as error:
            tally.undecided += 1
            tally.why_undecided = f"{error}; {case!r}"
            return
        except Exception as error:
            last.append((case, error))
            raise
        tally.passed += 1

    start = time.monotonic()
    try:
        test()
    except Exception as error:
        case, cause = last[-1] if last else (None, error)
        tally.failure = shorten(f"{type(cause).__name__}: {one_line(cause)}", 400)
        tally.case = repr(case)
    tally.seconds = time.monotonic() - start
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--operators", nargs="+", metavar="NAME", choices=sorted(STRATEGIES), default=list(STRATEGIES))
    parser.add_argument("--examples", type=int, default=50, help="cases of each operator (default: 50)")
    parser.add_argument("--seed", type=int, default=0)
    plugins = "one case of N also runs as the generated plugin on the emulated device; 0: none (default: 8)"
    parser.add_argument("--plugin_share", type=int, default=8, metavar="N", help=plugins)
    parser.add_argument("--shrink", action="store_true", help="look for the smallest case that fails")
    parser.add_argument("--undecided", action="store_true", help="print a case that no reference computes")
    options = parser.parse_args()
    failed = 0
    print(f"{'operator':32} {'passed':>6} {'plugin':>6} {'no ref.':>7} {'s':>6}")
    for operator in options.operators:
        tally = run(operator, options.examples, options.seed, options.plugin_share, options.shrink)
        print(f"{operator:32} {tally.passed:6} {tally.plugins:6} {tally.undecided:7} {tally.seconds:6.1f}", flush=True)
        if options.undecided and tally.why_undecided:
            print(f"    undecided: {tally.why_undecided[:1500]}")
        if tally.failure:
            failed += 1
            print(f"    FAILED {tally.failure}\n    {tally.case}", flush=True)
    print(f"{failed} of {len(options.operators)} operators failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
