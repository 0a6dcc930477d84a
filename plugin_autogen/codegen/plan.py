"""The kernel plan: everything that the generated plugin does at run time, as plain data.

Nothing of TVM, ONNX or TensorRT is in it. The templates, the CPU test driver, the report and the caches need only this.
All sizes and offsets are in bytes, all shapes in elements.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Union

from plugin_autogen.codegen import expr as ex
from plugin_autogen.codegen.expr import Expr
from plugin_autogen.dtypes import ElementType


@dataclass(frozen=True)
class Dimension:
    """A symbol of the plan: dimension `axis` of input `input`.

    `limit` is the largest size that the kernels' indices are made for; None where they take any.
    """

    symbol: str
    input: int
    axis: int
    limit: int | None = None


@dataclass(frozen=True)
class ShapeInput:
    """An input of which TensorRT tells the values, and no memory: sizes. `values` are their symbols."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class ResolvedSize:
    """A symbol of the plan: dimension `axis` of output `output`, which TensorRT finds out from shape inputs.

    `value` is an expression over dimensions, the values of shape inputs and other such symbols.
    """

    symbol: str
    output: int
    axis: int
    value: Expr


@dataclass(frozen=True)
class Size:
    """A symbol of the plan that the data decide: the kernels write its value to the output `output`, a scalar.

    It occurs in the outputs' shapes and nowhere else. `upper` is its largest value, over the dimensions.
    """

    symbol: str
    output: int
    upper: Expr


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of the plugin. `name` is the ONNX tensor's, for comments and messages only."""

    name: str
    dtype: ElementType
    shape: tuple[Expr, ...]


@dataclass(frozen=True)
class Constant:
    """A tensor that lives on the device from the first context on. `data` is row-major, little-endian."""

    name: str
    dtype: ElementType
    shape: tuple[int, ...]
    data: bytes = field(repr=False)


class Space(enum.Enum):
    """Where a buffer lives."""

    INPUT = "input"
    OUTPUT = "output"
    CONSTANT = "constant"
    WORKSPACE = "workspace"


@dataclass(frozen=True)
class BufferRef:
    """A pointer that a launch or copy takes.

    `index` counts within the space (inputs, outputs, constants); in the workspace it is 0 and `offset` tells the place.
    """

    space: Space
    index: int = 0
    offset: Expr = ex.ZERO


@dataclass(frozen=True)
class Kernel:
    """A `__global__` function of the source; `parameters` are `pointer` or the scalar's type (`int32`, `int64`)."""

    name: str
    parameters: tuple[str, ...]


Argument = Union[BufferRef, Expr]


@dataclass(frozen=True)
class Launch:
    """One kernel launch. It is skipped when the grid or the block is empty (a tensor of size 0)."""

    kernel: str
    grid: tuple[Expr, Expr, Expr]
    block: tuple[Expr, Expr, Expr]
    arguments: tuple[Argument, ...]
    shared_bytes: Expr = ex.ZERO


@dataclass(frozen=True)
class Copy:
    """A copy on the device, where an output is a view of an input, of a constant or of another output."""

    destination: BufferRef
    source: BufferRef
    size: Expr


@dataclass(frozen=True)
class Loop:
    """A loop on the host around launches, `variable` from 0 to `extent - 1` (sort and scan have them)."""

    variable: str
    extent: Expr
    body: tuple[Step, ...]


@dataclass(frozen=True)
class Branch:
    """Steps that run only where the condition is not 0."""

    condition: Expr
    then: tuple[Step, ...]
    otherwise: tuple[Step, ...] = ()


Step = Union[Launch, Copy, Loop, Branch]


class Relation(enum.Enum):
    """How two sizes go together."""

    EQUAL = "equal"
    EQUAL_OR_ONE = "equal or one"
    """The first one may be 1: it is broadcast."""
    AT_MOST = "at most"
    """The first one is not larger."""


@dataclass(frozen=True)
class Requirement:
    """What ONNX wants of two sizes; compared before anything is launched."""

    size: Expr
    other: Expr
    relation: Relation


@dataclass(frozen=True)
class KernelPlan:
    """One implementation of the plugin: its border types, kernels, and the steps that `enqueue` takes.

    `source` is CUDA C++ that defines `kernels` and includes what it needs. `requirements` hold for every input that
    `steps` may run on. `sizes` has the value of each symbol of the plugin that they are made for, in the order of the
    plugin's dimensions; None: any. A plan with sizes has no symbols of its own. Outputs whose shapes depend on
    `data_sizes` are packed: they lie in memory as their actual shape says, and have room for the largest.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dimensions: tuple[Dimension, ...]
    constants: tuple[Constant, ...]
    workspace: Expr
    kernels: tuple[Kernel, ...]
    steps: tuple[Step, ...]
    source: str = field(repr=False)
    rules: tuple[str, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    sizes: tuple[int, ...] | None = None
    data_sizes: tuple[Size, ...] = ()
    shape_inputs: tuple[ShapeInput, ...] = ()
    resolved: tuple[ResolvedSize, ...] = ()


@dataclass(frozen=True)
class PluginPlan:
    """A plugin: one or several plans of the same computation, the default first.

    Variants agree in the number, ranks and shapes of inputs and outputs, in all that gives symbols their values, and in
    `requirements`; border types, kernels and workspace may differ. One that is made for certain `sizes` has numbers in
    its shapes, and runs in the place of another one with the same types when the inputs have these sizes.
    """

    name: str
    variants: tuple[KernelPlan, ...]

    @property
    def default(self) -> KernelPlan:
        return self.variants[0]

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with anything the plugin computes."""
        digest = hashlib.sha256()
        for plan in self.variants:
            digest.update(json.dumps(to_json(plan), sort_keys=True).encode())
            digest.update(plan.source.encode())
            for constant in plan.constants:
                digest.update(constant.data)
        return digest.hexdigest()[:16]


def as_variants(plans: Sequence[KernelPlan]) -> tuple[KernelPlan, ...]:
    """The plans with what variants of one plugin have in common: the smallest limits, and all requirements."""

    def merged(dimension: Dimension) -> Dimension:
        limits = [d.limit for p in plans for d in p.dimensions if d.symbol == dimension.symbol and d.limit is not None]
        return replace(dimension, limit=min(limits, default=None))

    requirements = tuple(dict.fromkeys(r for plan in plans for r in plan.requirements))
    return tuple(
        replace(plan, dimensions=tuple(map(merged, plan.dimensions)), requirements=requirements) for plan in plans
    )


def launches(steps: tuple[Step, ...]) -> list[Launch]:
    """All launches of the steps, those inside loops and branches once."""
    found: list[Launch] = []
    for step in steps:
        if isinstance(step, Launch):
            found.append(step)
        elif isinstance(step, Loop):
            found += launches(step.body)
        elif isinstance(step, Branch):
            found += launches(step.then) + launches(step.otherwise)
    return found


def expressions(step: Step) -> list[Expr]:
    """All expressions of a step and of the steps inside it."""
    if isinstance(step, Launch):
        offsets = [a.offset if isinstance(a, BufferRef) else a for a in step.arguments]
        return [*step.grid, *step.block, *offsets, step.shared_bytes]
    if isinstance(step, Copy):
        return [step.destination.offset, step.source.offset, step.size]
    if isinstance(step, Loop):
        return [step.extent, *(e for s in step.body for e in expressions(s))]
    return [step.condition, *(e for s in step.then + step.otherwise for e in expressions(s))]


def to_json(plan: KernelPlan) -> dict[str, Any]:
    """The plan as JSON data, without the source and the constants' bytes (they are files of their own)."""

    def tensor(t: TensorSpec) -> dict[str, Any]:
        return {"name": t.name, "dtype": t.dtype.name, "shape": [ex.to_json(d) for d in t.shape]}

    def argument(a: Argument) -> Any:
        if isinstance(a, BufferRef):
            return {"space": a.space.value, "index": a.index, "offset": ex.to_json(a.offset)}
        return ex.to_json(a)

    def step(s: Step) -> dict[str, Any]:
        if isinstance(s, Launch):
            return {
                "launch": s.kernel,
                "grid": [ex.to_json(e) for e in s.grid],
                "block": [ex.to_json(e) for e in s.block],
                "arguments": [argument(a) for a in s.arguments],
                "shared_bytes": ex.to_json(s.shared_bytes),
            }
        if isinstance(s, Copy):
            return {"copy": argument(s.source), "to": argument(s.destination), "size": ex.to_json(s.size)}
        if isinstance(s, Loop):
            return {"loop": s.variable, "extent": ex.to_json(s.extent), "body": [step(b) for b in s.body]}
        return {
            "if": ex.to_json(s.condition),
            "then": [step(b) for b in s.then],
            "else": [step(b) for b in s.otherwise],
        }

    return {
        "inputs": [tensor(t) for t in plan.inputs],
        "outputs": [tensor(t) for t in plan.outputs],
        "dimensions": [vars(d) for d in plan.dimensions],
        "shape_inputs": [{"name": s.name, "values": list(s.values)} for s in plan.shape_inputs],
        "resolved": [
            {"symbol": r.symbol, "output": r.output, "axis": r.axis, "value": ex.to_json(r.value)}
            for r in plan.resolved
        ],
        "data_sizes": [{"symbol": s.symbol, "output": s.output, "upper": ex.to_json(s.upper)} for s in plan.data_sizes],
        "constants": [
            {"name": c.name, "dtype": c.dtype.name, "shape": list(c.shape), "bytes": len(c.data)}
            for c in plan.constants
        ],
        "workspace": ex.to_json(plan.workspace),
        "kernels": [{"name": k.name, "parameters": list(k.parameters)} for k in plan.kernels],
        "steps": [step(s) for s in plan.steps],
        "sizes": None if plan.sizes is None else list(plan.sizes),
        "requirements": [[ex.to_json(r.size), r.relation.value, ex.to_json(r.other)] for r in plan.requirements],
    }
