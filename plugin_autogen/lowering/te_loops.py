"""What converters share when they write tensor expressions: index arithmetic, and kernels as annotated loops.

A converter imports this module inside its functions: it loads TVM.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from plugin_autogen.codegen.requirements import PART
from plugin_autogen.lowering.registry import Dimension, NodeContext
from plugin_autogen.lowering.te_helpers import is_float
from plugin_autogen.schedule.atomics import ATOMIC

INT32_LIMIT = 2**31 - 1


def index_type(*shapes: Sequence[Dimension]) -> str:
    """`int32` where every flat index into tensors of these static shapes fits, else `int64`."""
    for shape in shapes:
        total = 1
        for extent in shape:
            if not isinstance(extent, (int, tirx.IntImm)):
                return "int64"
            total *= int(extent)
        if total > INT32_LIMIT:
            return "int64"
    return "int32"


def product(shape: Sequence[Dimension]) -> Dimension:
    """The number of elements: an int where it is known."""
    total: Dimension = 1
    for extent in shape:
        total = total * (int(extent) if isinstance(extent, tirx.IntImm) else extent)
    return total


def larger(a: Dimension, b: Dimension) -> Dimension:
    """The larger of two dimensions: an int where both are."""
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else tirx.max(a, b)


def smaller(a: Dimension, b: Dimension) -> Dimension:
    """The smaller of two dimensions: an int where both are."""
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else tirx.min(a, b)


def ceil_divide(a: Dimension, b: int) -> Dimension:
    """`a / b`, rounded up: an int where `a` is."""
    return -(-a // b) if isinstance(a, int) else tirx.floordiv(a + (b - 1), b)


def axis_of(context: NodeContext, axis: int, rank: int) -> int:
    """An ONNX axis, counted from the end where negative, in [0, rank). Raises `UnsupportedError` outside."""
    if not -rank <= axis < rank:
        context.unsupported(f"axis {axis} lies outside a tensor of rank {rank}")
    return axis % rank if rank else 0


def wrap_index(index: Any, extent: Any, dtype: str) -> Any:
    """An ONNX index in `dtype`, with negative ones counted from the end."""
    index = index.astype(dtype)
    return tirx.Select(index < 0, index + _as(extent, dtype), index)


def clamp_index(index: Any, extent: Any, dtype: str) -> Any:
    """As `wrap_index`; one outside its axis, an error in ONNX, becomes the nearest: no foreign memory is read."""
    last = _as(extent, dtype) - 1
    return tirx.max(tirx.min(wrap_index(index, extent, dtype), last), tirx.const(0, dtype))


def unravel(index: Any, shape: Sequence[Dimension]) -> list[Any]:
    """The position in a tensor of this shape that a flat index stands for."""
    position = []
    for extent in reversed(shape[1:]):
        position.append(tirx.floormod(index, extent))
        index = tirx.floordiv(index, extent)
    return [index, *reversed(position)] if shape else []


def ravel(position: Sequence[Any], shape: Sequence[Dimension]) -> Any:
    """The flat index of a position."""
    flat: Any = 0
    for index, extent in zip(position, shape, strict=True):
        flat = flat * extent + index
    return flat


def accumulator(dtype: str) -> str:
    """The type in which values of `dtype` are summed."""
    return "float32" if dtype in ("float16", "bfloat16") else dtype


# kernels as annotated loops (schedule/rules/mapped.py) ---------------------------------------------------------------


def kernel(
    context: NodeContext,
    body: Callable[..., None],
    inputs: Sequence[Any],
    outputs: Sequence[tuple[Sequence[Dimension], str]],
    name: str | None = None,
) -> list[Any]:
    """Emits one TIR function written as loops.

    Args:
        context: of the node.
        body: takes an indexable buffer for each input and each output and writes statements with this module's frames.
        inputs: Relax tensors.
        outputs: shape and TVM's element type of each result.
        name: of the TIR function; the operator's by default.

    Returns:
        one Relax variable for each output.
    """
    name = name or context.node.op_type.lower()

    def build(*tensors: Any) -> Any:
        def statements(ins: Sequence[Any], outs: Sequence[Any]) -> Any:
            with IRBuilder() as builder:
                with T.seq_scope():
                    body(*(T.buffer_proxy(b) for b in (*ins, *outs)))
                return builder.get()

        result = te.extern(
            [tuple(shape) for shape, _ in outputs],
            list(tensors),
            statements,
            name=name,
            dtype=[dtype for _, dtype in outputs],
            in_buffers=[_plain(t.shape, t.dtype, f"in_{i}") for i, t in enumerate(tensors)],
            out_buffers=[_plain(shape, dtype, f"out_{i}") for i, (shape, dtype) in enumerate(outputs)],
        )
        return result

    result = context.te(build, *inputs, name=name)
    return list(result) if isinstance(result, list) else [result]


def _plain(shape: Sequence[Dimension], dtype: str, name: str) -> Any:
    """A buffer that starts at its pointer: te.extern's own have an offset, which would be a kernel parameter."""
    return tirx.decl_buffer(tuple(shape), dtype, name, elem_offset=tirx.const(0, "int32"))


@contextlib.contextmanager
def _mapped(kind: str, extents: Sequence[Any], dtype: str, threads: int | None) -> Iterator[list[Any]]:
    annotations: dict[str, Any] = {"map": kind} | ({"threads": threads} if threads else {})
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(T.serial(tirx.const(0, dtype), _as(extent, dtype), annotations=annotations))
            for extent in (extents or (1,))
        ][: len(extents)]


def grid(*extents: Any, dtype: str = "int32", threads: int | None = None) -> Any:
    """A nest of loops of which each iteration is one thread."""
    return _mapped("grid", extents, dtype, threads)


def block(*extents: Any, dtype: str = "int32", threads: int | None = None) -> Any:
    """A nest of loops of which each iteration is one block of `threads` threads."""
    return _mapped("block", extents, dtype, threads)


def thread(*extents: Any, dtype: str = "int32") -> Any:
    """Inside `block`: a nest of loops shared out to the block's threads, a barrier after it."""
    return _mapped("thread", extents, dtype, None)


def serial(extent: Any, dtype: str = "int32") -> Any:
    """A loop without mapping."""
    return T.serial(tirx.const(0, dtype), _as(extent, dtype))


@contextlib.contextmanager
def when(condition: Any) -> Iterator[None]:
    """The statements of the body, where the condition holds."""
    with T.If(condition), T.Then():
        yield


def bind(value: Any) -> Any:
    """A variable that holds the value: it is computed once."""
    return T.Bind(value)


def atomic(operation: str, buffer: Any, position: Sequence[Any], update: Any) -> None:
    """`buffer[position] = operation(buffer[position], update)`, whatever other threads do to the same element.

    Args:
        operation: `add`, `mul`, `min` or `max`; NaN wins the latter two, as in numpy.
        buffer: of one of `schedule.atomics.DTYPES`.
        position: of the element.
        update: the operand, in the buffer's type.
    """
    at = tuple(position)
    with T.attr(operation, ATOMIC, update):
        buffer[at] = combine(operation, buffer[at], update)


def combine(operation: str, a: Any, b: Any) -> Any:
    """`a + b`, `a * b`, or the smaller or larger of them (`add`, `mul`, `min`, `max`)."""
    if operation == "add":
        return a + b
    if operation == "mul":
        return a * b
    first = a < b if operation == "min" else a > b
    nan = tirx.isnan(a) if is_float(str(a.ty.dtype)) else tirx.const(False, "bool")
    return tirx.Select(tirx.any(first, nan), a, b)


def local(dtype: str, count: int = 1) -> Any:
    """Registers of one thread, as an indexable buffer."""
    return T.buffer_proxy(T.alloc_buffer([count], dtype, scope="local"))


def shared(shape: Sequence[Any], dtype: str) -> Any:
    """Memory of one block (static shapes, at most 48 KiB in all), as an indexable buffer."""
    return T.buffer_proxy(T.alloc_buffer(list(shape), dtype, scope="shared"))


def scratch(shape: Sequence[Any], dtype: str) -> Any:
    """Device memory outside of any `grid` or `block`, as an indexable buffer: it becomes workspace."""
    return T.buffer_proxy(T.alloc_buffer(list(shape), dtype, scope="global"))


def _as(extent: Any, dtype: str) -> Any:
    return tirx.const(extent, dtype) if isinstance(extent, int) else extent.astype(dtype)


# element by element --------------------------------------------------------------------------------------------------


def gather(
    context: NodeContext,
    shape: Sequence[Dimension],
    element: Callable[..., Any],
    *inputs: Any,
    name: str | None = None,
    part: bool = False,
) -> Any:
    """Emits one computation that finds each element of the result on its own.

    Args:
        context: of the node.
        shape: of the result.
        element: takes the position in the result (a list of indices) and a TE tensor for each input.
        inputs: Relax tensors.
        name: of the TIR function; the operator's by default.
        part: along each axis it may read a part of the inputs, so that their sizes need not be the result's.
    """
    name = name or context.node.op_type.lower()
    attributes = {PART: 1} if part else None

    def compute(*tensors: Any) -> Any:
        return te.compute(wide(shape), lambda *position: element(list(position), *tensors), name=name, attrs=attributes)

    return context.te(compute, *inputs, name=name)


def real(value: Dimension, dtype: str) -> Any:
    """A dimension as a real number."""
    return tirx.const(value, dtype) if isinstance(value, int) else value.astype(dtype)


def wide(shape: Sequence[Dimension]) -> list[Any]:
    """The shape in 64-bit integers."""
    return [tirx.const(d, "int64") if isinstance(d, int) else d for d in shape]


def simplify(value: Any) -> Dimension:
    """A dimension expression in its simplest form: an int where it is constant."""
    from tvm import sym

    if isinstance(value, int):
        return value
    value = sym.Analyzer().simplify(value)
    return int(value) if isinstance(value, tirx.IntImm) else value
