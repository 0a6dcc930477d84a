"""Shapes that are known when the plugin runs: the values of a small integer tensor decide dimensions.

Such a tensor is no input of the kernels. What the operator makes of its values, dimension by dimension, is an
expression over those values and the dimensions of the other inputs. TensorRT evaluates it, to which the values are
expressions too; inside the subgraph each of these dimensions is a variable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx
    from tvm import tirx

    from plugin_autogen.graph.subgraph import Subgraph
    from plugin_autogen.lowering.registry import Dimension


@dataclass(frozen=True)
class ResolvedShape:
    """What one node makes of a shape input.

    Attributes:
        input: position among the subgraph's inputs.
        values: the variables that stand for the tensor's values, in `dimensions` only.
        variables: one for each value; they make up one parameter of `main`.
        dimensions: the value of each variable, over `values`, dimensions of other inputs and variables that came
            before; empty until the node was converted, and where its results have no elements.
    """

    input: int
    values: tuple[tirx.Var, ...]
    variables: tuple[tirx.Var, ...]
    dimensions: list[Dimension] = field(default_factory=list)


class ShapeInputs:
    """The shape inputs of a subgraph, and which node makes what of them: `resolved`, in the order of the nodes."""

    def __init__(self, subgraph: Subgraph | None = None, nodes: Sequence[onnx.NodeProto] = ()) -> None:
        from tvm import tirx

        self.resolved: list[ResolvedShape] = []
        self._by_place: dict[tuple[str, int], ResolvedShape] = {}
        self._names: set[str] = set()
        tensors = [] if subgraph is None else zip(subgraph.model.graph.input, subgraph.inputs, strict=True)
        for i, (info, tensor) in enumerate(tensors):
            if not tensor.is_shape:
                continue
            self._names.add(info.name)
            (length,) = tensor.shape
            assert isinstance(length, int)
            values = tuple(tirx.Var(f"shape_{i}_{j}", "int64") for j in range(length))
            for node in nodes:
                for place, name in enumerate(node.input):
                    if name == info.name:
                        number = len(self.resolved)
                        variables = tuple(tirx.Var(f"resolved_{number}_{j}", "int64") for j in range(length))
                        self.resolved.append(ResolvedShape(i, values, variables))
                        self._by_place[node.output[0], place] = self.resolved[-1]

    def __contains__(self, tensor: str) -> bool:
        return tensor in self._names

    def at(self, node: onnx.NodeProto, place: int) -> ResolvedShape:
        """What becomes of the shape input that the node has in this place."""
        return self._by_place[node.output[0], place]


Resolve = Callable[[Sequence[Any]], "Sequence[Dimension]"]
"""From the values of a shape input to as many dimensions of the operator's result."""
