"""The kernels of a float32 plugin over a narrower type: the same functions, with narrow tensors in memory.

A function's float32 parameter becomes narrow by converting where it is loaded and where it is stored: nothing else
changes, sums and everything in between stay float32, and no kernel is added. Narrow are

- the plugin's borders, as `BorderTensor` says;
- tensors inside that hold moved border values, and nothing else: no digit is lost;
- for float16 the operands of matrix products and convolutions, weights among them, so that tensor cores multiply them
  (`schedule/rules/tensor_cores.py`): the sums stay float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plugin_autogen.graph.subgraph import Subgraph
from plugin_autogen.lowering.registry import constant_value, dtype_of
from plugin_autogen.lowering.te_helpers import cast_expr

if TYPE_CHECKING:
    import numpy as np
    import tvm
    from tvm import relax, tirx

WIDE = "float32"
MATRIX_TYPE = "float16"
"""The narrow type whose products tensor cores sum in float32."""


def with_borders(module: tvm.IRModule, subgraph: Subgraph) -> tvm.IRModule:
    """The legalized module with the border types of `subgraph`; itself where it has them.

    Args:
        module: what `legalize` gave for a subgraph that differs from this one in float32 border types alone.
        subgraph: its border types, each float32 in the module or as it is there.
    """
    main = module["main"]
    results = _results(main)
    inputs = _narrowed(main.params, [t.memory_dtype.held_as for t in subgraph.inputs])
    outputs = _narrowed(results, [t.memory_dtype.held_as for t in subgraph.outputs])
    if not inputs and not outputs:
        return module
    from tvm import relax

    module = relax.transform.RewriteDataflowReshape()(module)
    return _Rewriter(module, inputs, outputs, subgraph.narrow_operands).run()


def _narrowed(values: Sequence[Any], wanted: Sequence[str]) -> dict[int, str]:
    """Position → type of the float32 values that are wanted in another one."""
    pairs = zip(values, wanted, strict=True)
    return {i: dtype for i, (value, dtype) in enumerate(pairs) if dtype_of(value) == WIDE != dtype}


def _results(main: relax.Function) -> list[Any]:
    """What `main` returns, as variables or constants."""
    from tvm import relax

    result = main.body.body
    bound = {b.var: b.value for block in main.body.blocks for b in block.bindings}
    while result in bound and not isinstance(bound[result], relax.Call):
        result = bound[result]
    return list(result.fields) if isinstance(result, relax.Tuple) else [result]


# functions ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Accesses:
    """The loads and stores below a statement or value, each occurrence once."""

    loads: list[Any]
    stores: list[Any]

    def loads_of(self, buffer: Any) -> list[Any]:
        return [load for load in self.loads if load.source.same_as(buffer)]

    def stores_of(self, buffer: Any) -> list[Any]:
        return [store for store in self.stores if store.buffer.same_as(buffer)]


def _accesses(below: Any) -> _Accesses:
    import tvm_ffi
    from tvm import ir, tirx

    found = _Accesses([], [])
    tvm_ffi.structural_walk(below, [(ir.TensorLoad, found.loads.append), (tirx.BufferStore, found.stores.append)])
    return found


@dataclass(frozen=True, eq=False)
class _Function:
    """What a TIR function does with its float32 parameters, by position.

    Attributes:
        function: the function.
        convertible: those that it may hold in another type.
        operands: those whose elements are operands of its matrix product and nothing else.
        windows: buffers of its own between these and the product: moved operands, the windows of a convolution.
        sums: those that it reads back, and that therefore stay float32 until the end.
        moves: whether every float32 that it stores is one that it loaded, or a literal that all types have.
    """

    function: tirx.PrimFunc
    convertible: frozenset[int]
    operands: frozenset[int]
    windows: tuple[Any, ...]
    sums: frozenset[int]
    moves: bool

    def wide(self, count: int) -> list[int]:
        """The float32 parameters among the first `count`."""
        return [i for i, p in enumerate(self.function.params[:count]) if _is_wide(p)]


def _described(function: tirx.PrimFunc) -> _Function:
    accesses = _accesses(function.body)
    wide = {i: p for i, p in enumerate(function.params) if _is_wide(p)}
    sums = {i for i, p in wide.items() if accesses.stores_of(p) and accesses.loads_of(p)}
    plain = _accesses_of_stages(function)
    convertible = {
        i
        for i, p in wide.items()
        if not _has_other_uses(function.body, p)
        and (i not in sums or len(plain.stores_of(p)) == len(accesses.stores_of(p)))
    }
    operands = _operands(function, accesses)
    return _Function(
        function,
        frozenset(convertible),
        frozenset(i for i, p in wide.items() if i in convertible and any(p.same_as(o) for o in operands)),
        tuple(o for o in operands if not any(o.same_as(p) for p in function.params)),
        frozenset(sums),
        not sums and all(_is_move(store.value) for store in accesses.stores if _is_wide(store.buffer)),
    )


def _is_wide(buffer: Any) -> bool:
    return hasattr(buffer.ty, "shape") and str(buffer.ty.dtype) == WIDE


def _accesses_of_stages(function: tirx.PrimFunc) -> _Accesses:
    """The accesses of the function's tensor expressions: blocks that are one store, as schedule rules take them."""
    import tvm_ffi
    from tvm import s_tir, tirx

    found = _Accesses([], [])

    def visit(block: s_tir.SBlock) -> None:
        if isinstance(block.body, tirx.BufferStore):
            for part in (block.body, *([block.init] if block.init is not None else [])):
                inside = _accesses(part)
                found.loads.extend(inside.loads)
                found.stores.extend(inside.stores)

    if isinstance(function.body, s_tir.SBlockRealize):
        tvm_ffi.structural_walk(function.body, (s_tir.SBlock, visit))
    return found


def _has_other_uses(body: Any, buffer: Any) -> bool:
    """Whether more is done with the buffer than loading and storing its elements: its pointer may be passed on."""
    import tvm_ffi
    from tvm import ir, s_tir, tirx

    count = 0

    def add(place: Any, number: int) -> None:
        nonlocal count
        if place.same_as(buffer):
            count += number

    tvm_ffi.structural_walk(
        body,
        [
            (ir.Var, lambda v: add(v, 1)),
            (ir.TensorLoad, lambda load: add(load.source, -1)),
            (tirx.BufferStore, lambda store: add(store.buffer, -1)),
            (ir.TensorRegion, lambda region: add(region.source, -1)),
            (s_tir.MatchBufferRegion, lambda match: add(match.source.source, 2)),
        ],
    )
    return count != 0


def _operands(function: tirx.PrimFunc, accesses: _Accesses) -> list[Any]:
    """The buffers that hold operands of the function's float32 matrix product, moved on the way to it or not."""
    from tvm import s_tir

    from plugin_autogen.schedule.rules.matmul import contraction_of

    try:
        schedule = s_tir.Schedule(function)
        found = contraction_of(schedule)
    except Exception:  # a hand-written kernel is no list of blocks
        return []
    if found is None:
        return []
    block = schedule.get(found)
    if not _is_wide(block.writes[0].source):
        return []
    reads = [load for load in _accesses(block.body).loads if not load.source.same_as(block.writes[0].source)]
    operands: list[Any] = []
    while reads:
        buffer = reads.pop().source
        if any(buffer.same_as(o) for o in operands):
            continue
        stores = accesses.stores_of(buffer)
        if not _is_wide(buffer) or not all(_is_move(store.value) for store in stores):
            return []
        operands.append(buffer)
        reads += [load for store in stores for load in _accesses(store.value).loads]
    product = _accesses(block.body)
    for buffer in operands:  # each of them must lead there, and nowhere else
        inside = len(product.loads_of(buffer))
        inside += sum(len(_accesses(s.value).loads_of(buffer)) for o in operands for s in accesses.stores_of(o))
        if len(accesses.loads_of(buffer)) != inside:
            return []
    return operands


def _is_move(value: Any) -> bool:
    """Whether a float32 value is an element, or one of several elements and literals that narrow types have too."""
    from tvm import ir, tirx

    branches = _branches(value)
    if branches is not None:
        return all(map(_is_move, branches))
    if isinstance(value, tirx.FloatImm):
        return _is_short(float(value.value))
    return isinstance(value, ir.TensorLoad)


def _branches(value: Any) -> tuple[Any, Any] | None:
    from tvm import ir, tirx

    if isinstance(value, tirx.Select):
        return value.true_value, value.false_value
    if isinstance(value, ir.Call) and isinstance(value.op, ir.Op) and value.op.name.endswith(".if_then_else"):
        return value.args[1], value.args[2]
    return None


def _is_short(number: float) -> bool:
    import ml_dtypes
    import numpy as np

    with np.errstate(over="ignore"):
        return all(float(np.float32(number).astype(t)) == number for t in (np.float16, ml_dtypes.bfloat16))


def _converted(described: _Function, types: Mapping[int, str]) -> tirx.PrimFunc:
    """The function with these parameters in other types."""
    import tvm_ffi
    from tvm import ir, s_tir, tirx

    function = described.function
    parameters = list(function.params)
    replaced: dict[Any, Any] = {}
    stages, sums = [], []
    for i, dtype in types.items():
        old = function.params[i]
        parameters[i] = tirx.decl_buffer(old.shape, dtype, old.name)
        replaced[old] = parameters[i]
        if i in described.sums:
            replaced[old] = tirx.decl_buffer(old.shape, WIDE, f"{old.name}_sums")
            sums.append(replaced[old])
            stages.append(_narrowing_stage(replaced[old], parameters[i]))
    if described.operands and described.operands <= types.keys():
        matrix = {types[i] for i in described.operands}
        replaced |= {w: tirx.decl_buffer(w.shape, *matrix, w.name) for w in described.windows if len(matrix) == 1}

    def load(old: Any) -> Any:
        new = replaced.get(old.source)
        return old if new is None else cast_expr(tirx.BufferLoad(new, old.indices), WIDE)

    def store(old: Any) -> Any:
        new = replaced.get(old.buffer)
        return old if new is None else tirx.BufferStore(new, _stored(old.value, str(new.dtype)), old.indices)

    def region(old: Any) -> Any:
        new = replaced.get(old.source)
        return old if new is None else tirx.BufferRegion(new, old.region)

    def block(old: Any) -> Any:
        if not any(b in replaced for b in old.alloc_buffers):
            return old
        return _with_buffers(old, [replaced.get(b, b) for b in old.alloc_buffers], old.body)

    callbacks = [(ir.TensorLoad, load), (tirx.BufferStore, store), (ir.TensorRegion, region), (s_tir.SBlock, block)]
    body = tvm_ffi.structural_map(function.body, callbacks)
    if stages:
        root = body.block
        root = _with_buffers(root, [*root.alloc_buffers, *sums], tirx.SeqStmt([root.body, *stages]))
        body = s_tir.SBlockRealize(body.iter_values, body.predicate, root)
    return tirx.PrimFunc(parameters, body, function.ret_type, function.attrs)


def _with_buffers(block: Any, buffers: Sequence[Any], body: Any) -> Any:
    from tvm import s_tir

    return s_tir.SBlock(
        block.iter_vars,
        block.reads,
        block.writes,
        block.name_hint,
        body,
        block.init,
        buffers,
        block.match_buffers,
        block.annotations,
    )


def _stored(value: Any, dtype: str) -> Any:
    """The float32 in a narrow type. What is merely moved is not converted there and back."""
    from tvm import ir, tirx

    if isinstance(value, tirx.Cast) and str(value.value.ty.dtype) == dtype:
        return value.value
    branches = _branches(value)
    if branches is not None and all(_is_moved(b, dtype) for b in branches):
        a, b = (_stored(branch, dtype) for branch in branches)
        if isinstance(value, tirx.Select):
            return tirx.Select(value.condition, a, b)
        assert isinstance(value, ir.Call)
        return tirx.if_then_else(value.args[0], a, b)
    return cast_expr(value, dtype)


def _is_moved(value: Any, dtype: str) -> bool:
    from tvm import tirx

    branches = _branches(value)
    if branches is not None:
        return all(_is_moved(b, dtype) for b in branches)
    if isinstance(value, tirx.FloatImm):
        return _is_short(float(value.value))
    return isinstance(value, tirx.Cast) and str(value.value.ty.dtype) == dtype


def _narrowing_stage(sums: Any, result: Any) -> Any:
    """The loops that store float32 sums in the result's type, as schedule rules know them from tensor expressions."""
    import tvm_ffi
    from tvm import ir, te, tirx

    wide = te.placeholder(sums.shape, WIDE, "sums")
    narrow = te.compute(sums.shape, lambda *i: cast_expr(wide(*i), str(result.dtype)), name="narrow")
    function = te.create_prim_func([wide, narrow], "int64")
    replaced = dict(zip(function.params, (sums, result), strict=True))
    return tvm_ffi.structural_map(
        function.body.block.body,
        [
            (ir.TensorLoad, lambda load: tirx.BufferLoad(replaced[load.source], load.indices)),
            (tirx.BufferStore, lambda s: tirx.BufferStore(replaced[s.buffer], s.value, s.indices)),
            (ir.TensorRegion, lambda r: tirx.BufferRegion(replaced[r.source], r.region)),
        ],
    )


# main -----------------------------------------------------------------------------------------------------------------

_Slot = tuple[Any, int]
"""A tensor in memory: the variable of the call that makes it and its number among the results, or a parameter.

A constant has a slot for each place that it is used at: the argument's number, negative, of the call.
"""


@dataclass(frozen=True, eq=False)
class _Call:
    """A call of a TIR function: the slot of each tensor parameter, inputs before outputs."""

    variable: Any
    described: _Function
    slots: Mapping[int, _Slot]
    inputs: int

    @property
    def made(self) -> list[_Slot]:
        return [slot for i, slot in self.slots.items() if i >= self.inputs]


class _Rewriter:
    """Decides which tensors of `main` are narrow, and writes it anew."""

    def __init__(
        self, module: tvm.IRModule, inputs: Mapping[int, str], outputs: Mapping[int, str], narrow_operands: bool
    ) -> None:
        self._module = module
        self._main = module["main"]
        self._outputs = outputs
        self._bindings = [b for block in self._main.body.blocks for b in block.bindings]
        self._values = {b.var: b.value for b in self._bindings}
        self._parameters = set(self._main.params)
        self._described: dict[str, _Function] = {}
        self._constants: dict[_Slot, Any] = {}
        self._calls = [c for b in self._bindings if (c := self._call(b)) is not None]
        self._narrow: dict[_Slot, str] = {(self._main.params[i], 0): dtype for i, dtype in inputs.items()}
        results = _results(self._main)
        for i, dtype in outputs.items():
            slot = self._slot(results[i])
            if slot is not None:
                self._narrow[slot] = dtype
        dtypes = {*inputs.values(), *outputs.values()}
        self._dtype = dtypes.pop()
        assert not dtypes, "the borders of a variant have one narrow type"
        self._narrow_moved()
        if self._dtype == MATRIX_TYPE and narrow_operands:
            self._narrow_operands()

    def _call(self, binding: Any) -> _Call | None:
        from tvm import ir, relax

        call = binding.value
        if not isinstance(call, relax.Call) or call.op != ir.Op.get("relax.call_tir"):
            return None
        function, arguments = call.args[0], call.args[1].fields
        name = function.name_hint
        if name not in self._described:
            self._described[name] = _described(self._module[function])
        slots: dict[int, _Slot] = {}
        for i, argument in enumerate(arguments):
            if constant_value(argument) is not None:
                slots[i] = (binding.var, -1 - i)
                self._constants[slots[i]] = argument
            elif (slot := self._slot(argument)) is not None:
                slots[i] = slot
        for i in range(len(arguments), len(self._module[function].params)):
            slots[i] = (binding.var, i - len(arguments))
        return _Call(binding.var, self._described[name], slots, len(arguments))

    def _slot(self, value: Any) -> _Slot | None:
        """Where the tensor lies: behind names, views and parts of tuples. None for a constant and for scalars."""
        from tvm import relax

        index = 0
        while True:
            if isinstance(value, relax.TupleGetItem):
                value, index = value.tuple_value, value.index
            elif isinstance(value, relax.Var) and _is_view(self._values.get(value)):
                value = _viewed(self._values[value])
            elif isinstance(value, relax.Var) and isinstance(self._values.get(value), (relax.Var, relax.TupleGetItem)):
                value = self._values[value]
            else:
                is_tensor = value in self._values or value in self._parameters
                return (value, index) if isinstance(value, relax.Var) and is_tensor else None

    # which tensors -----------------------------------------------------------------------------------------------

    def _uses(self) -> dict[_Slot, list[tuple[_Call, int]]]:
        uses: dict[_Slot, list[tuple[_Call, int]]] = {}
        for call in self._calls:
            for i, slot in call.slots.items():
                uses.setdefault(slot, []).append((call, i))
        return uses

    def _narrow_moved(self) -> None:
        """Tensors that hold narrow tensors' elements and nothing else, where every function can take them so."""
        uses = self._uses()
        for call in self._calls:  # in order, so that one pass reaches the end of a chain
            wide = call.described.wide(call.inputs)
            if not wide or not call.described.moves or any(call.slots[i] not in self._narrow for i in wide):
                continue
            for i, slot in call.slots.items():
                if i >= call.inputs and _is_wide(call.described.function.params[i]) and _all_convertible(uses[slot]):
                    self._narrow.setdefault(slot, self._dtype)

    def _narrow_operands(self) -> None:
        """Constants and tensors that are operands of products alone, both of whose operands are or become narrow."""
        uses = self._uses()
        chosen = {
            slot
            for slot, places in uses.items()
            if slot not in self._narrow
            and all(i in c.described.convertible for c, i in places)
            and (slot in self._constants or any(i >= c.inputs for c, i in places))
            and (slot not in self._constants or _fits(constant_value(self._constants[slot])))
        }

        def is_narrow(slot: _Slot) -> bool:
            return slot in chosen or slot in self._narrow

        def serves(call: _Call, i: int) -> bool:
            if i >= call.inputs:
                return True
            if i in call.described.operands:
                return all(is_narrow(call.slots[o]) for o in call.described.operands)
            return call.described.moves and all(map(is_narrow, call.made))

        results = {self._slot(value) for value in _results(self._main)}
        chosen -= {slot for slot in results if slot is not None}
        chosen = {slot for slot in chosen if any(i < c.inputs for c, i in uses[slot])}
        while dropped := {slot for slot in chosen if not all(serves(c, i) for c, i in uses[slot])}:
            chosen -= dropped
        self._narrow.update(dict.fromkeys(chosen, self._dtype))

    # the new main --------------------------------------------------------------------------------------------------

    def run(self) -> tvm.IRModule:
        from tvm import relax

        self._builder = relax.BlockBuilder()
        self._made: dict[tuple[str, tuple[tuple[int, str], ...]], Any] = {}
        parameters = [
            relax.Var(p.name, relax.TensorType(p.ty.shape.values, self._narrow[p, 0])) if (p, 0) in self._narrow else p
            for p in self._main.params
        ]
        self._new: dict[Any, Any] = dict(zip(self._main.params, parameters, strict=True))
        calls = {call.variable: call for call in self._calls}
        with self._builder.function("main", parameters):
            with self._builder.dataflow():
                for binding in self._bindings:
                    if binding.var in calls:
                        self._new[binding.var] = self._emit_call(calls[binding.var], binding.value)
                    else:
                        self._new[binding.var] = self._emit(binding.value)
                results = [self._result(i, value) for i, value in enumerate(_results(self._main))]
                result = self._builder.emit_output(relax.Tuple(results))
            self._builder.emit_func_output(result)
        return self._builder.get()

    def _emit(self, value: Any) -> Any:
        """A binding that is no call of a TIR function."""
        from tvm import relax

        if isinstance(value, relax.Tuple):
            return relax.Tuple([self._argument(field) for field in value.fields])
        if isinstance(value, relax.TupleGetItem):
            return self._emit_item(value)
        if isinstance(value, relax.Var):
            return self._new[value]
        if _is_view(value):
            return self._builder.emit(_view_of(value, self._argument(_viewed(value))))
        if isinstance(value, relax.Call):  # another kind of call keeps its types
            arguments = [self._as_wide(a) for a in value.args]
            return self._builder.emit(relax.Call(value.op, arguments, value.attrs, value.ty_args))
        return self._builder.emit(value)

    def _emit_item(self, value: Any) -> Any:
        from tvm import relax

        whole = self._new[value.tuple_value]
        return (
            whole.fields[value.index]
            if isinstance(whole, relax.Tuple)
            else self._builder.emit(relax.TupleGetItem(whole, value.index))
        )

    def _argument(self, value: Any) -> Any:
        """What stands for a tensor now; constants and scalars stay."""
        from tvm import relax

        return self._new.get(value, value) if isinstance(value, relax.Var) else value

    def _as_wide(self, value: Any) -> Any:
        new = self._argument(value)
        return self._cast(new, WIDE) if self._slot(value) in self._narrow else new

    def _cast(self, value: Any, dtype: str) -> Any:
        from tvm import te

        return self._builder.emit_te(
            lambda x: te.compute(x.shape, lambda *i: cast_expr(x(*i), dtype), name="cast"),
            value,
            primfunc_name_hint="cast",
        )

    def _result(self, index: int, value: Any) -> Any:
        new = self._argument(value)
        wanted = self._outputs.get(index)
        if wanted is None or dtype_of(new) == wanted:
            return new
        return self._cast(new, wanted) if constant_value(new) is None else _constant(new, wanted)

    def _emit_call(self, call: _Call, value: Any) -> Any:
        from tvm import relax

        described = call.described
        types = {
            i: self._narrow[slot]
            for i, slot in call.slots.items()
            if slot in self._narrow and i in described.convertible
        }
        arguments = []
        for i, argument in enumerate(value.args[1].fields):
            slot = call.slots.get(i)
            if slot in self._constants and i in types:
                arguments.append(_constant(argument, types[i]))
            elif slot in self._narrow and i not in types:
                arguments.append(self._as_wide(argument))
            else:
                arguments.append(self._argument(argument))
        stated = value.ty_args[0]
        stated = list(stated.fields) if isinstance(stated, relax.TupleType) else [stated]
        results = [
            relax.TensorType(t.shape.values, types[i]) if (i := call.inputs + k) in types else t
            for k, t in enumerate(stated)
        ]
        key = (value.args[0].name_hint, tuple(sorted(types.items())))
        if key not in self._made:
            function = _converted(described, types) if types else described.function
            self._made[key] = self._builder.add_func(function, key[0])
        new = self._builder.emit(relax.call_tir(self._made[key], arguments, results))
        late = [
            i - call.inputs
            for i, slot in call.slots.items()
            if i >= call.inputs and slot in self._narrow and i not in types
        ]
        if not late:
            return new
        if len(results) == 1:
            return self._cast(new, self._narrow[call.variable, 0])
        parts = [self._builder.emit(relax.TupleGetItem(new, k)) for k in range(len(results))]
        return relax.Tuple(
            [self._cast(p, self._narrow[call.variable, k]) if k in late else p for k, p in enumerate(parts)]
        )


def _all_convertible(uses: Sequence[tuple[_Call, int]]) -> bool:
    return all(i in call.described.convertible for call, i in uses)


def _is_view(value: Any) -> bool:
    """Whether the value is the same memory as its first argument, under another shape."""
    from tvm import ir, relax

    if not isinstance(value, relax.Call):
        return False
    if isinstance(value.op, ir.Op) and value.op.name == "relax.call_pure_packed":
        return isinstance(value.args[0], relax.ExternFunc) and str(value.args[0].global_symbol) == _VIEW
    return isinstance(value.op, ir.Op) and value.op.name == "relax.reshape"


_VIEW = "vm.builtin.reshape"


def _viewed(value: Any) -> Any:
    return value.args[0] if value.op.name == "relax.reshape" else value.args[1]


def _view_of(view: Any, value: Any) -> Any:
    """The same view of another value."""
    from tvm import relax

    if view.op.name == "relax.reshape":
        return relax.op.reshape(value, view.args[1])
    shape = view.args[2]
    ty = relax.TensorType(shape.values, dtype_of(value))
    return relax.op.call_pure_packed(_VIEW, value, shape, ty_args=[ty])


def _fits(array: np.ndarray | None) -> bool:
    """Whether float16 holds a weight: no infinity appears, and none that counts among the others becomes 0."""
    import numpy as np

    if array is None or array.dtype != np.float32 or not np.isfinite(array).all() or not array.size:
        return False
    with np.errstate(over="ignore"):
        error = np.abs(array - array.astype(np.float16).astype(np.float32)).max()
    return bool(error <= np.abs(array).max() * 2**-10)


def _constant(expr: Any, dtype: str) -> Any:
    from tvm import relax

    value = constant_value(expr)
    assert value is not None
    return relax.const(value.astype(dtype), dtype)
