"""If, Loop and Scan as straight graphs: branches evaluated and selected, loops with a known trip count unrolled.

A loop whose condition only the data decides runs in full, and iterations after its end change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from plugin_autogen.errors import UnsupportedError, shorten
from plugin_autogen.lowering.constants import evaluate

if TYPE_CHECKING:
    import numpy as np
    import onnx

OPERATORS = ("If", "Loop", "Scan")
MAX_NODES = 20_000
"""An unrolled graph with more nodes is refused: its kernels would take minutes to compile."""


def has_control_flow(model: onnx.ModelProto) -> bool:
    """Whether the main graph holds a node that `expand_control_flow` replaces."""
    return any(_is_control_flow(node) for node in model.graph.node)


def expand_control_flow(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the bodies of If, Loop and Scan in their place.

    Raises:
        UnsupportedError: a trip count that only the data decides, branches of different shapes, sequences.
    """
    import onnx

    expanded = onnx.ModelProto()
    expanded.CopyFrom(model)
    while has_control_flow(expanded):
        _Expansion(expanded).run()
    return expanded


def _is_control_flow(node: onnx.NodeProto) -> bool:
    return node.domain in ("", "ai.onnx") and node.op_type in OPERATORS


class _Expansion:
    """One pass over the main graph; control flow inside of bodies is left for the next pass."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._opsets = {o.domain: o.version for o in model.opset_import}
        self._opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
        self._types = _types(model)
        self._constants = {i.name: _value(i) for i in model.graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        self._names = {n for node in model.graph.node for n in (*node.input, *node.output)}
        self._names |= {v.name for v in (*model.graph.input, *model.graph.initializer)}
        self._count = 0

    def run(self) -> None:
        """Replaces the control flow nodes of the graph."""
        for node in list(self._graph.node):
            if not _is_control_flow(node):
                self._append(node)
                continue
            results = {"If": self._if, "Loop": self._loop, "Scan": self._scan}[node.op_type](node)
            for name, value in zip(node.output, results, strict=False):
                if name:
                    self._emit("Identity", [value], output=name)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)

    # the three operators ---------------------------------------------------------------------------------------------

    def _if(self, node: onnx.NodeProto) -> list[str]:
        branches = [_attribute(node, "then_branch"), _attribute(node, "else_branch")]
        condition = self._constants.get(node.input[0])
        if condition is not None:
            return self._inline(branches[0] if bool(condition.reshape(-1)[0]) else branches[1], {})
        results = [self._inline(branch, {}) for branch in branches]
        shapes = [[self._shape_after(name) for name in names] for names in results]
        for i, name in enumerate(node.output):
            if shapes[0][i] is None or shapes[0][i] != shapes[1][i]:
                _refuse(node, f"the branches give '{shorten(name)}' the shapes {shapes[0][i]} and {shapes[1][i]}")
        scalar = self._emit("Reshape", [node.input[0], self._integers([])])
        return [self._emit("Where", [scalar, a, b]) for a, b in zip(*results, strict=True)]

    def _loop(self, node: onnx.NodeProto) -> list[str]:
        body = _attribute(node, "body")
        trips = self._constants.get(node.input[0]) if node.input[0] else None
        condition = node.input[1] if len(node.input) > 1 else ""
        if trips is None:
            _refuse(node, "the trip count must be constant", "make it an initializer")
        count = int(trips.reshape(-1)[0])
        state = list(node.input[2:])
        active: str | None = None
        if condition:
            known = self._constants.get(condition)
            if known is None:
                active = condition
            elif not bool(known.reshape(-1)[0]):
                count = 0
        self._check_size(node, body, count)
        stacked: list[list[str]] = [[] for _ in range(len(body.output) - 1 - len(state))]
        for step in range(count):
            current = active or self._booleans(True)
            bound = dict(zip((i.name for i in body.input), [self._integers(step), current, *state], strict=False))
            after, *values = self._inline(body, bound)
            carried, collected = values[: len(state)], values[len(state) :]
            if active is not None:  # an iteration that does not run leaves the state as it is
                if collected and not self._states_length(node, len(state), count):
                    _refuse(node, "the number of collected results depends on the data")
                gate = self._emit("Reshape", [active, self._integers([])])
                carried = [self._emit("Where", [gate, new, old]) for new, old in zip(carried, state, strict=True)]
            state = carried
            for stack, value in zip(stacked, collected, strict=True):
                stack.append(value)
            active = self._next_active(after, active, current)
            if active == _NEVER:
                break
        return [*state, *(self._stack(node, values, 0) for values in stacked)]

    def _states_length(self, node: onnx.NodeProto, carried: int, count: int) -> bool:
        """Whether the model promises a collected result for every iteration: those that do not run are unspecified."""
        shapes = [self._shape(name) for name in node.output[carried:] if name]
        return all(shape is not None and shape[0] == count for shape in shapes)

    def _next_active(self, after: str, active: str | None, current: str) -> str | None:
        """The condition of the next iteration: None for "always", `_NEVER`, or a tensor's name."""
        source = self._origin(after)
        if source == current:
            return active
        known = self._constants.get(source)
        if known is not None:
            return active if bool(known.reshape(-1)[0]) else _NEVER
        return after if active is None else self._emit("And", [active, after])

    def _scan(self, node: onnx.NodeProto) -> list[str]:
        if self._opset < 9:
            return self._batched_scan(node)
        body, inputs = _attribute(node, "body"), list(node.input)
        scanned = int(_attribute(node, "num_scan_inputs"))
        axes = _attribute(node, "scan_input_axes") or [0] * scanned
        state, sources = inputs[: len(inputs) - scanned], inputs[len(inputs) - scanned :]
        backwards = _attribute(node, "scan_input_directions") or [0] * scanned
        results = len(body.output) - len(state)
        return self._unroll(
            node,
            body,
            state,
            sources,
            axes,
            backwards,
            _attribute(node, "scan_output_axes") or [0] * results,
            _attribute(node, "scan_output_directions") or [0] * results,
        )

    def _batched_scan(self, node: onnx.NodeProto) -> list[str]:
        """Opset 8: every input has a batch axis in front, and a first, optional input gives lengths."""
        body = _attribute(node, "body")
        if node.input[0]:
            _refuse(node, "sequence lengths at run time")
        scanned = int(_attribute(node, "num_scan_inputs"))
        inputs = list(node.input[1:])
        shape = self._shape(inputs[0])
        if shape is None or not isinstance(shape[0], int):
            _refuse(node, "the batch size is not known")
        backwards = _attribute(node, "directions") or [0] * scanned
        results = len(body.output) - (len(inputs) - scanned)
        length = self._shape(inputs[-1])
        if length is None or not isinstance(length[1], int):
            _refuse(node, "the length of the sequence is not known")
        batches = []
        for index in range(shape[0]):
            own = [self._emit("Gather", [name, self._integers(index)], axis=0) for name in inputs]
            state, sources = own[: len(own) - scanned], own[len(own) - scanned :]
            axes, output_axes = [0] * scanned, [0] * results
            batches.append(
                self._unroll(node, body, state, sources, axes, backwards, output_axes, output_axes, length[1])
            )
        return [self._stack(node, list(values), 0) for values in zip(*batches, strict=True)]

    def _unroll(
        self,
        node: onnx.NodeProto,
        body: onnx.GraphProto,
        state: list[str],
        sources: Sequence[str],
        axes: Sequence[int],
        backwards: Sequence[int],
        output_axes: Sequence[int],
        output_backwards: Sequence[int],
        length: int | None = None,
    ) -> list[str]:
        """The final state and the collected results of a scan along one sequence."""
        if length is None:
            shape = self._shape(sources[0])
            extent = shape[axes[0]] if shape is not None else None
            if not isinstance(extent, int):
                _refuse(node, "the length of the sequence is not known")
            length = extent
        self._check_size(node, body, length)
        stacked: list[list[str]] = [[] for _ in output_axes]
        for step in range(length):
            slices = [
                self._emit("Gather", [name, self._integers(length - 1 - step if back else step)], axis=int(axis))
                for name, axis, back in zip(sources, axes, backwards, strict=True)
            ]
            values = self._inline(body, dict(zip((i.name for i in body.input), [*state, *slices], strict=True)))
            state, collected = values[: len(state)], values[len(state) :]
            for stack, value in zip(stacked, collected, strict=True):
                stack.append(value)
        return [
            *state,
            *(
                self._stack(node, values[::-1] if back else values, int(axis))
                for values, axis, back in zip(stacked, output_axes, output_backwards, strict=True)
            ),
        ]

    # pieces ----------------------------------------------------------------------------------------------------------

    def _inline(self, body: onnx.GraphProto, bound: Mapping[str, str]) -> list[str]:
        """The body's nodes under new names, its inputs bound; gives the names of its outputs."""
        names = dict(bound)
        for initializer in body.initializer:
            names[initializer.name] = self._fresh()
            copy = self._graph.initializer.add()
            copy.CopyFrom(initializer)
            copy.name = names[initializer.name]
            self._constants[copy.name] = _value(copy)
        for node in body.node:
            copy = _renamed(node, names, self._fresh)
            self._append(copy)
        return [names.get(output.name, output.name) for output in body.output]

    def _emit(self, operator: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        import onnx.helper

        name = output or self._fresh()
        self._append(onnx.helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def _append(self, node: onnx.NodeProto) -> None:
        """Adds a node, and what it computes to the constants: trip counts and conditions may follow from some."""
        self._nodes.append(node)
        if any(name and name not in self._constants for name in node.input):
            return
        values = evaluate(node, self._opsets, [self._constants[name] if name else None for name in node.input])
        if values is not None:
            self._constants.update(zip((name for name in node.output if name), values, strict=True))

    def _stack(self, node: onnx.NodeProto, values: list[str], axis: int) -> str:
        if not values:
            _refuse(node, "a loop without iterations collects nothing, and the shape of its results is not known")
        if self._opset < 13:
            parts = [self._emit("Unsqueeze", [v], axes=[axis]) for v in values]
        else:
            parts = [self._emit("Unsqueeze", [v, self._integers([axis])]) for v in values]
        return self._emit("Concat", parts, axis=axis)

    def _integers(self, value: Any) -> str:
        import numpy as np

        return self._constant(np.array(value, np.int64))

    def _booleans(self, value: bool) -> str:
        import numpy as np

        return self._constant(np.array(value))

    def _constant(self, value: np.ndarray) -> str:
        import onnx.numpy_helper

        name = self._fresh()
        self._graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        self._constants[name] = value
        return name

    def _fresh(self) -> str:
        while (name := f"unrolled_{self._count}") in self._names:
            self._count += 1
        self._names.add(name)
        return name

    def _origin(self, name: str) -> str:
        """The tensor that a chain of Identity nodes copies."""
        producers = {output: node for node in self._nodes for output in node.output}
        while name in producers and producers[name].op_type == "Identity":
            name = producers[name].input[0]
        return name

    def _shape(self, name: str) -> tuple[int | str | None, ...] | None:
        return self._types.get(name)

    def _shape_after(self, name: str) -> tuple[int | str | None, ...] | None:
        """The shape of a tensor that has just been made."""
        import onnx

        model = onnx.ModelProto()
        model.ir_version = 10
        model.opset_import.add().version = self._opset
        model.graph.CopyFrom(self._graph)
        del model.graph.node[:]
        del model.graph.output[:]
        model.graph.node.extend(self._nodes)
        shape = _types(model).get(name)
        return None if shape is None or None in shape else shape

    def _check_size(self, node: onnx.NodeProto, body: onnx.GraphProto, count: int) -> None:
        if count * len(body.node) > MAX_NODES:
            _refuse(node, f"{count} iterations of {len(body.node)} nodes are more than the {MAX_NODES} nodes allowed")


_NEVER = "\0never"


def _refuse(node: onnx.NodeProto, cause: str, remedy: str = "") -> NoReturn:
    raise UnsupportedError(f"{node.op_type}: {cause}" + (f"; {remedy}" if remedy else ""))


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    import onnx.helper

    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)


def _renamed(node: onnx.NodeProto, names: dict[str, str], fresh: Any) -> onnx.NodeProto:
    """A copy of the node with its outputs under fresh names, which are added to `names`."""
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(name, name) for name in node.input]
    for i, name in enumerate(node.output):
        if name:
            names[name] = copy.output[i] = fresh()
    _rename_captured(copy, names)
    return copy


def _rename_captured(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Renames what the bodies of a node take from the graph around them."""
    for graph in _graphs(node):
        own = {v.name for v in (*graph.input, *graph.initializer)} | {o for n in graph.node for o in n.output}
        outer = {k: v for k, v in names.items() if k not in own}
        for inner in graph.node:
            inner.input[:] = [outer.get(name, name) for name in inner.input]
            _rename_captured(inner, outer)
        for output in graph.output:
            output.name = outer.get(output.name, output.name)


def _graphs(node: onnx.NodeProto) -> Iterable[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _types(model: onnx.ModelProto) -> dict[str, tuple[int | str | None, ...]]:
    """Shapes by tensor name, as far as ONNX infers them; None for an unknown dimension."""
    import contextlib

    from plugin_autogen.shape_inference import infer_shapes

    with contextlib.suppress(Exception):  # what cannot be inferred stays unknown
        model = infer_shapes(model)
    shapes: dict[str, tuple[int | str | None, ...]] = {i.name: tuple(i.dims) for i in model.graph.initializer}
    for info in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        if info.type.HasField("tensor_type") and info.type.tensor_type.HasField("shape"):
            shapes[info.name] = tuple(
                d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in info.type.tensor_type.shape.dim
            )
    return shapes


def _value(tensor: onnx.TensorProto) -> np.ndarray:
    import onnx.numpy_helper

    value: np.ndarray = onnx.numpy_helper.to_array(tensor)
    return value
