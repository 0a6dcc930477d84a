"""Reads the kernel plan from the lowered module: launches, buffers with lifetimes, constants, and the CUDA source."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plugin_autogen import dtypes
from plugin_autogen.codegen import expr as ex
from plugin_autogen.codegen.device_sizes import on_device
from plugin_autogen.codegen.expr import Expr
from plugin_autogen.codegen.plan import (
    Argument,
    Branch,
    BufferRef,
    Constant,
    Copy,
    Dimension,
    Kernel,
    KernelPlan,
    Launch,
    Loop,
    Relation,
    Requirement,
    ResolvedSize,
    ShapeInput,
    Size,
    Space,
    Step,
    TensorSpec,
    expressions,
)
from plugin_autogen.codegen.requirements import assumptions
from plugin_autogen.codegen.workspace import Interval, assign_offsets
from plugin_autogen.errors import UnsupportedError
from plugin_autogen.graph.subgraph import BorderTensor, Subgraph
from plugin_autogen.lowering.registry import holds_users_operators
from plugin_autogen.lowering.sizes import variables_of

if TYPE_CHECKING:
    import tvm
    from tvm import relax, tirx
    from tvm.target import Target

    from plugin_autogen.lowering.importer import RelaxModule
    from plugin_autogen.lowering.sizes import BorderSize
    from plugin_autogen.schedule.lower import LoweredFunction

_DIMENSIONS = ("x", "y", "z")


def build_plan(
    subgraph: Subgraph,
    module: tvm.IRModule,
    functions: Mapping[str, LoweredFunction],
    imported: RelaxModule,
    target: Target,
) -> KernelPlan:
    """The plan of one plugin.

    Args:
        subgraph: gives the names and types at the borders.
        module: `main` as a list of calls (`lowering.legalize.to_calls`).
        functions: the scheduled functions that `main` calls.
        imported: what `module` came from; says where symbolic dimensions get their values.
        target: of the CUDA source.

    Raises:
        UnsupportedError: `main` or a host function does what a plugin cannot, such as a call of TVM's runtime.
    """
    reader = _Reader(subgraph, module, functions, imported)
    reader.require_elements(imported.reshapes)
    reader.read_main(module["main"])
    source = _cuda_source(reader.used_kernels, target)
    return reader.finish(source)


@dataclass(frozen=True, eq=False)
class _Buffer:
    """A tensor of the plan while it is being read; its place is decided at the end. Compared by identity."""

    size: Expr
    place: BufferRef | None = None


@dataclass(frozen=True)
class _PendingLaunch:
    kernel: str
    grid: tuple[Expr, Expr, Expr]
    block: tuple[Expr, Expr, Expr]
    arguments: tuple[_Buffer | Expr, ...]
    shared_bytes: Expr


@dataclass(frozen=True)
class _PendingCopy:
    destination: _Buffer
    source: _Buffer


@dataclass(frozen=True)
class _PendingLoop:
    variable: str
    extent: Expr
    body: tuple[_Pending, ...]


@dataclass(frozen=True)
class _PendingBranch:
    condition: Expr
    then: tuple[_Pending, ...]
    otherwise: tuple[_Pending, ...]


@dataclass(frozen=True)
class _Count:
    """The value of a size that the data decide, on its way from the device to a variable."""

    buffer: _Buffer


_Pending = _PendingLaunch | _PendingCopy | _PendingLoop | _PendingBranch


class _Reader:
    """Walks `main` and the host functions it calls."""

    def __init__(
        self,
        subgraph: Subgraph,
        module: tvm.IRModule,
        functions: Mapping[str, LoweredFunction],
        imported: RelaxModule,
    ) -> None:
        self._subgraph = subgraph
        self._module = module
        self._functions = functions
        self._border_sizes = imported.border_sizes
        self._shapes = imported.shapes
        self._uppers = {str(s.variable.name): s.upper for s in imported.sizes if s.variable is not None}
        self._largest: dict[str, Expr] = {}
        """Symbol of a size that the data decide → its largest value, over dimensions of the inputs."""
        self._counts: dict[str, _Buffer] = {}
        """Such a symbol → where the device has its value."""
        self._sizes: list[Size] = []
        self._conditions: list[Expr] = []
        """What the device must decide about the statements being read, outermost first."""
        self._on_device: dict[Any, tuple[tirx.PrimFunc, list[str], list[str]]] = {}
        # 32-bit indices hold for what the ranges promise, no more.
        ranges = subgraph.ranges if any(f.narrow for f in functions.values()) else {}
        self._dimensions = tuple(
            Dimension(name, i, axis, ranges[name].max if name in ranges else None)
            for name, (i, axis) in imported.symbols.items()
        )
        self._constants: list[Constant] = []
        self._inputs: list[TensorSpec] = []
        self._outputs: list[TensorSpec] = []
        self._output_buffers: list[_Buffer] = []
        self._steps: list[_Pending] = []
        self._values: dict[Any, Any] = {}
        self._loops = 0
        self._requirements: dict[Requirement, None] = {}
        self._is_strict = not holds_users_operators(subgraph.model)
        self.used_kernels: dict[str, tuple[str, tirx.PrimFunc]] = {}
        """Unique kernel name → (name inside its function, device function)."""

    # main ----------------------------------------------------------------------------------------------------------

    def read_main(self, main: relax.Function) -> None:
        from tvm import relax

        symbols: dict[Any, Expr] = {d.symbol: ex.Symbol(d.symbol) for d in self._dimensions}
        symbols |= {str(v.name): ex.Symbol(str(v.name)) for shape in self._shapes for v in shape.variables}
        tensors = [t for t in self._subgraph.inputs if not t.is_shape]
        for i, (parameter, tensor) in enumerate(zip(main.params[: len(tensors)], tensors, strict=True)):
            spec = _spec(tensor, parameter.ty, symbols)
            self._inputs.append(spec)
            self._values[parameter] = _Buffer(_bytes(spec), BufferRef(Space.INPUT, i))
        for block in main.body.blocks:
            for binding in block.bindings:
                self._values[binding.var] = value = self._read(binding.value, symbols)
                if isinstance(value, _Count) and isinstance(binding, relax.MatchCast):
                    self._learn_size(binding.ty.values[0], value.buffer, symbols)
        results = self._read(main.body.body, symbols)
        results = results if isinstance(results, list) else [results]
        # the function's own type knows nothing of dimensions that are found out inside it
        ty = main.body.body.ty
        types = list(ty.fields) if hasattr(ty, "fields") else [ty]
        count = len(self._subgraph.outputs)
        for i, (value, tensor, ty) in enumerate(
            zip(results[:count], self._subgraph.outputs, types[:count], strict=True)
        ):
            spec = _spec(tensor, ty, symbols)
            self._outputs.append(spec)
            self._claim_output(i, value, self._at_most(_bytes(spec)))
        for value, size, ty in zip(results[count:], self._border_sizes, types[count:], strict=True):
            self._add_size(size, value, dtypes.from_name(str(ty.dtype.dtype)), symbols)

    def _resolved(self, steps: Sequence[Step], workspace: Expr) -> tuple[ResolvedSize, ...]:
        """The sizes that shape inputs decide, of those that occur: an output that has one tells what it is."""
        known: dict[Any, Expr] = {
            name: ex.Symbol(name)
            for name in (
                *(d.symbol for d in self._dimensions),
                *(str(v.name) for shape in self._shapes for v in (*shape.values, *shape.variables)),
            )
        }
        values = {
            str(v.name): _expr(dimension, known)
            for shape in self._shapes
            for v, dimension in zip(shape.variables, shape.dimensions, strict=False)
        }
        exprs = [e for step in steps for e in expressions(step)] + [workspace]
        exprs += [d for output in self._outputs for d in output.shape]
        used = {name for e in exprs for name in ex.symbols_of(e)}
        places = {
            d.name: (i, axis)
            for i, output in reversed(list(enumerate(self._outputs)))
            for axis, d in enumerate(output.shape)
            if isinstance(d, ex.Symbol)
        }
        found = []
        for name in values:
            if name in used and name not in places:
                raise UnsupportedError(
                    "a size that is known at run time only is no dimension of an output, where TensorRT could tell it: "
                    "let the plugin end at the node that it is for"
                )
            if name in used:
                found.append(ResolvedSize(name, *places[name], values[name]))
        return tuple(found)

    def _shape_inputs(self) -> tuple[ShapeInput, ...]:
        symbols = {shape.input: tuple(str(v.name) for v in shape.values) for shape in self._shapes}
        inputs = self._subgraph.inputs
        return tuple(ShapeInput(t.name, symbols[i]) for i, t in enumerate(inputs) if t.is_shape)

    def _learn_size(self, variable: tirx.Var, count: _Buffer, symbols: dict[Any, Expr]) -> None:
        name = str(variable.name)
        self._largest[name] = self._at_most(_expr(self._uppers[name], symbols))
        self._counts[name] = count
        symbols[name] = ex.Symbol(name)

    def _add_size(self, size: BorderSize, value: _Buffer, dtype: dtypes.ElementType, symbols: dict[Any, Expr]) -> None:
        """The output that holds a size, and the outputs that have it as a dimension."""
        index = len(self._outputs)
        first, _ = size.places[0]
        self._outputs.append(TensorSpec(f"size of {self._outputs[first].name}", dtype, ()))
        self._claim_output(index, value, ex.Const(dtype.bytes))
        if size.dimension is None:
            return
        upper = self._at_most(_expr(size.dimension, symbols))
        self._sizes.append(Size(f"size_{len(self._sizes)}", index, upper))
        for output, axis in size.places:
            spec = self._outputs[output]
            shape = (*spec.shape[:axis], ex.Symbol(self._sizes[-1].symbol), *spec.shape[axis + 1 :])
            self._outputs[output] = TensorSpec(spec.name, spec.dtype, shape)

    def _at_most(self, expr: Expr) -> Expr:
        """The expression, or its largest value where the data decide it."""
        limits = ex.limits(expr, self._largest)
        if limits is None:
            raise UnsupportedError("a size depends on one that the data decide in a way that has no known limit")
        return limits[1]

    def _is_known(self, expr: Expr) -> bool:
        """Whether the host knows its value."""
        return not ex.symbols_of(expr) & self._largest.keys()

    def _claim_output(self, index: int, value: _Buffer, size: Expr) -> None:
        """The buffer that `main` returns becomes the output; one that has a place already is copied."""
        target = _Buffer(size, BufferRef(Space.OUTPUT, index))
        if value.place is None and not any(value is claimed for claimed in self._output_buffers):
            self._output_buffers.append(value)
            return
        self._output_buffers.append(target)
        self._steps.append(_PendingCopy(target, value))

    def _read(self, expr: Any, symbols: Mapping[Any, Expr]) -> Any:
        """The buffer, or list of buffers, that a Relax expression stands for."""
        from tvm import ir, relax

        if isinstance(expr, relax.Tuple):
            return [self._read(field, symbols) for field in expr.fields]
        if isinstance(expr, relax.TupleGetItem):
            return self._read(expr.tuple_value, symbols)[expr.index]
        if isinstance(expr, ir.GenericConst):
            return self._constant(expr)
        if isinstance(expr, relax.Call):
            return self._call(expr, symbols)
        if expr in self._values:
            return self._values[expr]
        raise UnsupportedError(f"the lowered subgraph holds {type(expr).__name__}, which a plugin cannot execute")

    def _constant(self, expr: Any) -> _Buffer:
        import numpy as np

        array = np.ascontiguousarray(expr.value.numpy())
        dtype = dtypes.from_name(str(expr.ty.dtype.dtype))
        shape = tuple(int(d) for d in expr.ty.shape)
        data = array.tobytes()
        for i, known in enumerate(self._constants):
            if (known.dtype, known.shape, known.data) == (dtype, shape, data):
                return _Buffer(ex.Const(len(data)), BufferRef(Space.CONSTANT, i))
        self._constants.append(Constant(f"constant_{len(self._constants)}", dtype, shape, data))
        return _Buffer(ex.Const(len(data)), BufferRef(Space.CONSTANT, len(self._constants) - 1))

    def _call(self, call: relax.Call, symbols: Mapping[Any, Expr]) -> Any:
        from tvm import ir, relax

        if isinstance(call.op, ir.GlobalVar):
            self._call_function(call, symbols)
            return None
        name = call.op.name if isinstance(call.op, ir.Op) else str(call.op.global_symbol)
        if name == "relax.builtin.alloc_tensor":
            shape = tuple(_expr(d, symbols) for d in call.args[0].values)
            dtype = dtypes.from_name(str(call.args[1].value))
            return _Buffer(self._at_most(ex.mul(ex.product(shape), ex.Const(dtype.bytes))))
        if name == "vm.builtin.tensor_to_shape":
            return _Count(self._read(call.args[0], symbols))
        if name in ("vm.builtin.reshape", "relax.reshape"):
            return self._read(call.args[0], symbols)
        if isinstance(call.op, relax.ExternFunc):
            raise UnsupportedError(f"the lowering needs '{name}' of TVM's runtime, which a plugin has not got")
        raise UnsupportedError(f"the lowered subgraph holds '{name}', which a plugin cannot execute")

    # sizes that must go together -------------------------------------------------------------------------------------

    def require_elements(self, reshapes: Sequence[tuple[Any, Any]]) -> None:
        """A reshaped tensor has as many elements as before."""
        symbols: dict[Any, Expr] = {d.symbol: ex.Symbol(d.symbol) for d in self._dimensions}
        symbols |= {str(v.name): ex.Symbol(str(v.name)) for shape in self._shapes for v in shape.variables}
        for before, after in reshapes:
            if variables_of(before) or variables_of(after):
                continue  # the host never knows what the data decide
            requirement = Requirement(_expr(after, symbols), _expr(before, symbols), Relation.EQUAL)
            self._requirements[requirement] = None

    def _require_sizes(self, function: tirx.PrimFunc, call: relax.Call, symbols: Mapping[str, Expr]) -> None:
        """What the function assumes about dimensions, in terms of the plugin's."""
        from tvm import tirx

        found = assumptions(function, self._is_strict)
        if not found:
            return
        scope: dict[Any, Any] = {}
        for parameter, argument in zip(function.params, call.args, strict=True):
            if not hasattr(argument.ty, "shape"):
                scope[parameter] = _expr(argument, symbols)
                continue
            for formal, actual in zip(parameter.ty.shape, argument.ty.shape, strict=True):
                if isinstance(formal, tirx.Var):
                    scope[formal] = _expr(actual, symbols)
        for assumption in found:
            size, other = (_expr(value, scope) for value in (assumption.size, assumption.other))
            if size != other and self._is_known(size) and self._is_known(other):
                self._requirements[Requirement(size, other, assumption.relation)] = None

    # host functions --------------------------------------------------------------------------------------------------

    def _call_function(self, call: relax.Call, symbols: Mapping[Any, Expr]) -> None:
        name = call.op.name_hint
        function = self._functions[name]
        self._require_sizes(self._module[call.op], call, symbols)
        scope: dict[Any, _Buffer | Expr] = {}
        if len(call.args) != len(function.host.params):
            raise UnsupportedError(f"the lowered function '{name}' takes scalars from TVM's runtime")
        for parameter, argument in zip(function.host.params, call.args, strict=True):
            if hasattr(argument.ty, "shape"):
                scope[parameter] = self._read(argument, symbols)
                self._bind_shape(parameter, argument, scope, symbols)
            else:  # a symbolic size that no buffer of the function has by itself
                scope[parameter] = _expr(argument, symbols)
        self._steps += self._statement(function.host.body, scope, function)

    def _bind_shape(self, parameter: Any, tensor: Any, scope: dict[Any, Any], symbols: Mapping[Any, Expr]) -> None:
        """Variables in the parameter's buffer type get their value from the tensor that is passed."""
        from tvm import tirx

        buffer = parameter.ty
        for formal, actual in zip(buffer.shape, tensor.ty.shape, strict=True):
            if isinstance(formal, tirx.Var):
                scope[formal] = _expr(actual, symbols)
        if isinstance(buffer.elem_offset, tirx.Var):
            scope[buffer.elem_offset] = ex.ZERO

    def _statement(self, statement: Any, scope: dict[Any, Any], function: LoweredFunction) -> tuple[_Pending, ...]:
        from tvm import tirx

        if isinstance(statement, tirx.SeqStmt):
            return tuple(step for s in statement.seq for step in self._statement(s, scope, function))
        if isinstance(statement, tirx.AllocBuffer):
            buffer = statement.buffer
            dtype = dtypes.from_name(str(buffer.dtype))
            elements = ex.product(tuple(_expr(d, scope) for d in buffer.shape))
            scope[buffer] = _Buffer(self._at_most(ex.mul(elements, ex.Const(dtype.bytes))))
            return ()
        if isinstance(statement, tirx.DeclBuffer):
            scope[statement.buffer] = self._pointer(statement.data, scope)
            return ()
        if isinstance(statement, tirx.Bind):
            scope[statement.var] = _expr(statement.value, scope)
            return ()
        if isinstance(statement, tirx.AttrStmt):
            return self._statement(statement.body, scope, function)
        if isinstance(statement, tirx.For):
            return self._loop(statement, scope, function)
        if isinstance(statement, tirx.IfThenElse):
            condition = _expr(statement.condition, scope)
            if not self._is_known(condition):
                steps = self._where(condition, statement.then_case, scope, function)
                if statement.else_case:
                    negated = ex.binary("==", condition, ex.ZERO)
                    steps += self._where(negated, statement.else_case, scope, function)
                return steps
            then = self._statement(statement.then_case, scope, function)
            otherwise = self._statement(statement.else_case, scope, function) if statement.else_case else ()
            if isinstance(condition, ex.Const):
                return then if condition.value else otherwise
            return (_PendingBranch(condition, then, otherwise),)
        if isinstance(statement, tirx.Evaluate):
            return self._evaluate(statement.value, scope, function)
        raise UnsupportedError(
            f"the host part of '{function.host.attrs['global_symbol']}' holds {type(statement).__name__}"
        )

    def _loop(self, loop: tirx.For, scope: dict[Any, Any], function: LoweredFunction) -> tuple[_Pending, ...]:
        variable = f"loop_{self._loops}"
        self._loops += 1
        scope[loop.loop_var] = ex.add(_expr(loop.min, scope), ex.Symbol(variable))
        extent = _expr(loop.extent, scope)
        if self._is_known(extent):
            return (_PendingLoop(variable, extent, self._statement(loop.body, scope, function)),)
        body = self._where(ex.binary("<", ex.Symbol(variable), extent), loop.body, scope, function)
        return (_PendingLoop(variable, self._at_most(extent), body),)

    def _where(
        self, condition: Expr, statement: Any, scope: dict[Any, Any], function: LoweredFunction
    ) -> tuple[_Pending, ...]:
        """Steps whose kernels do nothing unless the condition holds, which only the device knows."""
        self._conditions.append(condition)
        steps = self._statement(statement, scope, function)
        self._conditions.pop()
        return steps

    def _evaluate(self, value: Any, scope: dict[Any, Any], function: LoweredFunction) -> tuple[_Pending, ...]:
        from tvm import ir, tirx

        if isinstance(value, tirx.IntImm):
            return ()
        if not isinstance(value, ir.Call) or value.op.name != "tirx.call_ffi_kernel":
            raise UnsupportedError(
                f"the host part of a lowered function holds '{value}', which a plugin cannot execute"
            )
        local = str(value.args[0].value)
        device = function.kernels[local]
        tags = [str(tag) for tag in value.attrs.launch_params]
        if any(tag not in (*_LAUNCH_TAGS, _DYNAMIC_SHARED) for tag in tags):
            raise UnsupportedError(f"kernel '{local}' launches with {tags}, which no plan can hold yet")
        arguments = value.args[1 : len(value.args) - len(tags)]
        extents = dict(zip(tags, (_expr(e, scope) for e in value.args[len(value.args) - len(tags) :]), strict=True))
        if len(arguments) != len(device.params):
            raise UnsupportedError(
                f"kernel '{local}' takes {len(device.params)} arguments, its launch gives {len(arguments)}"
            )
        given = [self._argument(a, scope) for a in arguments]
        grid, block = _triple(extents, "blockIdx"), _triple(extents, "threadIdx")
        shared = extents.get(_DYNAMIC_SHARED, ex.ZERO)
        unknown = {i: a for i, a in enumerate(given) if not isinstance(a, _Buffer) and not self._is_known(a)}
        if unknown or self._conditions or not all(map(self._is_known, (*grid, *block, shared))):
            if not all(map(self._is_known, (*block, shared))):
                raise UnsupportedError(f"kernel '{local}' has blocks of a size that the data decide")
            device, given = self._with_sizes(device, given, unknown)
            x, y, z = grid
            grid = self._at_most(x), self._at_most(y), self._at_most(z)
        name = self._kernel_name(local, device)
        return (_PendingLaunch(name, grid, block, tuple(given), shared),)

    def _with_sizes(
        self, device: tirx.PrimFunc, given: list[_Buffer | Expr], unknown: dict[int, Expr]
    ) -> tuple[tirx.PrimFunc, list[_Buffer | Expr]]:
        """The kernel that reads the sizes it needs on the device, and what it takes."""
        key = (device, tuple(unknown.items()), tuple(self._conditions))
        if key not in self._on_device:
            self._on_device[key] = on_device(device, unknown, self._conditions, list(self._largest))
        changed, known, sizes = self._on_device[key]
        kept = [a for i, a in enumerate(given) if i not in unknown]
        return changed, [*kept, *map(ex.Symbol, known), *(self._counts[name] for name in sizes)]

    def _kernel_name(self, local: str, device: tirx.PrimFunc) -> str:
        for name, (_, known) in self.used_kernels.items():
            if known.same_as(device):
                return name
        hint = re.sub(r"\W+", "_", local).removesuffix("_kernel")[:60]
        name = f"{self._subgraph.name}_k{len(self.used_kernels)}_{hint}"
        self.used_kernels[name] = (local, device)
        return name

    def _argument(self, argument: Any, scope: dict[Any, Any]) -> _Buffer | Expr:
        from tvm import ir

        if isinstance(argument, ir.Call) and argument.op.name == "tirx.buffer_data":
            return self._pointer(argument, scope)
        return _expr(argument, scope)

    def _pointer(self, pointer: Any, scope: dict[Any, Any]) -> _Buffer:
        from tvm import ir

        variable = (
            pointer.args[0] if isinstance(pointer, ir.Call) and pointer.op.name == "tirx.buffer_data" else pointer
        )
        buffer = scope.get(variable)
        if not isinstance(buffer, _Buffer):
            raise UnsupportedError(f"the host part of a lowered function computes the pointer '{pointer}'")
        return buffer

    # the end ---------------------------------------------------------------------------------------------------------

    def finish(self, source: str) -> KernelPlan:
        """Decides where the buffers without a place live, and writes the plan."""
        places: dict[int, BufferRef] = {}
        for i, buffer in enumerate(self._output_buffers):
            if buffer.place is None:
                places[id(buffer)] = BufferRef(Space.OUTPUT, i)
        intervals: dict[int, Interval] = {}
        for time, step in enumerate(self._steps):
            for buffer in _buffers(step):
                if buffer.place is None and id(buffer) not in places:
                    first = intervals[id(buffer)].first if id(buffer) in intervals else time
                    intervals[id(buffer)] = Interval(first, time, buffer.size)
        offsets, workspace = assign_offsets(list(intervals.values()))
        for key, offset in zip(intervals, offsets, strict=True):
            places[key] = BufferRef(Space.WORKSPACE, 0, offset)

        def place(buffer: _Buffer) -> BufferRef:
            return buffer.place or places[id(buffer)]

        def step_of(pending: _Pending) -> Step:
            if isinstance(pending, _PendingLaunch):
                arguments: tuple[Argument, ...] = tuple(
                    place(a) if isinstance(a, _Buffer) else a for a in pending.arguments
                )
                return Launch(pending.kernel, pending.grid, pending.block, arguments, pending.shared_bytes)
            if isinstance(pending, _PendingCopy):
                return Copy(place(pending.destination), place(pending.source), pending.destination.size)
            if isinstance(pending, _PendingLoop):
                return Loop(pending.variable, pending.extent, tuple(map(step_of, pending.body)))
            return Branch(pending.condition, tuple(map(step_of, pending.then)), tuple(map(step_of, pending.otherwise)))

        steps = tuple(map(step_of, self._steps))
        return KernelPlan(
            inputs=tuple(self._inputs),
            outputs=tuple(self._outputs),
            dimensions=self._dimensions,
            constants=tuple(self._constants),
            workspace=workspace,
            kernels=tuple(
                Kernel(name, tuple(_parameter(p) for p in device.params))
                for name, (_, device) in self.used_kernels.items()
            ),
            steps=steps,
            source=source,
            data_sizes=tuple(self._sizes),
            shape_inputs=self._shape_inputs(),
            resolved=self._resolved(steps, workspace),
            requirements=tuple(self._requirements),
        )


_LAUNCH_TAGS = {f"{kind}.{d}" for kind in ("blockIdx", "threadIdx") for d in _DIMENSIONS}
_DYNAMIC_SHARED = "tirx.use_dyn_shared_memory"


def _triple(extents: Mapping[str, Expr], kind: str) -> tuple[Expr, Expr, Expr]:
    x, y, z = (extents.get(f"{kind}.{d}", ex.ONE) for d in _DIMENSIONS)
    return x, y, z


def _buffers(step: _Pending) -> list[_Buffer]:
    if isinstance(step, _PendingLaunch):
        return [a for a in step.arguments if isinstance(a, _Buffer)]
    if isinstance(step, _PendingCopy):
        return [step.destination, step.source]
    if isinstance(step, _PendingLoop):
        return [b for s in step.body for b in _buffers(s)]
    return [b for s in (*step.then, *step.otherwise) for b in _buffers(s)]


def _spec(tensor: BorderTensor, ty: Any, symbols: Mapping[Any, Expr]) -> TensorSpec:
    return TensorSpec(tensor.name, tensor.border_dtype, tuple(_expr(d, symbols) for d in ty.shape))


def _bytes(spec: TensorSpec) -> Expr:
    return ex.mul(ex.product(spec.shape), ex.Const(spec.dtype.bytes))


def _parameter(parameter: tirx.Var) -> str:
    """`pointer`, or the scalar type of a kernel's parameter."""
    from tvm import ir

    return str(parameter.ty.dtype) if isinstance(parameter.ty, ir.PrimType) else "pointer"


_BINARY = {
    "Add": "+", "Sub": "-", "Mul": "*", "FloorDiv": "//", "FloorMod": "%", "Min": "min", "Max": "max",
    "LT": "<", "LE": "<=", "EQ": "==", "NE": "!=", "And": "&&", "Or": "||", "LShift": "<<", "RShift": ">>",
}  # fmt: skip
_SWAPPED = {"GT": "<", "GE": "<="}


def _expr(value: Any, symbols: Mapping[Any, Any]) -> Expr:
    """A TIR integer expression in the plan's language.

    `symbols` maps TIR variables, or their names, to expressions. Truncating division equals flooring division here:
    sizes and indices are not negative.

    Raises:
        UnsupportedError: an operation that the language has not got.
    """
    from tvm import ir, tirx

    if isinstance(value, int):
        return ex.Const(value)
    if isinstance(value, tirx.IntImm):
        return ex.Const(int(value.value))
    if isinstance(value, tirx.FloatImm):
        raise UnsupportedError(f"a size depends on the real number {value.value}")
    if isinstance(value, tirx.Var):
        found = symbols.get(value, symbols.get(str(value.name)))
        if found is None or isinstance(found, _Buffer):
            raise UnsupportedError(f"a size depends on '{value.name}', which no input dimension gives")
        return found  # type: ignore[no-any-return]
    kind = type(value).__name__
    if kind in _BINARY:
        return ex.binary(_BINARY[kind], _expr(value.a, symbols), _expr(value.b, symbols))
    if kind in _SWAPPED:
        return ex.binary(_SWAPPED[kind], _expr(value.b, symbols), _expr(value.a, symbols))
    if kind in ("Div", "Mod"):
        return ex.binary("//" if kind == "Div" else "%", _expr(value.a, symbols), _expr(value.b, symbols))
    if isinstance(value, tirx.Cast):
        return _expr(value.value, symbols)
    if isinstance(value, tirx.Select):
        return ex.select(
            _expr(value.condition, symbols), _expr(value.true_value, symbols), _expr(value.false_value, symbols)
        )
    if isinstance(value, ir.Call) and isinstance(value.op, ir.Op) and value.op.name.endswith(".if_then_else"):
        condition, a, b = (_expr(argument, symbols) for argument in value.args)
        return ex.select(condition, a, b)
    if isinstance(value, tirx.BitwiseAnd) and isinstance(value.b, tirx.IntImm):
        mask = int(value.b)
        if mask > 0 and (mask + 1).bit_count() == 1:
            return ex.binary("%", _expr(value.a, symbols), ex.Const(mask + 1))
    raise UnsupportedError(f"a size or an offset is the expression '{value}', which no plan can hold yet")


def _cuda_source(kernels: Mapping[str, tuple[str, tirx.PrimFunc]], target: Target) -> str:
    """CUDA C++ of all kernels under their unique names; empty where the plan holds only copies."""
    import tvm
    from tvm import tirx

    if not kernels:
        return ""
    module = tvm.IRModule({name: device.with_attr("global_symbol", name) for name, (_, device) in kernels.items()})
    passes = tirx.transform
    module = tvm.transform.Sequential(
        [
            passes.FP8StorageLegalize(),
            passes.BF16StorageLegalize(),
            passes.LowerWarpMemory(),
            passes.StmtSimplify(),
            passes.LowerIntrin(),
        ]
    )(module)
    source: str = tvm.get_global_func("target.build.cuda")(module, target).inspect_source()
    return _HEXADECIMAL_FLOAT.sub(_decimal, source)


_HEXADECIMAL_FLOAT = re.compile(r"0x[0-9a-fA-F]+(?:\.[0-9a-fA-F]*)?p[+-]?\d+(f?)(?:/\*[^*]*\*/)?")


def _decimal(match: re.Match[str]) -> str:
    """The literal in decimal, with digits enough to give the same value: C++14 has no hexadecimal floats."""
    text, suffix = match[0].split("/*")[0], match[1]
    value = float.fromhex(text.removesuffix("f") if suffix else text)
    return f"{value:.9e}{suffix}" if suffix else f"{value:.17e}"
