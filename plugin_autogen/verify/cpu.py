"""Runs the lowered subgraph on the CPU (LLVM) and compares it with the reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plugin_autogen.dtypes import ElementType
from plugin_autogen.errors import CheckError, shorten
from plugin_autogen.graph.subgraph import BorderTensor, Encoding, Subgraph
from plugin_autogen.lowering.importer import RelaxModule
from plugin_autogen.lowering.legalize import legalize
from plugin_autogen.verify.compare import Difference, difference
from plugin_autogen.verify.inputs import random_inputs
from plugin_autogen.verify.reference import reference_outputs

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class CheckResult:
    """The largest errors over all outputs, and what the reference was."""

    absolute: float
    relative: float
    reference: str


def check_on_cpu(subgraph: Subgraph, relax_module: RelaxModule, seed: int = 0) -> CheckResult:
    """Compares on random inputs.

    Raises:
        CheckError: an output differs in element type, shape or value; names it, the largest error and its place.
    """
    inputs = {
        info.name: decode(encode(value, tensor), tensor)  # what the border can carry, no more
        for (info, tensor), value in zip(
            zip(subgraph.model.graph.input, subgraph.inputs, strict=True),
            random_inputs(subgraph, seed).values(),
            strict=True,
        )
    }
    expected, reference = reference_outputs(subgraph.model, inputs)
    actual = run_on_cpu(subgraph, relax_module, inputs)
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
    import tvm
    from tvm import relax

    target = tvm.target.Target("llvm")
    executable = relax.build(legalize(relax_module, target), target=target)
    machine = relax.VirtualMachine(executable, tvm.cpu())
    arguments = [
        _to_tvm(inputs[info.name].astype(tensor.memory_dtype.numpy), tensor.memory_dtype)
        for info, tensor in zip(subgraph.model.graph.input, subgraph.inputs, strict=True)
    ]
    result = machine["main"](*arguments)
    results = [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
    return [_from_tvm(r, t.memory_dtype).astype(t.dtype.numpy) for r, t in zip(results, subgraph.outputs, strict=True)]


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
