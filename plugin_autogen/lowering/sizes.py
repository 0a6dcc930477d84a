"""Dimensions that the data decide: how many elements are not zero, how many boxes are kept.

A converter computes the number on the device (`count`, int64 [1]) and declares it: `NodeContext.declare_size` gives the
dimension to use in the shapes of its results, a TIR variable like any other symbolic dimension. Everything behind it,
other nodes included, just works on that dimension. At the plugin's border each such dimension gets an output of its own
that holds its value: TensorRT's size tensor.

TensorRT 8 has no such thing. There the dimension is the largest possible one, free places are filled by the converter,
and the count is one more output.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm import relax, tirx

    from plugin_autogen.lowering.registry import Dimension

PREFIX = "data_size_"
"""Of the variables' names; no dimension of an input has such a name."""


class SizeForm(enum.Enum):
    """What a dimension that the data decide becomes."""

    REAL = "real"
    """The number itself, known on the device."""
    BOUNDED = "bounded"
    """The largest that it can be, with the number as an output of its own."""


@dataclass(frozen=True)
class Bound:
    """How many places the results of a node have.

    Attributes:
        places: their number; the node's kernels drop what is beyond.
        is_stated: the model states it, so that nothing needs to be declared.
        axes: output of the node → its axis that has this many places.
    """

    places: Dimension
    is_stated: bool
    axes: Mapping[int, int]


@dataclass(frozen=True)
class Size:
    """A declared dimension: its variable (None in bounded form), its value on the device, its largest value."""

    variable: tirx.Var | None
    count: relax.Expr
    upper: Dimension


@dataclass
class Sizes:
    """The dimensions declared while a subgraph is converted.

    Attributes:
        form: what they become.
        declared: in the order of the nodes.
        bounded: tensor of the model that has more places than values → (axis, index in `declared`); bounded form only.
    """

    form: SizeForm = SizeForm.REAL
    declared: list[Size] = field(default_factory=list)
    bounded: dict[str, tuple[int, int]] = field(default_factory=dict)

    def declare(
        self, builder: relax.BlockBuilder, count: relax.Expr, upper: Dimension, results: Mapping[str, int]
    ) -> Dimension:
        """The dimension whose value the tensor `count` (int64 [1]) holds when the plugin runs.

        `results` are the node's outputs that have it, with the axis.
        """
        from tvm import relax, tirx

        if self.form is SizeForm.BOUNDED:
            self.bounded.update({name: (axis, len(self.declared)) for name, axis in results.items()})
            self.declared.append(Size(None, count, upper))
            return upper
        variable = tirx.Var(f"{PREFIX}{len(self.declared)}", "int64")
        shape = builder.emit(
            relax.call_pure_packed("vm.builtin.tensor_to_shape", count, ty_args=relax.ShapeType(ndim=1))
        )
        builder.match_cast(shape, relax.ShapeType([variable]))
        self.declared.append(Size(variable, count, upper))
        return variable


@dataclass(frozen=True)
class BorderSize:
    """A dimension at the plugin's border that the data decide. Its value is one more result of `main`: an integer [1].

    Attributes:
        dimension: as it stands in the shapes of the outputs; None in bounded form.
        places: the outputs of the subgraph that have it, with the axis.
    """

    dimension: Dimension | None
    places: tuple[tuple[int, int], ...]


def border_sizes(
    builder: relax.BlockBuilder, names: Sequence[str], results: Sequence[relax.Expr], sizes: Sizes
) -> tuple[list[BorderSize], list[relax.Expr]]:
    """The sizes that the subgraph's outputs depend on, and their values, which become outputs too.

    A dimension that is computed from declared ones has a value of its own: TensorRT computes nothing with them.

    Args:
        names: of the outputs in the model.
        results: the outputs.
    """
    from plugin_autogen.lowering.registry import shape_of

    if sizes.form is SizeForm.BOUNDED:
        found: dict[int, list[tuple[int, int]]] = {}
        for i, name in enumerate(names):
            if name in sizes.bounded:
                axis, declared = sizes.bounded[name]
                found.setdefault(declared, []).append((i, axis))
        values = [_narrow(builder, sizes.declared[declared].count) for declared in found]
        return [BorderSize(None, tuple(places)) for places in found.values()], values
    places: list[tuple[Dimension, list[tuple[int, int]]]] = []
    for i, result in enumerate(results):
        for axis, dimension in enumerate(shape_of(result)):
            if not variables_of(dimension):
                continue
            known = next((p for d, p in places if _same(d, dimension)), None)
            if known is None:
                places.append((dimension, known := []))
            known.append((i, axis))
    return (
        [BorderSize(dimension, tuple(where)) for dimension, where in places],
        [_value(builder, dimension, sizes) for dimension, _ in places],
    )


def _same(a: Dimension, b: Dimension) -> bool:
    from tvm import sym

    return bool(sym.Analyzer().can_prove_equal(a, b))


def _value(builder: relax.BlockBuilder, dimension: Dimension, sizes: Sizes) -> relax.Expr:
    """The dimension as a tensor, int64 [1]."""
    import tvm_ffi
    from tvm import te, tirx

    declared = {size.variable: size for size in sizes.declared}
    if isinstance(dimension, tirx.Var) and dimension in declared:
        return declared[dimension].count
    used = list(dict.fromkeys(variables_of(dimension)))

    def compute(*counts: te.Tensor) -> te.Tensor:
        values = {v: count(0) for v, count in zip(used, counts, strict=True)}
        expression = tvm_ffi.structural_map(dimension, (tirx.Var, lambda v: values.get(v, v)))
        return te.compute((1,), lambda _: expression, name="size")

    return builder.emit_te(compute, *(declared[v].count for v in used), primfunc_name_hint="size")


def _narrow(builder: relax.BlockBuilder, count: relax.Expr) -> relax.Expr:
    """The count in the integer that TensorRT 8 has."""
    from tvm import te

    return builder.emit_te(
        lambda x: te.compute(x.shape, lambda i: x(i).astype("int32"), name="count"), count, primfunc_name_hint="count"
    )


def largest_sizes(sizes: Sequence[Size], largest: Mapping[str, int]) -> dict[str, int]:
    """`largest` (of dimensions by name) with the declared variables of which it follows."""
    import tvm_ffi
    from tvm import tirx

    found = dict(largest)
    for size in sizes:
        if size.variable is None:
            continue
        used: list[Any] = []
        if not isinstance(size.upper, int):
            tvm_ffi.structural_walk(size.upper, (tirx.Var, used.append))
        if any(str(v.name) not in found for v in used):
            continue
        upper = size.upper if isinstance(size.upper, int) else _at_largest(size.upper, found)
        found[str(size.variable.name)] = upper
    return found


def _at_largest(value: Dimension, largest: Mapping[str, int]) -> int:
    import tvm_ffi
    from tvm import ir, sym, tirx

    analyzer = sym.Analyzer()
    variables: dict[Any, None] = {}
    tvm_ffi.structural_walk(value, (tirx.Var, lambda v: variables.setdefault(v)))
    zero = tirx.const(0, "int64")
    for v in variables:
        analyzer.bind(v, ir.Range(zero, tirx.const(largest[str(v.name)] + 1, "int64")))
    return int(analyzer.const_int_bound(value).max_value)


def evaluated(value: Dimension, known: Mapping[str, int]) -> int:
    """The value of a dimension, given those of its variables by name."""
    import tvm_ffi
    from tvm import sym, tirx

    if isinstance(value, int):
        return value
    numbers = tvm_ffi.structural_map(value, (tirx.Var, lambda v: tirx.const(known[str(v.name)], "int64")))
    return int(sym.Analyzer().simplify(numbers))


def variables_of(value: Dimension) -> list[Any]:
    """The declared variables that occur in a dimension."""
    import tvm_ffi
    from tvm import tirx

    found: list[Any] = []
    if not isinstance(value, int):
        tvm_ffi.structural_walk(value, (tirx.Var, found.append))
    return [v for v in found if str(v.name).startswith(PREFIX)]
