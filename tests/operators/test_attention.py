"""Attention, FlexAttention, RotaryEmbedding and LinearAttention against ONNX Runtime and ONNX's reference evaluator."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.helper
import pytest
from onnx.reference.ops.op_attention import _compute_attention

from plugin_autogen import dtypes
from plugin_autogen.codegen.plan import launches
from plugin_autogen.codegen.plan_builder import build_plan
from plugin_autogen.errors import UnsupportedError
from plugin_autogen.graph.subgraph import BorderTensor, Subgraph
from plugin_autogen.lowering import registry
from plugin_autogen.lowering.importer import import_subgraph
from plugin_autogen.lowering.legalize import legalize, to_calls
from plugin_autogen.schedule.default import schedule_module
from plugin_autogen.schedule.target import cuda_target
from plugin_autogen.verify.compare import difference
from plugin_autogen.verify.cpu import run_on_cpu
from plugin_autogen.verify.inputs import random_inputs
from plugin_autogen.verify.reference import reference_outputs
from tests.operators.harness import check, single_node

PREVIEW = "ai.onnx.preview"


def normal(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def booleans(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).random(shape) < 0.7


def onnx_reference(**attributes: Any) -> Any:
    """ONNX's reference implementation, for what ONNX Runtime lacks or computes otherwise."""

    def compute(*inputs: np.ndarray | None) -> list[np.ndarray]:
        with np.errstate(all="ignore"):
            return [_compute_attention(*inputs, **attributes, _validate_attention25=False)[0]]

    return compute


# Attention -----------------------------------------------------------------------------------------------------------


HEADS = {"mha": (4, 4), "gqa": (6, 2), "mqa": (5, 1)}
TYPES = (np.float16, np.float64, ml_dtypes.bfloat16)


@pytest.mark.parametrize(
    ("rank", "queries", "keys", "dtype"),
    [
        *(pytest.param(r, *h, np.float32, id=f"{r}-{n}") for r in (3, 4) for n, h in HEADS.items()),
        *(pytest.param(3, *HEADS["gqa"], t, id=t.__name__) for t in TYPES),
    ],
)
def test_heads_and_types(rank: int, queries: int, keys: int, dtype: Any) -> None:
    q, k, v = (normal(2, h, n, s, dtype=dtype, seed=n) for h, n, s in ((queries, 5, 8), (keys, 7, 8), (keys, 7, 12)))
    attributes: dict[str, Any] = {"is_causal": 1}
    if rank == 3:
        q, k, v = (x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1) for x in (q, k, v))
        attributes |= {"q_num_heads": queries, "kv_num_heads": keys}
    check("Attention", [q, k, v], attributes, opset=23, expected=onnx_reference(**attributes), kernels=3)
    if dtype is np.float32:
        check("Attention", [q, k, v], attributes, opset=23, plugin=False)


@pytest.mark.parametrize(
    "shape", [(9,), (1, 9), (5, 9), (1, 5, 9), (4, 1, 9), (2, 1, 5, 9), (1, 4, 5, 9), (2, 4, 5, 9)]
)
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_mask_shapes(kind: str, shape: tuple[int, ...]) -> None:
    mask = booleans(*shape) if kind == "bool" else normal(*shape, seed=3)
    inputs = [normal(2, 4, 5, 8), normal(2, 2, 9, 8), normal(2, 2, 9, 8, seed=1), mask]
    attributes = {"softcap": 3.0, "scale": 0.25}
    check("Attention", inputs, attributes, opset=24, kernels=3, plugin=len(shape) in (1, 3))


@pytest.mark.parametrize(("mode", "causal"), [(0, 0), (1, 1), (2, 0), (2, 1), (3, 1)])
def test_exposed_scores(mode: int, causal: int) -> None:
    inputs = [normal(1, 4, 5, 8), normal(1, 2, 5, 8, seed=1), normal(1, 2, 5, 6, seed=2), normal(5, 5)]
    attributes = {"qk_matmul_output_mode": mode, "softcap": 0.0 if mode == 0 else 2.0, "is_causal": causal}

    def reference(*values: np.ndarray) -> list[np.ndarray]:  # ONNX Runtime masks with the lowest finite number
        y, _, _, scores = _compute_attention(*values, **attributes, _validate_attention25=False)
        return [y, scores]

    outputs = [True, False, False, True]
    check("Attention", inputs, attributes, outputs=outputs, opset=24, expected=reference, kernels=3)


def test_raw_scores_are_those_before_the_softcap() -> None:
    """As the operator's text and function body have it; the reference evaluator gives the capped ones."""
    q, k, v = (normal(1, 2, 3, 4, seed=i) for i in range(3))
    attributes = {"qk_matmul_output_mode": 0, "softcap": 0.5}
    raw = q @ k.transpose(0, 1, 3, 2) / 2
    expected = [_compute_attention(q, k, v, softcap=0.5)[0], raw]
    check("Attention", [q, k, v], attributes, outputs=[True, False, False, True], opset=24, expected=expected)


@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("causal", [0, 1])
def test_cache_inside(rank: int, causal: int) -> None:
    q, k, v = normal(2, 4, 3, 8), normal(2, 2, 3, 8, seed=1), normal(2, 2, 3, 6, seed=2)
    past = [normal(2, 2, 5, 8, seed=3), normal(2, 2, 5, 6, seed=4)]
    attributes: dict[str, Any] = {"is_causal": causal}
    if rank == 3:
        q, k, v = (x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1) for x in (q, k, v))
        attributes |= {"q_num_heads": 4, "kv_num_heads": 2}
    lowered = check("Attention", [q, k, v, None, *past], attributes, outputs=3, opset=24, kernels=5)
    assert lowered.outputs[1].shape == (2, 2, 8, 8)


def test_present_without_past() -> None:
    q, k, v = (normal(2, 4, 12, seed=i) for i in range(3))
    check("Attention", [q, k, v], {"q_num_heads": 3, "kv_num_heads": 3}, outputs=3, opset=23, kernels=5)


@pytest.mark.parametrize("lengths", [[1, 6], [6, 3], [0, 2]], ids=str)
@pytest.mark.parametrize(("masked", "causal"), [(False, 0), (False, 1), (True, 1)])
def test_cache_outside(masked: bool, lengths: list[int], causal: int) -> None:
    """Valid lengths shorter than the queries leave rows without any key: zeros."""
    inputs: list[np.ndarray | None] = [normal(2, 4, 3, 8), normal(2, 2, 6, 8, seed=1), normal(2, 2, 6, 8, seed=2)]
    inputs += [booleans(2, 1, 3, 6) if masked else None, None, None, np.array(lengths)]
    reference = onnx_reference(is_causal=bool(causal))
    lowered = check("Attention", inputs, {"is_causal": causal}, opset=24, expected=reference, kernels=3)
    assert np.isfinite(lowered.outputs[0]).all()


@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("length", [1, 4])
def test_mask_shorter_than_the_keys(length: int, kind: str) -> None:
    mask = np.ones((3, length), bool) if kind == "bool" else normal(3, length)
    inputs = [normal(1, 2, 3, 8), normal(1, 2, 6, 8, seed=1), normal(1, 2, 6, 8, seed=2), mask]
    check("Attention", inputs, opset=24, expected=onnx_reference())


def test_mask_of_one_key_is_broadcast_before_opset_24() -> None:
    q, k, v, mask = normal(1, 2, 3, 8), normal(1, 2, 6, 8, seed=1), normal(1, 2, 6, 8, seed=2), np.ones((3, 1), bool)
    check("Attention", [q, k, v, mask], opset=23, expected=[_compute_attention(q, k, v)[0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=lambda t: t.__name__)
def test_rows_without_a_key_are_zero(dtype: Any) -> None:
    """Even where the scores of masked keys are no numbers."""
    q, k, v = (normal(1, 2, 3, 8, dtype=dtype, seed=i) for i in range(3))
    k[0, 0, 2] = np.nan
    for mask in (np.tril(np.ones((3, 3), bool), -1), np.where(np.tril(np.ones((3, 3)), -1), 0, -np.inf).astype(dtype)):
        y = check("Attention", [q, k, v, mask], opset=24, expected=_attended_only(q, k, v)).outputs[0]
        assert (y[:, :, 0] == 0).all() and np.isfinite(y).all()


def _attended_only(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> list[np.ndarray]:
    """Row i attends the keys before i."""
    rows = [np.zeros_like(v[:, :, :1])]
    rows += [_compute_attention(q[:, :, i : i + 1], k[:, :, :i], v[:, :, :i])[0] for i in range(1, q.shape[2])]
    return [np.concatenate(rows, axis=2)]


def test_scores_that_are_no_numbers_spread_over_their_row() -> None:
    q, k, v = (normal(1, 1, 2, 4, seed=i) for i in range(3))
    q[0, 0, 0, 0] = np.nan
    y = check("Attention", [q, k, v], opset=24, expected=onnx_reference()).outputs[0]
    assert np.isnan(y[0, 0, 0]).all() and np.isfinite(y[0, 0, 1]).all()


@pytest.mark.parametrize(("left", "right"), [(2, -1), (-1, 1), (0, 0), (2, 1)])
@pytest.mark.parametrize("causal", [0, 1])
def test_windows(left: int, right: int, causal: int) -> None:
    attributes = {"left_window_size": left, "right_window_size": right, "is_causal": causal}
    q, k, v = normal(2, 2, 4, 8), normal(2, 2, 6, 8, seed=1), normal(2, 2, 6, 8, seed=2)
    reference = onnx_reference(**attributes)
    check("Attention", [q, k, v], attributes, opset=25, expected=reference, kernels=3, plugin=bool(causal))
    if (left, right) == (2, 1):
        inputs = [q, k, v, None, None, None, np.array([6, 4])]
        check("Attention", inputs, attributes, opset=25, expected=reference, plugin=False)
        past = [normal(2, 2, 3, 8, seed=3), normal(2, 2, 3, 8, seed=4)]
        check("Attention", [q, k, v, None, *past], attributes, opset=25, expected=reference, plugin=False)


@pytest.mark.parametrize("precision", [onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=lambda t: t.__name__)
def test_softmax_precision(dtype: Any, precision: int) -> None:
    inputs = [normal(1, 2, 4, 8, dtype=dtype, seed=i) for i in range(3)]
    if (dtype, precision) == (np.float64, onnx.TensorProto.FLOAT):
        inputs[0] *= 0  # the last bits of float32 are nobody's: weights of 1/4 have none
    reference = onnx_reference(softmax_precision=precision)
    check("Attention", inputs, {"softmax_precision": precision}, opset=24, expected=reference)


def test_other_types_of_masks_and_values() -> None:
    q, k, v = normal(1, 2, 3, 8), normal(1, 2, 4, 8, seed=1), normal(1, 2, 4, 8, dtype=np.float16, seed=2)
    check("Attention", [q, k, v], opset=24, expected=onnx_reference())
    for mask in (np.arange(12, dtype=np.int32).reshape(3, 4), normal(3, 4, dtype=np.float16)):
        check("Attention", [q, k, k, mask], opset=24, expected=lambda *x: [onnx_reference()(*x)[0].astype(np.float32)])


def test_decoding_one_token() -> None:
    inputs = [normal(1, 8, 1, 64), normal(1, 2, 1, 64, seed=1), normal(1, 2, 1, 64, seed=2), None]
    past = [normal(1, 2, 127, 64, seed=3), normal(1, 2, 127, 64, seed=4)]
    check("Attention", [*inputs, *past], {"is_causal": 1}, outputs=3, opset=24, kernels=5)


@pytest.mark.parametrize(
    ("attributes", "inputs", "cause"),
    [
        ({}, [(1, 4, 2, 8), (1, 3, 2, 8), (1, 3, 2, 8)], "cannot share"),
        ({"q_num_heads": 3, "kv_num_heads": 3}, [(1, 4, 8), (1, 4, 8), (1, 4, 8)], "multiple of 3 heads"),
        ({}, [(1, 4, 8), (1, 4, 8), (1, 4, 8)], "number of heads"),
        ({}, [(1, 2, 3, 8), (1, 2, 4, 8), (1, 2, 5, 8)], "sizes 4 and 5"),
        ({"qk_matmul_output_mode": 7}, [(1, 1, 2, 8)] * 3, "qk_matmul_output_mode"),
        ({"softmax_precision": 6}, [(1, 1, 2, 8)] * 3, "softmax_precision"),
    ],
)
def test_refused(attributes: dict[str, Any], inputs: list[tuple[int, ...]], cause: str) -> None:
    values = [normal(*shape) for shape in inputs]
    outputs = [True, False, False, True] if "qk_matmul_output_mode" in attributes else 1
    expected = [values[0]] * (2 if isinstance(outputs, list) else 1)
    with pytest.raises(UnsupportedError, match=cause):
        check("Attention", values, attributes, outputs=outputs, opset=24, expected=expected)


@pytest.mark.parametrize("rank", [3, 4])
def test_sizes_known_at_run_time(rank: int) -> None:
    """Batch and sequence lengths are symbols: one plan for all of them."""
    heads, size = (4, 2), 8

    def shape(count: int, length: Any, batch: Any) -> tuple[Any, ...]:
        return (batch, count, length, size) if rank == 4 else (batch, length, count * size)

    symbolic = [shape(heads[0], "n", "b"), shape(heads[1], "m", "b"), shape(heads[1], "m", "b"), ("n", "m")]
    attributes = {"is_causal": 1} | ({"q_num_heads": 4, "kv_num_heads": 2} if rank == 3 else {})
    names = ["q", "k", "v", "mask"]
    kind = dtypes.from_name("float32")
    result = shape(heads[0], "n", "b")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Attention", names, ["y"], name="node", **attributes)],
        "symbolic",
        [onnx.helper.make_tensor_value_info(n, kind.onnx, s) for n, s in zip(names, symbolic, strict=True)],
        [onnx.helper.make_tensor_value_info("y", kind.onnx, result)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=10)
    borders = tuple(BorderTensor(n, kind, s, kind) for n, s in zip(names, symbolic, strict=True))
    output = (BorderTensor("y", kind, result, kind),)
    subgraph = Subgraph("tpat_attention", model, borders, output, ("node",), ("Attention",))
    module = import_subgraph(subgraph)
    for b, n, m in ((1, 1, 1), (2, 5, 9), (3, 8, 4)):
        values = [normal(*shape(heads[i > 0], m if i else n, b), seed=i) for i in range(3)]
        feeds = dict(zip(names, [*values, normal(n, m)], strict=True))
        expected, _ = reference_outputs(model, feeds)
        assert difference(run_on_cpu(subgraph, module, feeds)[0], np.asarray(expected[0])).message is None
    target = cuda_target()
    calls = to_calls(legalize(module, target), target)
    functions = schedule_module(calls, target)
    plan = build_plan(subgraph, calls, functions, module, target)
    assert "serial" not in {f.rule for f in functions.values()}
    assert len(launches(plan.steps)) == 3


def test_function_body_serves_without_the_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX's body computes sizes from parts of shapes, and asks for the types of inputs that are left out."""
    registry.load_operators()
    monkeypatch.delitem(registry._REGISTRY, ("", "Attention"))
    inputs = [normal(1, 4, 3, 8), normal(1, 2, 6, 8), normal(1, 2, 6, 8, seed=1), None, None, None, np.array([4])]
    reference = onnx_reference(is_causal=True)
    lowered = check("Attention", inputs, {"is_causal": 1}, opset=24, expected=reference, plugin=False)
    assert lowered.kernels > 3


# FlexAttention -------------------------------------------------------------------------------------------------------


def modifier(nodes: list[onnx.NodeProto], **constants: Any) -> onnx.GraphProto:
    """A graph from "x" to "y" whose shape is written in names, as exporters write it."""
    infos = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["B", "H", "L", "S"]) for n in "xy"]
    initializers = [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    return onnx.helper.make_graph(nodes, "modifier", infos[:1], infos[1:], initializers)


def softcap() -> onnx.GraphProto:
    make = onnx.helper.make_node
    nodes = [make("Div", ["x", "cap"], ["a"]), make("Tanh", ["a"], ["b"]), make("Mul", ["b", "cap"], ["y"])]
    return modifier(nodes, cap=np.float32(3))


def causal() -> onnx.GraphProto:
    """Masks keys behind the query, by sizes that the graph takes from its input."""
    make = onnx.helper.make_node
    nodes = [
        make("Shape", ["x"], ["sizes"], start=2),
        make("ConstantOfShape", ["sizes"], ["ones"], value=onnx.numpy_helper.from_array(np.ones(1, np.float32))),
        make("Trilu", ["ones"], ["lower"], upper=0),
        make("Cast", ["lower"], ["kept"], to=onnx.TensorProto.BOOL),
        make("Where", ["kept", "x", "lowest"], ["y"]),
    ]
    return modifier(nodes, lowest=np.float32(-np.inf))


def halve() -> onnx.GraphProto:
    return modifier([onnx.helper.make_node("Mul", ["x", "half"], ["y"])], half=np.float32(0.5))


@pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=lambda t: t.__name__)
@pytest.mark.parametrize("keys", [4, 2, 1])
@pytest.mark.parametrize("score", [softcap, causal])
def test_flex_attention(score: Any, keys: int, dtype: Any) -> None:
    inputs = [normal(2, 4, 5, 8, dtype=dtype), normal(2, keys, 6, 8, dtype=dtype), normal(2, keys, 6, 10, dtype=dtype)]
    attributes = {"score_mod": score(), "prob_mod": halve(), "scale": 0.5}
    check("FlexAttention", inputs, attributes, opset=26, domain=PREVIEW, kernels=7, plugin=keys == 2)


def test_flex_attention_fuses_the_graphs() -> None:
    inputs = [normal(1, 4, 5, 8, seed=i) for i in range(3)]
    check("FlexAttention", inputs, {"score_mod": softcap()}, opset=26, domain=PREVIEW, kernels=3)


def test_flex_attention_without_graphs() -> None:
    for dtype in (np.float32, np.float64):
        inputs = [normal(1, 4, 5, 8, dtype=dtype, seed=i) for i in range(3)]
        check("FlexAttention", inputs, opset=26, domain=PREVIEW, kernels=4)


# RotaryEmbedding -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rank", "with_ids", "turned", "interleaved", "dtype"),
    [
        *itertools.product([3, 4], [False, True], [0, 4], [0, 1], [np.float32]),
        (4, True, 0, 0, np.float16),
        (3, False, 4, 1, ml_dtypes.bfloat16),
    ],
)
def test_rotary_embedding(rank: int, with_ids: bool, turned: int, interleaved: int, dtype: Any) -> None:
    batch, heads, length, size, positions = 2, 3, 5, 8, 11
    x = normal(batch, heads, length, size, dtype=dtype)
    attributes: dict[str, Any] = {"interleaved": interleaved, "rotary_embedding_dim": turned}
    if rank == 3:
        x = x.transpose(0, 2, 1, 3).reshape(batch, length, -1)
        attributes["num_heads"] = heads
    rows = (positions,) if with_ids else (batch, length)
    caches = [normal(*rows, (turned or size) // 2, dtype=dtype, seed=i) for i in (1, 2)]
    ids = [np.random.default_rng(0).integers(0, positions, (batch, length))] if with_ids else []
    check(
        "RotaryEmbedding",
        [x, *caches, *ids],
        attributes,
        opset=23,
        kernels=1,
        plugin=dtype is not np.float32 or not turned,
    )


# LinearAttention -----------------------------------------------------------------------------------------------------

RULES = ("linear", "gated", "delta", "gated_delta")


@pytest.mark.parametrize(
    ("rule", "queries", "keys", "dtype"),
    [
        *((rule, *heads, np.float32) for rule in RULES for heads in ((2, 2), (4, 2), (3, 1))),
        ("gated_delta", 4, 2, np.float16),
        ("gated_delta", 4, 2, ml_dtypes.bfloat16),
    ],
)
def test_linear_attention(rule: str, queries: int, keys: int, dtype: Any) -> None:
    batch, length, size, width = 2, 6, 4, 5
    for by_head, with_past in ((True, False), (False, True)):
        q, k, v = (
            (0.5 * normal(batch, length, n, seed=i)).astype(dtype)
            for i, n in enumerate((queries * size, keys * size, keys * width))
        )
        past = (0.5 * normal(batch, keys, size, width)).astype(dtype) if with_past else None
        decay = -np.abs(normal(batch, length, keys if by_head else keys * size)).astype(dtype)
        beta = (1 / (1 + np.exp(normal(batch, length, keys if by_head else 1)))).astype(dtype)
        optional = [past, decay if "gated" in rule else None, beta if "delta" in rule else None]
        attributes = {"q_num_heads": queries, "kv_num_heads": keys, "update_rule": rule}
        check("LinearAttention", [q, k, v, *optional], attributes, outputs=2, opset=27, kernels=1, plugin=queries == 4)


def test_linear_attention_state_of_another_type() -> None:
    q, k, v = (normal(1, 3, 8, dtype=np.float16, seed=i) for i in range(3))
    past = normal(1, 2, 4, 4)
    attributes = {"q_num_heads": 2, "kv_num_heads": 2, "update_rule": "linear", "scale": 0.3}
    lowered = check("LinearAttention", [q, k, v, past], attributes, outputs=2, opset=27, kernels=1)
    assert lowered.outputs[1].dtype == np.float32


def test_linear_attention_refuses_inputs_that_do_not_fit_the_rule() -> None:
    q, k, v = (normal(1, 3, 8, seed=i) for i in range(3))
    attributes = {"q_num_heads": 2, "kv_num_heads": 2, "update_rule": "gated"}
    decay = normal(1, 3, 3)
    with pytest.raises(UnsupportedError, match="last axis of input 4"):
        check(
            "LinearAttention", [q, k, v, None, decay], attributes, outputs=2, opset=27, expected=[v, normal(1, 2, 4, 4)]
        )
    with pytest.raises(UnsupportedError, match="update_rule gated"):
        check("LinearAttention", [q, k, v], attributes, outputs=2, opset=27, expected=[v, normal(1, 2, 4, 4)])


# random inputs of the check that every plugin goes through ------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes", "outputs"),
    [
        ("Attention", [*[normal(2, 2, 6, 8)] * 3, None, None, None, np.array([1, 2])], {"is_causal": 1}, 1),
        ("RotaryEmbedding", [normal(2, 2, 6, 8), *[normal(3, 4)] * 2, np.zeros((2, 6), np.int64)], {}, 1),
        (
            "LinearAttention",
            [*[np.zeros((1, 400, 64), np.float32)] * 3, None, *[np.zeros((1, 400, 2), np.float32)] * 2],
            {"q_num_heads": 2, "kv_num_heads": 2},
            2,
        ),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_random_inputs_are_legal(
    operator: str, inputs: list[np.ndarray | None], attributes: dict[str, Any], outputs: int
) -> None:
    opset = 27 if operator == "LinearAttention" else 24
    node, feeds = single_node(operator, inputs, attributes, (), outputs, opset, "", None)
    drawn = random_inputs(node.subgraph, seed=3)
    assert drawn.keys() == feeds.keys()
    expected, _ = reference_outputs(node.subgraph.model, drawn)
    actual = run_on_cpu(node.subgraph, import_subgraph(node.subgraph), drawn)
    for mine, theirs in zip(actual, expected, strict=True):
        assert np.isfinite(theirs).all()
        assert difference(mine, np.asarray(theirs)).message is None
