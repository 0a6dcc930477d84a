"""The registry of converters: ONNX operators to Relax, one function an operator and since-version.

A converter is found by (domain, operator) and the opset of the model: the one with the highest `since` that is not
newer serves. Modules below `plugin_autogen/lowering/operators/` register theirs when they are imported; a new family
of operators is one new file there, and nothing else. A user's own converters (`lowering/custom.py`) come before these.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from plugin_autogen.dtypes import ElementType
from plugin_autogen.errors import UnsupportedError, shorten
from plugin_autogen.lowering.shape_inputs import Resolve, ShapeInputs
from plugin_autogen.lowering.sizes import Bound, Sizes

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from tvm import relax

Dimension = Any
"""An int, or a TIR expression over the symbolic dimensions of the subgraph's inputs."""


@dataclass(frozen=True)
class TensorType:
    """A tensor's type as ONNX states it; `shape` is None where ONNX's inference leaves it open.

    `dimensions` has those that it states, None for the others; it is None itself where not even the rank is stated.
    """

    dtype: ElementType
    shape: tuple[Dimension, ...] | None
    dimensions: tuple[Dimension | None, ...] | None = None


@dataclass(frozen=True)
class NodeContext:
    """What a converter sees of its node.

    Attributes:
        node: the ONNX node.
        opset: the opset version of the node's domain.
        builder: emits bindings into the open dataflow block.
        inputs: Relax expressions in the node's order; None for a missing optional input.
        attributes: Python values (int, float, str, lists of them, numpy arrays, graphs) by name.
        outputs: the types that ONNX states; None for an output that the node does not have or that is not typed.
        inline: converts a graph that the node has as an attribute, applied to Relax tensors; gives its outputs.
        sizes: the dimensions that the data decide, of the whole subgraph.
        shape_inputs: inputs of the subgraph whose values are sizes.
        rounded: positions of inputs that crossed the plugin's border in a narrower type, and that type's TVM name.
    """

    node: onnx.NodeProto
    opset: int
    builder: relax.BlockBuilder
    inputs: tuple[relax.Expr | None, ...]
    attributes: dict[str, Any]
    outputs: tuple[TensorType | None, ...]
    inline: Callable[[onnx.GraphProto, Sequence[relax.Expr]], list[relax.Expr]]
    sizes: Sizes
    shape_inputs: ShapeInputs
    rounded: Mapping[int, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The operator, for messages; the pipeline adds the node's name in the user's model."""
        domain = f"{self.node.domain}::" if self.node.domain else ""
        return f"{shorten(domain + self.node.op_type)} (opset {self.opset})"

    def has_input(self, index: int) -> bool:
        return index < len(self.inputs) and self.inputs[index] is not None

    def input(self, index: int) -> relax.Expr:
        """Input `index`. Raises `UnsupportedError` when the node lacks it."""
        if index < len(self.inputs) and (value := self.inputs[index]) is not None:
            return value
        self.unsupported(f"input {index} is missing")

    def shape(self, index: int) -> tuple[Dimension, ...]:
        """Shape of input `index`: ints where known, else TIR expressions."""
        return shape_of(self.input(index))

    def dtype(self, index: int) -> str:
        """TVM's name of the element type of input `index`."""
        return dtype_of(self.input(index))

    def is_constant(self, index: int) -> bool:
        return self.has_input(index) and constant_value(self.input(index)) is not None

    def constant(self, index: int) -> np.ndarray:
        """The value of input `index`. Raises `UnsupportedError` when it is known only at run time."""
        value = constant_value(self.input(index))
        if value is None:
            self.unsupported(
                f"input {index} ('{shorten(self.node.input[index])}') must be constant",
                "fold it first (polygraphy surgeon sanitize --fold-constants) or make it an initializer",
            )
        return value

    def attribute(self, name: str, default: Any = None) -> Any:
        """The attribute's Python value, or the default where the node does not set it."""
        return self.attributes.get(name, default)

    def output(self, index: int = 0) -> TensorType:
        """The type that ONNX states for output `index`. Raises `UnsupportedError` when it states none."""
        if index < len(self.outputs) and (value := self.outputs[index]) is not None:
            return value
        self.unsupported(f"the type of output {index} is not known")

    def stated_shape(self, index: int) -> tuple[Dimension | None, ...] | None:
        """The dimensions of output `index` that ONNX states, None for others; None where it states no rank."""
        stated = self.outputs[index] if index < len(self.outputs) else None
        return None if stated is None else stated.dimensions

    def has_output(self, index: int) -> bool:
        """Whether the node has this (optional) output and gives it a name."""
        return index < len(self.node.output) and self.node.output[index] != ""

    def is_shape_input(self, index: int) -> bool:
        """Whether input `index` holds sizes that are known at run time only (`resolve_shape`)."""
        return index < len(self.node.input) and self.node.input[index] in self.shape_inputs

    def resolve_shape(self, index: int, resolve: Resolve) -> list[Dimension]:
        """The dimensions that the values of shape input `index` stand for.

        Args:
            resolve: takes the values, TIR expressions, and gives as many dimensions, over these and the dimensions of
                inputs.

        Returns:
            ints where `resolve` gave them, else variables.
        """
        from plugin_autogen.lowering.sizes import variables_of

        place = self.shape_inputs.at(self.node, index)
        place.dimensions[:] = resolve(place.values)
        if any(variables_of(d) for d in place.dimensions):
            self.unsupported(
                "both the data and a shape that is known at run time decide a size", "end the plugin before it"
            )
        pairs = zip(place.dimensions, place.variables, strict=True)
        return [d if isinstance(d, int) else variable for d, variable in pairs]

    def size_bound(self, axes: Mapping[int, int], largest: Dimension) -> Bound:
        """How many places results need whose number the data decide.

        Args:
            axes: output of the node → its axis along which the results lie.
            largest: the largest number possible; places that the model states count more.
        """
        for index, axis in axes.items():
            stated = self.outputs[index] if index < len(self.outputs) else None
            if stated is not None and stated.shape is not None:
                return Bound(stated.shape[axis], True, axes)
        return Bound(largest, isinstance(largest, int) and largest == 0, axes)

    def declare_size(self, bound: Bound, count: relax.Expr) -> Dimension:
        """The dimension of the node's outputs that the data decide.

        Args:
            bound: what `size_bound` gave.
            count: int64 [1], the number of results, at most `bound.places`; the kernels compute it.

        Returns:
            `bound.places` where the model states them or the release has no such dimensions: the converter fills the
            places that stay free. Else a new variable, which only kernels know the value of.
        """
        if bound.is_stated:
            return bound.places
        results = {self.node.output[i]: axis for i, axis in bound.axes.items() if self.has_output(i)}
        return self.sizes.declare(self.builder, count, bound.places, results)

    def te(self, function: Callable[..., Any], *args: Any, name: str | None = None) -> Any:
        """Emits a tensor expression as one TIR function. A list of tensors gives a tuple: a list of Relax variables.

        Args:
            function: takes TE tensors in the place of Relax expressions and gives one TE tensor or a list of them.
            args: Relax expressions, numbers, or nested lists of them.
            name: of the TIR function; the operator's by default.
        """
        from tvm import relax

        name = name or self.node.op_type.lower()
        if self.sizes.declared or self.shape_inputs.resolved or _has_symbols(args):
            result = self.builder.emit(_call_symbolic(self.builder, function, args, name))
        else:
            result = self.builder.emit_te(function, *args, primfunc_name_hint=name)
        if isinstance(result.ty, relax.TupleType):
            return [self.builder.emit(relax.TupleGetItem(result, i)) for i in range(len(result.ty.fields))]
        return result

    def emit(self, expr: relax.Expr) -> relax.Var:
        """Binds a Relax expression to a variable whose type is inferred."""
        return self.builder.emit(expr)

    def unsupported(self, cause: str, remedy: str = "") -> NoReturn:
        """Raises the `UnsupportedError` that names this node."""
        raise UnsupportedError(f"{self.label}: {cause}" + (f"; {remedy}" if remedy else ""))


Converter = Callable[[NodeContext], Any]
"""Gives one Relax expression, or a list of them in the order of the node's outputs (trailing ones may be left out)."""


Reference = Callable[..., Any]
"""What an operator computes, in numpy: arrays in, attributes as keywords, an array or a tuple of arrays out."""


@dataclass(frozen=True)
class Entry:
    """A registered converter: valid from opset `since` of the domain on.

    Attributes:
        is_users: it does not come with this package, and is asked first.
        reference: what its numbers are checked against where no runtime knows the operator.
    """

    since: int
    convert: Converter
    is_users: bool = False
    reference: Reference | None = None


_REGISTRY: dict[tuple[str, str], list[Entry]] = {}
_registrations = 0


def count() -> int:
    """How many converters were registered so far, replaced ones included."""
    return _registrations


def converter(
    *operators: str, domain: str = "", since: int = 1, reference: Reference | None = None
) -> Callable[[Converter], Converter]:
    """Registers the decorated function for one or several operators of a domain, from opset `since` on.

    Registering the same operator, domain and version again replaces the entry; a user's converter takes precedence over
    those that come with this package, whatever their versions.
    """

    def register(function: Converter) -> Converter:
        global _registrations
        _registrations += 1
        is_users = not function.__module__.startswith(f"{__package__}.")
        for operator in operators:
            key = (_known_as(domain), operator)
            entries = [e for e in _REGISTRY.get(key, []) if (e.since, e.is_users) != (since, is_users)]
            entries.append(Entry(since, function, is_users, reference))
            _REGISTRY[key] = sorted(entries, key=lambda e: (not e.is_users, -e.since))
        return function

    return register


def _known_as(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def find(domain: str, operator: str, opset: int) -> Converter | None:
    """The converter for this operator at this opset version, or None."""
    entry = find_entry(domain, operator, opset)
    return None if entry is None else entry.convert


def find_entry(domain: str, operator: str, opset: int) -> Entry | None:
    """As `find`, with what was registered beside it."""
    load_operators()
    for entry in _REGISTRY.get((_known_as(domain), operator), []):
        if entry.since <= opset:
            return entry
    return None


def holds_users_operators(model: onnx.ModelProto) -> bool:
    """Whether a node of the model, or of its functions, is converted by a converter of the user's."""
    opsets = {o.domain: o.version for o in model.opset_import}
    nodes = (*model.graph.node, *(node for function in model.functions for node in function.node))
    entries = (find_entry(node.domain, node.op_type, opsets.get(node.domain, 1)) for node in nodes)
    return any(entry is not None and entry.is_users for entry in entries)


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Converters that are registered inside are forgotten at the end."""
    load_operators()
    before = {key: list(entries) for key, entries in _REGISTRY.items()}
    try:
        yield
    finally:
        _REGISTRY.clear()
        _REGISTRY.update(before)


def registered() -> dict[tuple[str, str], Sequence[Entry]]:
    """Every registered (domain, operator) with its entries, newest first."""
    load_operators()
    return dict(_REGISTRY)


@functools.cache
def load_operators() -> None:
    """Imports every module of `plugin_autogen.lowering.operators`, which fills the registry."""
    from plugin_autogen.lowering import operators

    for module in pkgutil.iter_modules(operators.__path__):
        importlib.import_module(f"{operators.__name__}.{module.name}")


def shape_of(expr: relax.Expr) -> tuple[Dimension, ...]:
    """The shape of a Relax tensor: ints where known, else TIR expressions. `UnsupportedError` for an open one."""
    from tvm import tirx

    shape = expr.ty.shape
    if shape is None:
        raise UnsupportedError("a tensor inside the subgraph has no known shape")
    return tuple(int(d) if isinstance(d, tirx.IntImm) else d for d in shape)


def dtype_of(expr: relax.Expr) -> str:
    """TVM's name of a Relax tensor's element type."""
    return str(expr.ty.dtype.dtype)


def constant_value(expr: relax.Expr) -> np.ndarray | None:
    """The value of a Relax constant, or None for anything else."""
    from tvm import ir

    if not isinstance(expr, ir.GenericConst):
        return None
    value: np.ndarray = expr.value.numpy()
    return value


def _has_symbols(args: Sequence[Any]) -> bool:
    """Whether a tensor among the arguments has a dimension that is known only at run time."""
    from tvm import relax

    for arg in args:
        if isinstance(arg, (list, tuple)):
            if _has_symbols(arg):
                return True
        elif isinstance(getattr(arg, "ty", None), relax.TensorType) and not all(
            isinstance(d, int) for d in shape_of(arg)
        ):
            return True
    return False


def _call_symbolic(builder: relax.BlockBuilder, function: Callable[..., Any], args: Sequence[Any], name: str) -> Any:
    """As `BlockBuilder.call_te`, with the shapes' own variables in the TIR function.

    TVM's gives the function fresh ones, so that a dimension which a converter took from `NodeContext.shape` and uses in
    the tensor expression would belong to nobody.
    """
    from tvm import relax, te

    tensors: list[relax.Expr] = []
    parameters: list[Any] = []

    def convert(arg: Any) -> Any:
        if isinstance(arg, (list, tuple)):
            return [convert(a) for a in arg]
        if not isinstance(getattr(arg, "ty", None), relax.TensorType):
            return arg
        tensors.append(arg)
        parameters.append(te.placeholder(arg.ty.shape.values, dtype_of(arg), name=f"in_{len(parameters)}"))
        return parameters[-1]

    result = function(*[convert(arg) for arg in args])
    results = list(result) if isinstance(result, (list, tuple)) else [result]
    scalars = _unbound(parameters, results)
    prim_func = te.create_prim_func([*parameters, *scalars, *results], "int64").without_attr("global_symbol")
    types = [relax.TensorType([*r.shape], str(r.dtype)) for r in results]
    return relax.call_tir(builder.add_func(prim_func, name), [*tensors, *scalars], types)


def _unbound(parameters: Sequence[Any], results: Sequence[Any]) -> list[Any]:
    """Variables of the shapes that are no dimension of a parameter by themselves."""
    import tvm_ffi
    from tvm import tirx

    bound = {d for p in parameters for d in p.shape if isinstance(d, tirx.Var)}
    found: dict[Any, None] = {}
    for tensor in (*parameters, *results):
        for dimension in tensor.shape:
            tvm_ffi.structural_walk(dimension, (tirx.Var, lambda v: found.setdefault(v)))
    return [v for v in found if v not in bound]
