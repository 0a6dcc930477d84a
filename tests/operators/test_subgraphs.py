"""Several nodes as one plugin, from the user's model to numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from plugin_autogen import releases
from plugin_autogen.graph.extract import extract
from plugin_autogen.graph.selection import select
from tests.models import FLOAT, load, model, node
from tests.operators.harness import Lowered, lower_and_compare

RTX = releases.release("rtx")
RANDOM = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    return (RANDOM.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)


def check_group(
    proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray], group: str, folder: Path, kernels: int | None = None
) -> Lowered:
    """Lowers the subgraph `inputs:outputs` of the model and compares it with ONNX Runtime's results for it."""
    loaded = load(proto, folder)
    extraction = extract(loaded, select(loaded, subgraphs=[f"{group}=group"]), RTX)
    (use,), (subgraph,) = extraction.uses, extraction.subgraphs
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    del shown.graph.output[:]
    tensors = [*use.inputs, *use.outputs]
    shown.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in tensors)
    session = onnxruntime.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    values = dict(zip(tensors, session.run(None, dict(feeds)), strict=True))
    inputs = {info.name: values[name] for info, name in zip(subgraph.model.graph.input, use.inputs, strict=True)}
    return lower_and_compare(subgraph, inputs, [values[name] for name in use.outputs], kernels)


def test_a_chain_of_thirty_elementwise_nodes_is_one_kernel(tmp_path: Path) -> None:
    unary = ["Sigmoid", "Tanh", "Neg", "Abs", "Softplus", "Sin", "Cos", "Exp", "Relu", "Erf"]
    binary = ["Mul", "Add", "Sub"]
    nodes, last = [], "x"
    for i in range(30):
        name = f"t{i}"
        if i % 3 == 2:
            # the second operand is a tensor of the chain's start, a weight, or a row that broadcasts
            other = ("x", "w", "row")[i // 3 % 3]
            nodes.append(node(binary[i // 3 % 3], f"{last} {other}", name, f"n{i}"))
        else:
            nodes.append(node(unary[(2 * i) % 10 if i % 3 else i % 10], last, name, f"n{i}"))
        last = name
    nodes.append(node("Softmax", last, "y", "after"))
    assert len(nodes) == 31 and len({n.op_type for n in nodes}) > 10
    proto = model(
        nodes,
        {"x": (FLOAT, [4, 7, 33]), "row": (FLOAT, [33])},
        {"y": (FLOAT, [4, 7, 33])},
        {"w": weights(4, 7, 33)},
    )
    feeds = {"x": weights(4, 7, 33), "row": weights(33)}
    lowered = check_group(proto, feeds, f"x,row:{last}", tmp_path, kernels=1)
    assert lowered.kernels == 1
    # Each value is computed once: with every operand inlined into both of its places the source is sixty times as long.
    assert lowered.rules == ("chain",) and len(lowered.plan.source) < 20_000


def test_a_chain_through_other_types_is_one_kernel(tmp_path: Path) -> None:
    nodes = [
        node("Greater", "x limit", "above"),
        node("Cast", "above", "mask", to=FLOAT),
        node("Floor", "x", "f"),
        node("Cast", "f", "i", to=onnx.TensorProto.INT64),
        node("Mod", "i seven", "m"),
        node("Cast", "m", "mf", to=FLOAT),
        node("Mul", "mf mask", "p"),
        node("Where", "above p x", "y"),
    ]
    proto = model(
        nodes,
        {"x": (FLOAT, [5, 64])},
        {"y": (FLOAT, [5, 64])},
        {"limit": np.float32(0.5), "seven": np.int64(7)},
    )
    x = (10 * RANDOM.standard_normal((5, 64))).astype(np.float32)
    assert check_group(proto, {"x": x}, "x:y", tmp_path, kernels=1).kernels == 1


def test_an_attention_block_of_twelve_nodes(tmp_path: Path) -> None:
    batch, length, heads, size = 2, 9, 3, 8
    width = heads * size
    nodes = [node("Relu", "x", "h", "before")]
    for part in "qkv":
        nodes.append(node("MatMul", f"h w{part}", f"{part}0"))
        nodes.append(node("Reshape", f"{part}0 split", f"{part}1"))
        nodes.append(node("Transpose", f"{part}1", f"{part}2", perm=[0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]))
    nodes += [
        node("MatMul", "q2 k2", "scores"),
        node("Softmax", "scores", "shares", axis=-1),
        node("MatMul", "shares v2", "mixed"),
        node("Neg", "mixed", "y", "after"),
    ]
    assert len(nodes) - 2 == 12
    proto = model(
        nodes,
        {"x": (FLOAT, [batch, length, width])},
        {"y": (FLOAT, [batch, heads, length, size])},
        {
            "split": np.array([batch, length, heads, size], np.int64),
            "wq": weights(width, width),
            "wk": weights(width, width),
            "wv": weights(width, width),
        },
    )
    lowered = check_group(proto, {"x": weights(batch, length, width)}, "h:mixed", tmp_path)
    assert "serial" not in lowered.rules


def test_a_gru_cell_of_primitive_nodes_with_its_inner_states_outside(tmp_path: Path) -> None:
    batch, inputs, hidden = 4, 10, 16
    nodes = [
        node("Gemm", "x wi bi", "gi"),
        node("Gemm", "h wh bh", "gh"),
        node("Split", "gi", "ir iz inn", "split_i", axis=1),
        node("Split", "gh", "hr hz hn", "split_h", axis=1),
        node("Add", "ir hr", "r0"),
        node("Sigmoid", "r0", "r"),
        node("Add", "iz hz", "z0"),
        node("Sigmoid", "z0", "z"),
        node("Mul", "r hn", "rn"),
        node("Add", "inn rn", "n0"),
        node("Tanh", "n0", "n"),
        node("Sub", "one z", "keep"),
        node("Mul", "keep n", "a"),
        node("Mul", "z h", "b"),
        node("Add", "a b", "next"),
        node("ReduceMax", "z", "openness", keepdims=0),
    ]
    proto = model(
        nodes,
        {"x": (FLOAT, [batch, inputs]), "h": (FLOAT, [batch, hidden])},
        {"next": (FLOAT, [batch, hidden]), "openness": (FLOAT, [])},
        {
            "wi": weights(inputs, 3 * hidden), "bi": weights(3 * hidden), "wh": weights(hidden, 3 * hidden),
            "bh": weights(3 * hidden), "one": np.float32(1),
        },
    )  # fmt: skip
    # z is read by ReduceMax, which stays outside: the plugin has two outputs.
    lowered = check_group(proto, {"x": weights(batch, inputs), "h": weights(batch, hidden)}, "x,h:next", tmp_path)
    assert len(lowered.outputs) == 2 and "serial" not in lowered.rules
