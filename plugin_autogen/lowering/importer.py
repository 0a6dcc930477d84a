"""Subgraph to Relax: one converter a node, and ONNX's types and shapes checked after each."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plugin_autogen import dtypes
from plugin_autogen.errors import PluginAutogenError, UnsupportedError, one_line, shorten
from plugin_autogen.graph.model import Value
from plugin_autogen.graph.subgraph import BorderTensor, Encoding, Subgraph
from plugin_autogen.lowering import constants, control_flow, registry, tvm_frontend
from plugin_autogen.lowering.expand import expand_functions
from plugin_autogen.lowering.registry import NodeContext, TensorType, dtype_of, shape_of
from plugin_autogen.lowering.shape_inputs import ResolvedShape, ShapeInputs
from plugin_autogen.lowering.sizes import BorderSize, Size, SizeForm, Sizes, border_sizes
from plugin_autogen.lowering.te_helpers import cast_expr, const_expr

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import tvm
    from tvm import relax, tirx


@dataclass(frozen=True)
class RelaxModule:
    """The subgraph as a Relax function `main` over the border types.

    Attributes:
        module: the IRModule.
        symbols: TIR variable name of each symbolic dimension → (input, axis) that gives its value.
        reshapes: numbers of elements before and after a reshape, where they are equal for some sizes only.
        sizes: the dimensions that the data decide.
        border_sizes: those at the outputs. Their values are the last results of `main`, in this order.
        shapes: what nodes make of the inputs that hold sizes: the last parameters of `main`, in this order.
    """

    module: tvm.IRModule
    symbols: Mapping[str, tuple[int, int]]
    reshapes: tuple[tuple[tirx.Expr, tirx.Expr], ...] = ()
    sizes: tuple[Size, ...] = ()
    border_sizes: tuple[BorderSize, ...] = ()
    shapes: tuple[ResolvedShape, ...] = ()


def import_subgraph(subgraph: Subgraph, form: SizeForm = SizeForm.REAL) -> RelaxModule:
    """Converts the subgraph's ONNX model.

    Args:
        subgraph: of one plugin.
        form: what dimensions become that the data decide.

    Raises:
        UnsupportedError: an operator without converter, or one whose converter cannot take this node; also where a
            converter's result has not the type and shape that ONNX states.
    """
    from tvm import relax

    model = expand_functions(subgraph.model)
    types = _TypesOf(model)
    types.borders = {
        info.name: TensorType(tensor.dtype, tuple(tensor.shape), tuple(tensor.shape))
        for info, tensor in zip(model.graph.output, subgraph.outputs, strict=True)
        if all(isinstance(d, int) for d in tensor.shape)
    }
    types.rounded = {
        info.name: tensor.border_dtype.held_as
        for info, tensor in zip(model.graph.input, subgraph.inputs, strict=True)
        if tensor.encoding is Encoding.CAST and tensor.dtype.is_float and tensor.border_dtype.bits < tensor.dtype.bits
    }
    builder = relax.BlockBuilder()
    parameters, symbols = _parameters(subgraph)
    shape_inputs = ShapeInputs(subgraph, model.graph.node)
    shapes = [
        relax.Var(f"shape_{i}", relax.ShapeType(list(resolved.variables)))
        for i, resolved in enumerate(shape_inputs.resolved)
    ]
    types.symbols.update({str(v.name): v for v in symbols})
    values: dict[str, relax.Expr] = {}
    sizes = Sizes(form)
    with builder.function("main", [*parameters, *shapes]):
        with builder.dataflow():
            given = [(info, t) for info, t in zip(model.graph.input, subgraph.inputs, strict=True) if not t.is_shape]
            for (info, tensor), parameter in zip(given, parameters, strict=True):
                values[info.name] = _from_border(builder, parameter, tensor)
            for initializer in model.graph.initializer:
                values[initializer.name] = _constant(initializer)
            for node in model.graph.node:
                try:
                    _convert(builder, model, node, values, types, sizes, shape_inputs)
                except PluginAutogenError as error:
                    error.node = error.node or node.name
                    raise
            results = [
                _to_border(builder, values[info.name], tensor)
                for info, tensor in zip(model.graph.output, subgraph.outputs, strict=True)
            ]
            at_border, counts = border_sizes(builder, [info.name for info in model.graph.output], results, sizes)
            result = builder.emit_output(relax.Tuple([*results, *counts]))
        builder.emit_func_output(result)
    module = builder.get()
    return RelaxModule(
        module,
        {str(v.name): place for v, place in symbols.items()},
        tuple(_reshapes(module["main"])),
        tuple(sizes.declared),
        tuple(at_border),
        tuple(shape_inputs.resolved),
    )


def _reshapes(main: relax.Function) -> Iterator[tuple[tirx.Expr, tirx.Expr]]:
    """Of each reshape the numbers of elements before and after, unless they are equal for all sizes.

    An axis of size -1 is what division leaves, and may leave a rest.
    """
    from tvm import ir, relax, sym, tirx

    analyzer = sym.Analyzer()
    for block in main.body.blocks:
        for binding in block.bindings:
            call = binding.value
            if not isinstance(call, relax.Call) or call.op != ir.Op.get("relax.reshape"):
                continue
            counts: list[Any] = [math.prod(shape_of(x)) for x in (call.args[0], binding.var)]
            if all(isinstance(n, int) for n in counts):
                continue
            before, after = (tirx.const(n, "int64") if isinstance(n, int) else n for n in counts)
            if not analyzer.can_prove_equal(before, after):
                yield before, after


def lowered_by(
    node: onnx.NodeProto, opsets: Mapping[str, int], functions: Sequence[onnx.FunctionProto] = ()
) -> str | None:
    """What this node would be lowered by, in words; None where there is nothing. Its attributes are not looked at."""
    import onnx.defs

    domain = "" if node.domain == "ai.onnx" else node.domain
    opset = opsets.get(domain, 1)
    if registry.find(domain, node.op_type, opset) is not None:
        return "converter"
    if any((f.domain, f.name) == (node.domain, node.op_type) for f in functions):
        return "local function"
    if not domain and node.op_type in control_flow.OPERATORS:
        return "control flow"
    if onnx.defs.has(node.op_type, opset, domain):
        schema = onnx.defs.get_schema(node.op_type, opset, domain)
        if schema.has_function or schema.has_context_dependent_function:
            return "function body"
    if tvm_frontend.find(domain, node.op_type) is not None:
        return "TVM's importer"
    # Constant and its like need no converter: they are evaluated.
    return "constant" if not domain and node.op_type == "Constant" else None


class _TypesOf:
    """Types of the model's tensors as ONNX infers them, symbolic dimensions as the TIR variables of the inputs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        from plugin_autogen.shape_inference import infer_shapes

        with contextlib.suppress(Exception):  # inference is an aid here: what it leaves open is not checked
            model = infer_shapes(model)
        self._infos = {v.name: v for v in (*model.graph.value_info, *model.graph.input, *model.graph.output)}
        self.symbols: dict[str, tirx.Var] = {}
        self.borders: dict[str, TensorType] = {}
        """Outputs of the subgraph: their stated shape bounds results whose size depends on the data."""
        self.rounded: dict[str, str] = {}
        """Inputs of the subgraph that crossed the border in a narrower type: that type."""

    def __call__(self, name: str) -> TensorType | None:
        if name in self.borders:
            return self.borders[name]
        info = self._infos.get(name)
        if info is None or not info.type.HasField("tensor_type") or not info.type.tensor_type.elem_type:
            return None
        tensor = info.type.tensor_type
        dtype = dtypes.from_onnx(tensor.elem_type)
        if not tensor.HasField("shape"):
            return TensorType(dtype, None)
        known = tuple(
            dim.dim_value if dim.HasField("dim_value") else self.symbols.get(dim.dim_param) for dim in tensor.shape.dim
        )
        return TensorType(dtype, None if any(d is None for d in known) else known, known)


def _parameters(subgraph: Subgraph) -> tuple[list[relax.Var], dict[tirx.Var, tuple[int, int]]]:
    """The tensors among the parameters of `main` in border types, and each symbolic dimension's variable and place."""
    from tvm import relax, tirx

    symbols: dict[str, tirx.Var] = {}
    places: dict[tirx.Var, tuple[int, int]] = {}
    parameters = []
    for i, tensor in enumerate(t for t in subgraph.inputs if not t.is_shape):
        shape: list[Any] = []
        for axis, dim in enumerate(tensor.shape):
            if isinstance(dim, str) and dim not in symbols:
                symbols[dim] = tirx.Var(dim if re.fullmatch(r"[A-Za-z_]\w*", dim) else f"dim_{i}_{axis}", "int64")
                places[symbols[dim]] = (i, axis)
            shape.append(symbols[dim] if isinstance(dim, str) else dim)
        parameters.append(relax.Var(f"input_{i}", relax.TensorType(shape, tensor.memory_dtype.held_as)))
    return parameters, places


def _from_border(builder: relax.BlockBuilder, value: relax.Expr, tensor: BorderTensor) -> relax.Expr:
    return _cast(builder, value, tensor.dtype.held_as) if tensor.encoding is Encoding.CAST else value


def _to_border(builder: relax.BlockBuilder, value: relax.Expr, tensor: BorderTensor) -> relax.Expr:
    stated = tuple(d if isinstance(d, int) else None for d in tensor.shape)
    actual = shape_of(value)
    fits = len(stated) == len(actual) and all(
        s is None or not isinstance(a, int) or s == a for s, a in zip(stated, actual, strict=True)
    )
    if dtype_of(value) != tensor.dtype.held_as or not fits:
        raise UnsupportedError(
            f"output '{shorten(tensor.name)}': lowered to {dtype_of(value)}{list(actual)}, ONNX states "
            f"{tensor.dtype}{list(tensor.shape)}"
        )
    return _cast(builder, value, tensor.border_dtype.held_as) if tensor.encoding is Encoding.CAST else value


def _cast(builder: relax.BlockBuilder, value: relax.Expr, dtype: str) -> relax.Expr:
    from tvm import te

    return builder.emit_te(
        lambda x: te.compute(x.shape, lambda *i: cast_expr(x(*i), dtype), name="cast"), value, primfunc_name_hint="cast"
    )


def _constant(initializer: onnx.TensorProto) -> relax.Expr:
    import onnx.numpy_helper

    return _constant_of(onnx.numpy_helper.to_array(initializer), dtypes.from_onnx(initializer.data_type))


def _constant_of(array: np.ndarray, dtype: dtypes.ElementType) -> relax.Expr:
    import numpy as np
    from tvm import relax

    if dtype.held_as != dtype.name:
        array = array.astype(dtype.held_as)
    return relax.const(np.ascontiguousarray(array).reshape(array.shape), dtype.held_as)


def _convert(
    builder: relax.BlockBuilder,
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    values: dict[str, Any],
    types: _TypesOf,
    sizes: Sizes,
    shape_inputs: ShapeInputs,
) -> None:
    """Converts one node and adds its outputs to `values`."""

    opsets = {o.domain or "": o.version for o in model.opset_import}
    domain = "" if node.domain == "ai.onnx" else node.domain
    context = NodeContext(
        node=node,
        opset=opsets.get(domain, 1),
        builder=builder,
        inputs=tuple(values[name] if name and name not in shape_inputs else None for name in node.input),
        attributes=_attributes(node),
        outputs=tuple(types(name) if name else None for name in node.output),
        inline=lambda graph, inputs: _inline(builder, model, graph, inputs, values, types, sizes, shape_inputs),
        sizes=sizes,
        shape_inputs=shape_inputs,
        rounded={i: types.rounded[name] for i, name in enumerate(node.input) if name in types.rounded},
    )
    for i, name in enumerate(node.input):
        if name in sizes.bounded:
            context.unsupported(
                f"the data decide the size of input {i}, which TensorRT 8 knows at a plugin's outputs only",
                "let the plugin end at the node that makes it, or generate for TensorRT 10 or later",
            )
    folded = None if any(name in shape_inputs for name in node.input) else _fold(context, opsets)
    if folded is not None:
        values.update(folded)
        return
    nothing = _nothing(context)
    if nothing is not None:
        values.update(nothing)
        return
    convert = registry.find(domain, node.op_type, context.opset) or tvm_frontend.find(domain, node.op_type)
    if convert is None:
        context.unsupported(
            "no converter for this operator",
            "register one (plugin_autogen.lowering.registry.converter) or give the operator a function body",
        )
    results = _results(convert, context)
    for i, name in enumerate(node.output):
        if not name:
            continue
        if i >= len(results):
            context.unsupported(f"output {i} ('{shorten(name)}') is not computed by the converter")
        value = results[i]
        assert value is not None
        _check_type(context, i, value)
        values[name] = value


def _results(convert: registry.Converter, context: NodeContext) -> list[relax.Expr | None]:
    """What the converter gives, as variables or constants; None for an output that the node leaves out.

    The converter's exceptions become one line that names the node.
    """
    from tvm import relax, te

    builder = context.builder
    try:
        given = convert(context)
        found = list(given) if isinstance(given, (list, tuple, relax.Tuple)) else [given]
        values: list[relax.Expr | None] = []
        for i, value in enumerate(found):
            if not context.has_output(i):
                values.append(None)
                continue
            if not isinstance(value, relax.Expr) or isinstance(value, te.Tensor):
                context.unsupported(f"the converter gives a {type(value).__name__}, no Relax expression")
            value = value if isinstance(value, relax.Var) else builder.normalize(value)
            if not isinstance(value, relax.Var) and registry.constant_value(value) is None:
                value = builder.emit(value)
            values.append(value)
        if not values:
            context.unsupported("the converter gives no output")
    except PluginAutogenError:
        raise
    except Exception as error:  # TVM raises many kinds
        raise UnsupportedError(f"{context.label}: cannot be lowered: {_last_line(error)}") from error
    return values


def converted_types(
    node: onnx.NodeProto, opset: int, inputs: Sequence[Value], constants: Mapping[str, onnx.TensorProto]
) -> list[Value] | None:
    """Types and shapes of the node's outputs as its converter gives them; None where an input's are not known.

    Args:
        node: a node with a converter.
        opset: the version of its domain.
        inputs: what is known of its inputs, in order.
        constants: values of the inputs that are constant, by name.

    Raises:
        UnsupportedError: the converter cannot take these inputs.
    """
    from tvm import relax, tirx

    symbols: dict[str, tirx.Var] = {}
    parameters: list[relax.Var] = []
    values: list[relax.Expr | None] = []
    for i, (name, known) in enumerate(zip(node.input, inputs, strict=True)):
        if not name:
            values.append(None)
        elif name in constants:
            values.append(_constant(constants[name]))
        elif not known.dtype or known.shape is None:
            return None
        else:
            shape: list[Any] = []
            for axis, size in enumerate(known.shape):
                if not isinstance(size, int):
                    key = size or f"dim_{i}_{axis}"
                    size = symbols.setdefault(key, tirx.Var(f"d{len(symbols)}", "int64"))
                shape.append(size)
            dtype = dtypes.from_onnx(known.dtype).held_as
            parameters.append(relax.Var(f"input_{i}", relax.TensorType(shape, dtype)))
            values.append(parameters[-1])
    convert = registry.find(node.domain, node.op_type, opset)
    assert convert is not None
    names = {str(variable): name for name, variable in symbols.items()}
    builder = relax.BlockBuilder()
    with builder.function("main", parameters):
        with builder.dataflow():
            context = NodeContext(
                node=node,
                opset=opset,
                builder=builder,
                inputs=tuple(values),
                attributes=_attributes(node),
                outputs=(None,) * len(node.output),
                inline=lambda graph, inputs: context.unsupported("the types of its outputs must be stated"),
                sizes=Sizes(),
                shape_inputs=ShapeInputs(),
            )
            results = _results(convert, context)
            result = builder.emit_output(relax.Tuple([value for value in results if value is not None]))
        builder.emit_func_output(result)

    def stated(value: relax.Expr) -> Value:
        shape = tuple(size if isinstance(size, int) else names.get(str(size)) for size in shape_of(value))
        return Value(dtypes.from_name(dtype_of(value)).onnx, shape)

    return [Value() if value is None else stated(value) for value in results]


def _inline(
    builder: relax.BlockBuilder,
    model: onnx.ModelProto,
    graph: onnx.GraphProto,
    inputs: Sequence[relax.Expr],
    outer: Mapping[str, Any],
    outer_types: _TypesOf,
    sizes: Sizes,
    shape_inputs: ShapeInputs,
) -> list[relax.Expr]:
    """The outputs of a graph that a node of `model` has as an attribute. It sees the tensors around it."""
    import onnx

    inner = onnx.ModelProto()
    inner.CopyFrom(model)
    inner.graph.CopyFrom(graph)
    symbols = dict(outer_types.symbols)
    for i, (info, value) in enumerate(zip(inner.graph.input, inputs, strict=True)):
        del info.type.tensor_type.shape.dim[:]
        info.type.tensor_type.elem_type = dtypes.from_name(dtype_of(value)).onnx
        for axis, size in enumerate(shape_of(value)):
            dimension = info.type.tensor_type.shape.dim.add()
            if isinstance(size, int):
                dimension.dim_value = size
            else:
                name = next((n for n, s in symbols.items() if s.same_as(size)), f"{graph.name}_{i}_{axis}")
                symbols[name] = size
                dimension.dim_param = name
    inner = expand_functions(inner)
    types = _TypesOf(inner)
    types.symbols = symbols
    values = dict(outer) | dict(zip((info.name for info in inner.graph.input), inputs, strict=True))
    values |= {initializer.name: _constant(initializer) for initializer in inner.graph.initializer}
    for node in inner.graph.node:
        _convert(builder, inner, node, values, types, sizes, shape_inputs)
    return [values[info.name] for info in inner.graph.output]


def _fold(context: NodeContext, opsets: Mapping[str, int]) -> dict[str, relax.Expr] | None:
    """The outputs of a node that depends on constants alone; None where it does not, or a converter serves better."""
    inputs = [None if v is None else registry.constant_value(v) for v in context.inputs]
    if any(known is None and given is not None for known, given in zip(inputs, context.inputs, strict=True)):
        return None
    arrays = constants.evaluate(context.node, opsets, inputs)
    names = [name for name in context.node.output if name]
    stated = [t for name, t in zip(context.node.output, context.outputs, strict=True) if name]
    if arrays is None or any(
        t is not None and (a.dtype.name != t.dtype.name or (t.shape is not None and a.shape != t.shape))
        for a, t in zip(arrays, stated, strict=True)
    ):
        return None
    try:
        return {name: _constant_of(a, dtypes.from_name(a.dtype.name)) for name, a in zip(names, arrays, strict=True)}
    except UnsupportedError:  # an element type that only the evaluator knows
        return None


def _nothing(context: NodeContext) -> dict[str, relax.Expr] | None:
    """The outputs of a node none of which has an element, so that no converter needs to care; None for another node."""
    from tvm import te, tirx

    stated = {name: t for name, t in zip(context.node.output, context.outputs, strict=True) if name}
    if any(t is None or t.shape is None or 0 not in t.shape for t in stated.values()):
        return None
    # with an input of the subgraph among its arguments TVM does not fold it: it has no constants without elements
    given = [x for x in context.inputs if x is not None and registry.constant_value(x) is None][:1]

    def compute(dtype: str, shape: Sequence[Any]) -> relax.Expr:
        wide = [tirx.const(d, "int64") if isinstance(d, int) else d for d in shape]
        return context.te(lambda *_: te.compute(wide, lambda *__: const_expr(0, dtype), name="nothing"), *given)

    return {n: compute(t.dtype.held_as, t.shape or ()) for n, t in stated.items() if t is not None}


def _check_type(context: NodeContext, index: int, value: relax.Expr) -> None:
    """TVM's importer is sometimes wrong about types: what ONNX states must come out, exactly."""
    stated = context.outputs[index] if index < len(context.outputs) else None
    if stated is None:
        return
    actual, shape = dtype_of(value), shape_of(value)
    same = stated.shape is None or (
        len(shape) == len(stated.shape)
        and all(a == s for a, s in zip(shape, stated.shape, strict=True) if isinstance(a, int) and isinstance(s, int))
    )
    if actual != stated.dtype.held_as or not same:
        context.unsupported(
            f"output {index} was lowered to {actual}{list(shape)}, ONNX states {stated.dtype}"
            f"{list(stated.shape) if stated.shape is not None else ''}"
        )


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes as Python values: bytes decoded, tensors as numpy arrays."""
    import onnx
    import onnx.numpy_helper

    attributes: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif attribute.type == onnx.AttributeProto.STRINGS:
            value = [v.decode("utf-8", "replace") for v in value]
        elif attribute.type == onnx.AttributeProto.TENSOR:
            value = onnx.numpy_helper.to_array(value)
        elif attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
            value = list(value)
        attributes[attribute.name] = value
    return attributes


def _last_line(error: Exception) -> str:
    """The part of TVM's many-line messages that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shorten(lines[-1] if lines else type(error).__name__, 300) if lines else one_line(type(error).__name__)
