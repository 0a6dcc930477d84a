"""Ranges of shapes: trtexec's spelling, TPAT's batch, and what they make of a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from plugin_autogen import releases
from plugin_autogen.errors import SelectionError
from plugin_autogen.graph.dynamic import DynamicModel, with_dynamic_shapes
from plugin_autogen.graph.extract import extract
from plugin_autogen.graph.selection import select
from plugin_autogen.graph.shapes import (
    Range,
    ShapeRange,
    ShapeRanges,
    batch_range,
    parse_shapes,
    profile_options,
    shape_ranges,
)
from tests.models import FLOAT, INT64, load, model, node


def test_shapes_are_spelled_as_trtexec_has_them() -> None:
    assert parse_shapes("x:1x8x64,y:4", "--minShapes") == {"x": (1, 8, 64), "y": (4,)}
    assert parse_shapes("'input:0':2x3,a/b.c:0", "--minShapes") == {"input:0": (2, 3), "a/b.c": (0,)}
    assert parse_shapes("input:0:2x3,s:scalar", "--minShapes") == {"input:0": (2, 3), "s": ()}
    ranges = shape_ranges({"in:0": (1, 3)}, {"in:0": (2, 3)}, {"in:0": (4, 3)})
    assert profile_options(ranges) == ("--minShapes='in:0':1x3", "--optShapes='in:0':2x3", "--maxShapes='in:0':4x3")
    assert profile_options({}) == ()


@pytest.mark.parametrize("text", ["", "x", "x:", "x:1x", "x:-1", "x:1,", "x:1,,y:2", ":1x2", "x:1x2 ", "x:1,x:2"])
def test_what_is_no_shape_is_refused(text: str) -> None:
    if text == "x:1,":
        assert parse_shapes(text, "--optShapes") == {"x": (1,)}
        return
    with pytest.raises(SelectionError, match="--optShapes"):
        parse_shapes(text, "--optShapes")


def test_sizes_beyond_32_bits_are_refused() -> None:
    with pytest.raises(SelectionError, match="beyond"):
        parse_shapes("x:4294967296", "--maxShapes")


def test_what_one_option_leaves_out_comes_from_the_others() -> None:
    assert shape_ranges({}, {"x": (4,)}, {}) == {"x": ShapeRange((4,), (4,), (4,))}
    assert shape_ranges({"x": (1,)}, {}, {"x": (8,)}) == {"x": ShapeRange((1,), (8,), (8,))}
    with pytest.raises(SelectionError, match="not in the order min, opt, max"):
        shape_ranges({"x": (4,)}, {"x": (2,)}, {"x": (8,)})
    with pytest.raises(SelectionError, match="differ in rank"):
        shape_ranges({"x": (4,)}, {"x": (2, 3)}, {})


def test_the_batch_has_tpats_defaults() -> None:
    assert batch_range(None, None, None) == Range(1, 128, 256)
    assert batch_range(None, None, 512) == Range(1, 128, 512)
    assert batch_range(None, None, 64) == Range(1, 64, 64)
    assert batch_range(300, None, None) == Range(300, 300, 300)
    assert batch_range(0, 4, 8) == Range(0, 4, 8)
    for wrong in ((4, 2, 8), (1, 9, 8), (-1, 2, 3), (1, 2, 2**40)):
        with pytest.raises(SelectionError, match="out of order"):
            batch_range(*wrong)


def _network() -> onnx.ModelProto:
    """x and y of a fixed batch, a convolution, a transpose and a sum."""
    return model(
        [
            node("Conv", "x w", "c", "conv", strides=[2, 2], pads=[1, 1, 1, 1]),
            node("Transpose", "c", "t", "turn", perm=[1, 0, 2, 3]),
            node("Relu", "t", "r", "relu"),
            node("Add", "c y", "z", "add"),
        ],
        {"x": (FLOAT, [4, 3, 32, 32]), "y": (FLOAT, [4, 1, 1, 1])},
        {"r": (FLOAT, [5, 4, 16, 16]), "z": (FLOAT, [4, 5, 16, 16])},
        {"w": np.ones((5, 3, 3, 3), np.float32)},
    )


def _dynamic(folder: Path, node_name: str, wanted: ShapeRanges, proto: onnx.ModelProto | None = None) -> DynamicModel:
    loaded = load(proto or _network(), folder)
    return with_dynamic_shapes(loaded, select(loaded, [node_name]), wanted)


def test_a_range_makes_a_fixed_dimension_symbolic_and_goes_through_the_model(tmp_path: Path) -> None:
    wanted = ShapeRanges(shape_ranges({"x": (1, 3, 32, 32)}, {"x": (2, 3, 64, 32)}, {"x": (8, 3, 128, 32)}))
    found = _dynamic(tmp_path, "relu", wanted)
    batch, channels, height, width = found.model.value("x").shape or ()
    assert isinstance(batch, str) and isinstance(height, str) and (channels, width) == (3, 32)
    assert found.model.value("t").shape == (5, batch, None, 16) or found.model.value("t").shape[:2] == (5, batch)
    assert found.ranges["t"] == (None, Range(1, 2, 8), Range(16, 32, 64), None)
    assert found.profile == wanted.tensors
    graph = found.model.proto.graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == batch
    assert not graph.output[0].type.tensor_type.shape.dim[1].HasField("dim_value")
    requests = select(found.model, ["relu"])
    extraction = extract(found.model, requests, releases.release("10"), allow_symbolic=True, ranges=found.ranges)
    subgraph = extraction.subgraphs[0]
    assert [subgraph.ranges[d] for d in subgraph.inputs[0].shape if isinstance(d, str)] == [
        Range(1, 2, 8),
        Range(16, 32, 64),
    ]


def test_a_range_of_one_size_fixes_a_dynamic_dimension(tmp_path: Path) -> None:
    proto = model([node("Relu", "x", "y", "relu")], {"x": (FLOAT, ["n", "m"])}, {"y": (FLOAT, ["n", "m"])})
    found = _dynamic(tmp_path, "relu", ShapeRanges(shape_ranges({}, {"x": (3, 4)}, {})), proto)
    assert found.model.value("y").shape == (3, 4)
    assert not found.ranges and not found.profile


def test_the_batch_reaches_all_inputs_above_the_selected_nodes(tmp_path: Path) -> None:
    found = _dynamic(tmp_path, "add", ShapeRanges(batch=Range(1, 2, 16)))
    assert found.model.value("x").shape == ("batch", 3, 32, 32)
    assert found.model.value("y").shape == ("batch", 1, 1, 1)
    assert found.model.value("z").shape == ("batch", 5, 16, 16)
    assert found.profile["x"] == ShapeRange((1, 3, 32, 32), (2, 3, 32, 32), (16, 3, 32, 32))
    alone = _dynamic(tmp_path, "relu", ShapeRanges(batch=Range(1, 2, 16)))
    assert alone.model.value("y").shape == (4, 1, 1, 1)


def test_a_batch_that_a_reshape_fixes_is_an_error(tmp_path: Path) -> None:
    proto = model(
        [node("Reshape", "x s", "r", "reshape"), node("Relu", "r", "y", "relu")],
        {"x": (FLOAT, [4, 6])},
        {"y": (FLOAT, [4, 2, 3])},
        {"s": np.array([4, 2, 3])},
    )
    with pytest.raises(SelectionError, match=r'node "relu": the first dimension of its input "r" stays 4'):
        _dynamic(tmp_path, "relu", ShapeRanges(batch=Range(1, 2, 16)), proto)


def test_own_dynamic_axes_need_no_range(tmp_path: Path) -> None:
    proto = model([node("Relu", "x", "y", "relu")], {"x": (FLOAT, ["n", 4])}, {"y": (FLOAT, ["n", 4])})
    found = _dynamic(tmp_path, "relu", ShapeRanges(), proto)
    assert found.ranges["y"] == (Range(0, 2, None), None)
    assert not found.profile
    assert ["--minShapes" in w for w in found.warnings] == [True]


def test_an_inner_tensor_has_the_range_that_it_is_given(tmp_path: Path) -> None:
    proto = model(
        [node("NonZero", "x", "i", "nonzero"), node("Cast", "i", "y", "cast", to=FLOAT)],
        {"x": (FLOAT, [4, 4])},
        {"y": (FLOAT, [2, None])},
    )
    found = _dynamic(tmp_path, "cast", ShapeRanges(shape_ranges({"i": (2, 0)}, {"i": (2, 8)}, {"i": (2, 16)})), proto)
    assert found.ranges["i"] == (None, Range(0, 8, 16))
    with pytest.raises(SelectionError, match='give tensor "i" rank 1'):
        _dynamic(tmp_path, "cast", ShapeRanges(shape_ranges({}, {"i": (2,)}, {})), proto)


def test_shapes_of_tensors_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r'tensor "z2", which is none of the model.*inputs are x, y'):
        _dynamic(tmp_path, "relu", ShapeRanges(shape_ranges({}, {"z2": (1,)}, {})))
    with pytest.raises(SelectionError, match='tensor "w", which is a constant'):
        _dynamic(tmp_path, "relu", ShapeRanges(shape_ranges({}, {"w": (1, 1, 1, 1)}, {})))


def test_equal_plugins_at_two_places_have_the_range_of_both(tmp_path: Path) -> None:
    proto = model(
        [node("Relu", "x", "a", "one"), node("Relu", "u", "b", "two")],
        {"x": (FLOAT, ["n", 3]), "u": (FLOAT, ["m", 3])},
        {"a": (FLOAT, ["n", 3]), "b": (FLOAT, ["m", 3])},
    )
    loaded = load(proto, tmp_path)
    requests = select(loaded, None, ["Relu"])
    given = shape_ranges({"x": (2, 3), "u": (1, 3)}, {"x": (4, 3), "u": (1, 3)}, {"x": (8, 3), "u": (5, 3)})
    found = with_dynamic_shapes(loaded, requests, ShapeRanges(given))
    extraction = extract(found.model, requests, releases.release("10"), allow_symbolic=True, ranges=found.ranges)
    assert [dict(s.ranges) for s in extraction.subgraphs] == [{"d0": Range(1, 4, 8)}]


def test_integer_inputs_keep_their_type(tmp_path: Path) -> None:
    proto = model([node("Abs", "x", "y", "abs")], {"x": (INT64, [1, 4])}, {"y": (INT64, [1, 4])})
    found = _dynamic(tmp_path, "abs", ShapeRanges(batch=Range(1, 2, 4)), proto)
    assert found.model.value("y").dtype == INT64
