"""One drawn node: what it is, what it must compute, and how that is compared."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx.helper
import onnx.reference
from hypothesis import strategies as st

from plugin_autogen.errors import CheckError
from plugin_autogen.lowering.importer import import_subgraph
from plugin_autogen.verify.compare import TOLERANCE, difference
from plugin_autogen.verify.cpu import run_on_cpu
from tests.fuzz.draw import Draw
from tests.operators import harness

Array = np.ndarray
NARROW = ("float16", "bfloat16")


class NoReferenceError(Exception):
    """Neither ONNX Runtime nor ONNX's reference evaluator computes the node, so nothing can be said about it."""


@dataclass(frozen=True)
class Case:
    """A node with its inputs.

    Attributes:
        operator: with `attributes`, `opset` and `domain`, the node.
        inputs: values; None for an optional input that is left out.
        constants: positions of inputs that are initializers.
        outputs: how many, or for each whether it has a name.
        expected: computes the outputs from the inputs; by default ONNX Runtime, or where it lacks the operator ONNX's
            reference evaluator.
        widen: whether the expected values of narrow floats are computed in float32 and rounded once; no where the
            operator's meaning depends on the type.
        elementwise: whether each value has its own error bound; else a share of the largest value is allowed, as sums
            of many need it.
        exact: whether floats must have the expected bits; NaNs only have to be NaNs.
    """

    operator: str
    inputs: Sequence[Array | None]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constants: Sequence[int] = ()
    outputs: int | Sequence[bool] = 1
    opset: int = 21
    domain: str = ""
    expected: Callable[..., Any] | None = field(default=None, repr=False)
    widen: bool = True
    elementwise: bool = False
    exact: bool = False

    def __repr__(self) -> str:
        with np.printoptions(threshold=4000):
            given = ", ".join("None" if v is None else f"{_literal(v)}" for v in self.inputs)
        return (
            f"Case({self.operator!r}, attributes={dict(self.attributes)!r}, constants={list(self.constants)}, "
            f"outputs={self.outputs}, opset={self.opset}, domain={self.domain!r}, inputs=[{given}])"
        )


def _literal(value: Array) -> str:
    shaped = "" if value.ndim == 1 and value.size else f".reshape({value.shape})"
    numbers = value.astype(np.float64) if value.dtype.kind not in "iub" else value
    return f"np.array({numbers.reshape(-1).tolist()}, {value.dtype.name!r}){shaped}"


Family = Callable[[Draw, str], Case]
STRATEGIES: dict[str, st.SearchStrategy[Case]] = {}
"""Operator (with its domain, where that is not ONNX's) → what to draw."""


def fuzz(*operators: str) -> Callable[[Family], Family]:
    """Registers a function that draws one case of these operators."""

    def register(family: Family) -> Family:
        for operator in operators:
            assert operator not in STRATEGIES, operator
            STRATEGIES[operator] = st.composite(family)(operator)
        return family

    return register


def evaluator(case: Case) -> list[Array]:
    """What ONNX's reference evaluator computes, for nodes that ONNX Runtime takes but computes wrongly."""
    named = [True] * case.outputs if isinstance(case.outputs, int) else list(case.outputs)
    names = ["" if v is None else f"x{i}" for i, v in enumerate(case.inputs)]
    results = [f"y{i}" if kept else "" for i, kept in enumerate(named)]
    node = onnx.helper.make_node(case.operator, names, results, domain=case.domain, **case.attributes)
    session = onnx.reference.ReferenceEvaluator(node, opsets={"": case.opset, case.domain: case.opset})
    return list(session.run(None, {n: v for n, v in zip(names, case.inputs, strict=True) if v is not None}))


def default_reference(case: Case) -> list[Array]:
    """What ONNX Runtime computes, or where it lacks the operator ONNX's reference evaluator.

    Raises:
        NoReferenceError: neither computes it.
    """
    node = (case.operator, case.inputs, case.attributes, case.constants, case.outputs, case.opset, case.domain)
    try:
        return harness.single_node(*node, None)[0].expected
    except CheckError as error:
        raise NoReferenceError(str(error)) from error


def expected_outputs(case: Case) -> list[Array]:
    """The outputs that the node must have.

    Raises:
        NoReferenceError: nothing computes it.
    """
    narrow = next((v.dtype for v in case.inputs if v is not None and v.dtype.name in NARROW), None)
    widened = case.widen and narrow is not None
    inputs = [v.astype(np.float32) if widened and v is not None and v.dtype.name in NARROW else v for v in case.inputs]
    with np.errstate(all="ignore"):
        if case.expected is not None:
            found = case.expected(*inputs)
            wanted = [np.asarray(w) for w in (found if isinstance(found, (list, tuple)) else [found])]
        else:
            wanted = default_reference(replace(case, inputs=inputs))
        if widened and narrow is not None:
            wanted = [w.astype(narrow) if w.dtype == np.float32 else w for w in wanted]
    return wanted


def check_case(case: Case, plugin_share: int) -> bool:
    """Lowers the case and compares: always under LLVM, one of `plugin_share` also as the generated plugin.

    Returns:
        whether the plugin ran.

    Raises:
        NoReferenceError: nothing to compare with.
        AssertionError: an output differs.
        PluginAutogenError: the node is refused.
    """
    wanted = expected_outputs(case)
    node, feeds = harness.single_node(
        case.operator, case.inputs, case.attributes, case.constants, case.outputs, case.opset, case.domain, wanted
    )
    plugin = bool(plugin_share) and zlib.crc32(node.subgraph.model.SerializeToString()) % plugin_share == 0
    if plugin:
        actual = harness.lower_and_compare(node.subgraph, feeds, node.expected).outputs
    else:
        actual = run_on_cpu(node.subgraph, import_subgraph(node.subgraph), feeds)
    for i, (mine, theirs) in enumerate(zip(actual, node.expected, strict=True)):
        message = difference(mine, theirs).message or _stricter(case, mine, theirs)
        assert message is None, f"output {i}: {message}"
    return plugin


def _stricter(case: Case, mine: Array, theirs: Array) -> str | None:
    """What is wrong by the rules of `elementwise` and `exact`, which `difference` does not know."""
    if not (case.elementwise or case.exact) or mine.dtype.kind in "iub" or not mine.size:
        return None
    a, b = mine.astype(np.float64), theirs.astype(np.float64)
    both_nan = np.isnan(a) & np.isnan(b)
    if case.exact:
        wrong = ~both_nan & ((a != b) | (np.signbit(a) != np.signbit(b)))
    else:
        relative = TOLERANCE[mine.dtype.name][0] if mine.dtype.name in TOLERANCE else 0.0
        with np.errstate(invalid="ignore", over="ignore"):
            wrong = ~both_nan & (a != b) & ~(np.abs(a - b) <= relative * np.abs(b) + _smallest_normal(mine.dtype))
    if not wrong.any():
        return None
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{int(wrong.sum())} of {wrong.size} values, {mine[place]} instead of {theirs[place]} at {list(place)}"


def _smallest_normal(dtype: np.dtype) -> float:
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).tiny)
