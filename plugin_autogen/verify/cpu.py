"""Runs the lowered subgraph on the CPU (LLVM) and compares it with the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plugin_autogen.dtypes import ElementType
from plugin_autogen.errors import CheckError, shorten
from plugin_autogen.graph.subgraph import BorderTensor, Encoding, Subgraph
from plugin_autogen.lowering.importer import RelaxModule
from plugin_autogen.lowering.legalize import legalize
from plugin_autogen.lowering.precision import with_borders
from plugin_autogen.lowering.registry import constant_value, dtype_of
from plugin_autogen.lowering.sizes import evaluated
from plugin_autogen.verify.compare import Difference, difference
from plugin_autogen.verify.inputs import random_inputs
from plugin_autogen.verify.reference import reference_outputs

if TYPE_CHECKING:
    import numpy as np
    import tvm
    from tvm import ir, relax


@dataclass(frozen=True)
class CheckResult:
    """The largest errors over all outputs, and what the reference was.

    `wide_operands`: with operands of matrix products in the borders' narrow type the numbers were wrong; without they
    are right.
    """

    absolute: float
    relative: float
    reference: str
    wide_operands: bool = False


def check_on_cpu(subgraph: Subgraph, relax_module: RelaxModule, seed: int = 0) -> CheckResult:
    """Compares on random inputs; with symbolic dimensions at two sets of sizes where two are known to go together.

    Raises:
        CheckError: an output differs in element type, shape or value; names it, the largest error and its place. Or
            the reference takes none of the sizes that were tried for symbolic dimensions.
    """
    results: list[CheckResult] = []
    refusal: Exception | None = None
    run = compiled_for_cpu(subgraph, relax_module)
    likely, guesses = trial_sizes(subgraph)
    for sizes in (*likely, *guesses):
        if len(results) == _TRIALS or (results and sizes in guesses):
            break
        inputs = {
            info.name: decode(encode(value, tensor), tensor)  # what the border can carry, no more
            for (info, tensor), value in zip(
                zip(subgraph.model.graph.input, subgraph.inputs, strict=True),
                random_inputs(subgraph, seed, sizes).values(),
                strict=True,
            )
        }
        try:
            expected, reference = reference_outputs(subgraph.model, inputs)
        except Exception as error:
            if not sizes:
                raise
            refusal = error  # sizes that do not go together, as nothing here tells which do
            continue
        results.append(_compared(subgraph, run(inputs), expected, reference))
    if not results:
        raise CheckError(
            f"plugin '{subgraph.name}': the reference takes none of the sizes tried for the dynamic dimensions "
            f"({shorten(refusal, 160)}): give the ranges of all inputs (--minShapes, --optShapes, --maxShapes), or "
            "--check off"
        )
    return CheckResult(
        max(r.absolute for r in results), max(r.relative for r in results), ", ".join({r.reference: 0 for r in results})
    )


_TRIALS = 2
_TRIAL_ELEMENTS = 1 << 21
"""Inputs with more elements take too long, where others would do."""


def trial_sizes(subgraph: Subgraph) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """Sizes of the symbolic dimensions to try, best first: likely ones, and guesses for where those do not go together.

    Without symbolic dimensions that is one empty set.
    """
    symbols = list(dict.fromkeys(d for t in subgraph.inputs for d in t.shape if isinstance(d, str)))
    if not symbols:
        return [{}], []
    known = {s: subgraph.ranges[s] for s in symbols if s in subgraph.ranges}
    sets = []
    if len(known) == len(symbols):
        sets.append({s: max(r.opt, 1) for s, r in known.items()})
        if any(r.max is None for r in known.values()):
            sets.append({s: max(r.opt // 2, r.min, 1) for s, r in known.items()})
        else:
            sets += [{s: max(r.min, 1) for s, r in known.items()}, {s: r.max or 1 for s, r in known.items()}]

    def elements(sizes: dict[str, int]) -> int:
        return sum(math.prod(d if isinstance(d, int) else sizes[d] for d in t.shape) for t in subgraph.inputs)

    affordable = [s for s in sets if elements(s) <= _TRIAL_ELEMENTS]
    guesses = [{s: 4 + i for i, s in enumerate(symbols)}, *(dict.fromkeys(symbols, n) for n in (8, 32, 1))]
    return affordable, [*guesses, *(s for s in sets if s not in affordable)]


def _compared(
    subgraph: Subgraph, actual: Sequence[np.ndarray], expected: Sequence[np.ndarray], reference: str
) -> CheckResult:
    absolute = relative = 0.0
    for tensor, mine, theirs in zip(subgraph.outputs, actual, expected, strict=True):
        gap = border_difference(tensor, mine, theirs)
        if gap.message is not None:
            raise CheckError(
                f"plugin '{subgraph.name}' ({', '.join(sorted(set(subgraph.op_types)))}): output "
                f"'{shorten(tensor.name)}' differs from {reference}: {gap.message}"
            )
        absolute, relative = max(absolute, gap.absolute), max(relative, gap.relative)
    return CheckResult(absolute, relative, reference)


def run_on_cpu(subgraph: Subgraph, relax_module: RelaxModule, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of the lowered subgraph, in ONNX's types, for inputs by name in `subgraph.model`."""
    return compiled_for_cpu(subgraph, relax_module)(inputs)


def compiled_for_cpu(
    subgraph: Subgraph, relax_module: RelaxModule
) -> Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]:
    """`run_on_cpu` for many inputs. Results have no free places, in bounded form neither."""
    import tvm
    from tvm import relax

    target = tvm.target.Target("llvm")
    module = legalize(relax_module, target)
    if not relax_module.sizes and not relax_module.shapes:
        module = with_borders(module, subgraph)
    executable = relax.build(_with_storable_constants(module), target=target)
    machine = relax.VirtualMachine(executable, tvm.cpu())

    def run(inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        given = [inputs[info.name] for info in subgraph.model.graph.input]
        pairs = [(value, t) for value, t in zip(given, subgraph.inputs, strict=True) if not t.is_shape]
        arguments = [_to_tvm(value.astype(t.memory_dtype.numpy), t.memory_dtype) for value, t in pairs]
        shapes = resolved_shapes(relax_module, [value.shape for value, _ in pairs], given)
        result = machine["main"](*arguments, *(tvm.runtime.ShapeTuple(shape) for shape in shapes))
        results = [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
        outputs = [
            _from_tvm(r, t.memory_dtype).astype(t.dtype.numpy) for r, t in zip(results, subgraph.outputs, strict=False)
        ]
        for size, count in zip(relax_module.border_sizes, results[len(outputs) :], strict=True):
            for i, axis in size.places:
                outputs[i] = outputs[i].take(range(int(count.numpy()[0])), axis)
        return outputs

    return run


def resolved_shapes(
    relax_module: RelaxModule, shapes: Sequence[tuple[int, ...]], inputs: Sequence[np.ndarray]
) -> list[list[int]]:
    """What nodes make of the values of shape inputs, for each of `relax_module.shapes`.

    Args:
        shapes: of the inputs that are tensors.
        inputs: all of the subgraph's, in its order.
    """
    known = {name: shapes[i][axis] for name, (i, axis) in relax_module.symbols.items()}
    found = []
    for shape in relax_module.shapes:
        values = {str(v.name): int(n) for v, n in zip(shape.values, inputs[shape.input], strict=True)}
        sizes = [evaluated(dimension, {**known, **values}) for dimension in shape.dimensions]
        sizes = sizes or [0] * len(shape.variables)  # of a node that has no elements to compute nobody asked
        known.update({str(v.name): size for v, size in zip(shape.variables, sizes, strict=True)})
        found.append(sizes)
    return found


def _with_storable_constants(module: tvm.IRModule) -> tvm.IRModule:
    """The module with constants without elements as views of a vector: TVM cannot read them back in other shapes."""
    import numpy as np
    import tvm
    import tvm_ffi
    from tvm import ir, relax

    def storable(constant: ir.GenericConst) -> relax.Expr:
        value = constant_value(constant)
        if value is None or value.size:
            return constant
        dtype = dtype_of(constant)
        vector = relax.const(np.zeros([0], value.dtype), dtype)
        shape = relax.ShapeExpr(value.shape)
        ty = relax.TensorType(value.shape, dtype)
        return relax.op.call_pure_packed("vm.builtin.reshape", vector, shape, ty_args=[ty])

    main = tvm_ffi.structural_map(module["main"], (ir.GenericConst, storable))
    if main.same_as(module["main"]):
        return module
    functions = {v: main if v.name_hint == "main" else function for v, function in module.functions.items()}
    return relax.transform.Normalize()(tvm.IRModule(functions))


def border_difference(tensor: BorderTensor, mine: np.ndarray, theirs: np.ndarray) -> Difference:
    """The difference of two values in ONNX's type, to the tolerance of the border's type where that is narrower."""
    import numpy as np

    if mine.dtype == theirs.dtype and tensor.dtype.is_float and tensor.border_dtype.bits < tensor.dtype.bits:
        with np.errstate(over="ignore"):
            mine, theirs = (value.astype(tensor.border_dtype.numpy) for value in (mine, theirs))
    return difference(mine, theirs)


def encode(value: np.ndarray, tensor: BorderTensor) -> np.ndarray:
    """An ONNX value as it crosses the border."""
    if tensor.encoding is Encoding.BITS:
        return value.view(tensor.border_dtype.numpy)
    return value.astype(tensor.border_dtype.numpy)


def decode(value: np.ndarray, tensor: BorderTensor) -> np.ndarray:
    """A border value back in its ONNX type."""
    if tensor.encoding is Encoding.BITS:
        return value.view(tensor.dtype.numpy)
    return value.astype(tensor.dtype.numpy)


def _to_tvm(value: np.ndarray, dtype: ElementType) -> object:
    import numpy as np
    import tvm

    if dtype.held_as != dtype.name:
        value = value.astype(dtype.held_as)
    tensor = tvm.runtime.empty(value.shape, dtype.held_as)
    tensor.copyfrom(np.ascontiguousarray(value).reshape(value.shape))
    return tensor


def _from_tvm(value: object, dtype: ElementType) -> np.ndarray:
    array: np.ndarray = value.numpy()  # type: ignore[attr-defined]
    if dtype.held_as != dtype.name:
        return array.astype(dtype.numpy)
    return array if array.dtype == dtype.numpy else array.view(dtype.numpy)
