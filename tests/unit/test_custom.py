"""Users' converters and functions: which one serves, and how long."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from plugin_autogen import releases
from plugin_autogen.errors import ConverterError, UnsupportedError
from plugin_autogen.graph.extract import extract
from plugin_autogen.graph.model import load_model, with_inputs
from plugin_autogen.graph.selection import select
from plugin_autogen.lowering import custom, registry
from plugin_autogen.lowering.importer import import_subgraph
from plugin_autogen.verify.cpu import check_on_cpu, run_on_cpu
from plugin_autogen.verify.reference import has_reference
from tests.models import FLOAT, model, node

V3 = releases.release("10")
X = np.linspace(-2, 2, 8, dtype=np.float32)

SCALE = """
from tvm import te
from plugin_autogen import converter

def times(factor):
    def convert(context):
        return context.te(lambda x: te.compute(x.shape, lambda *i: x(*i) * float(factor)), context.input(0))
    return convert
"""


def written(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def computed(proto: onnx.ModelProto, folder: Path, *files: Path) -> np.ndarray:
    """The output of the model's only node `n`, for X, on the CPU."""
    onnx.save(proto, folder / "m.onnx")
    with custom.converters(files) as functions:
        loaded = load_model(folder / "m.onnx", functions, custom.output_types)
        (subgraph,) = extract(loaded, select(loaded, ["n"]), V3).subgraphs
        result: np.ndarray = run_on_cpu(subgraph, import_subgraph(subgraph), {"input_0": X})[0]
    return result


def calls(domain: str, operator: str, body: list[onnx.NodeProto] | None = None) -> onnx.ModelProto:
    opset = [helper.make_opsetid("", 17)]
    functions = [helper.make_function(domain, operator, ["x"], ["y"], body, opset)] if body else []
    return model(
        [node(operator, "x", "y", "n", domain=domain)],
        {"x": (FLOAT, [8])},
        {"y": (FLOAT, None if domain else [8])},
        domains={domain: 1} if domain else None,
        functions=functions,
    )


def test_a_users_converter_comes_before_ours_and_only_while_its_file_is_in_use(tmp_path: Path) -> None:
    file = written(tmp_path, SCALE + "converter('Relu', since=1)(times(3))")  # ours is of later opsets too
    ours = registry.find("", "Relu", 17)
    np.testing.assert_array_equal(computed(calls("", "Relu"), tmp_path, file), 3 * X)
    np.testing.assert_array_equal(computed(calls("", "Relu"), tmp_path), np.maximum(X, 0))
    assert registry.find("", "Relu", 17) is ours


def test_a_converter_comes_before_a_local_function_and_the_last_file_before_the_first(tmp_path: Path) -> None:
    proto = calls("mine", "Op", [node("Neg", "x", "y")])
    first = written(tmp_path, SCALE + "converter('Op', domain='mine')(times(3))", "a.py")
    second = written(tmp_path, SCALE + "converter('Op', domain='mine')(times(5))", "b.py")
    np.testing.assert_array_equal(computed(proto, tmp_path), -X)
    np.testing.assert_array_equal(computed(proto, tmp_path, first), 3 * X)
    np.testing.assert_array_equal(computed(proto, tmp_path, first, second), 5 * X)


def test_versions_of_a_domain(tmp_path: Path) -> None:
    text = "converter('Op', domain='mine', since=1)(times(3))\nconverter('Op', domain='mine', since=4)(times(5))"
    file = written(tmp_path, SCALE + text)
    proto = calls("mine", "Op")
    np.testing.assert_array_equal(computed(proto, tmp_path, file), 3 * X)
    proto.opset_import[1].version = 7
    np.testing.assert_array_equal(computed(proto, tmp_path, file), 5 * X)


FUNCTIONS = """
from onnxscript import opset{opset} as op, script
from onnxscript.values import Opset

mine = Opset("mine", 1)

@script(mine)
def Half(x, by: float = 0.5):
    return op.Identity(x) * by

@script(mine)
def Op(x):
    return op.{last}(Half(x), keepdims=0) + mine.Half(x, by=0.25)
"""


@pytest.mark.parametrize(("opset", "last"), [(17, "ReduceMax"), (15, "ReduceMax"), (18, "ReduceSum")])
def test_onnxscript_functions_of_this_and_other_opsets(opset: int, last: str, tmp_path: Path) -> None:
    file = written(tmp_path, FUNCTIONS.format(opset=opset, last=last))
    result = computed(calls("mine", "Op"), tmp_path, file)
    np.testing.assert_allclose(result, (X / 2).max() * (last == "ReduceMax") + X / 4, atol=1e-6)


def test_a_function_that_means_something_else_in_the_models_opset_is_converted_or_refused(tmp_path: Path) -> None:
    simple = """
from onnxscript import opset18 as op, script
from onnxscript.values import Opset

@script(Opset("mine", 1))
def Op(x):
    return op.ReduceMax(x, keepdims=1)
"""
    np.testing.assert_array_equal(computed(calls("mine", "Op"), tmp_path, written(tmp_path, simple)), [2])
    nested = written(tmp_path, FUNCTIONS.format(opset=18, last="ReduceMax"))  # its axes became an input in opset 18
    np.testing.assert_allclose(computed(calls("mine", "Op"), tmp_path, nested), 1 + X / 4)
    newer = written(tmp_path, simple.replace("opset18", "opset20").replace("ReduceMax(x, keepdims=1)", "Gelu(x)"))
    with pytest.raises(UnsupportedError, match=r"mine::Op .*write them for opset 17"):
        computed(calls("mine", "Op"), tmp_path, newer)


def test_a_function_of_the_model_comes_before_one_of_a_file(tmp_path: Path) -> None:
    file = written(tmp_path, FUNCTIONS.format(opset=17, last="ReduceMax"))
    np.testing.assert_array_equal(computed(calls("mine", "Op", [node("Neg", "x", "y")]), tmp_path, file), -X)


def test_types_behind_a_chain_of_foreign_operators(tmp_path: Path) -> None:
    """Each one's type follows from the one before, with ONNX's inference in between."""
    text = """
from tvm import te
from plugin_autogen import converter

@converter("Pool", domain="mine")
def pool(context):
    size = int(context.constant(1))
    x = context.input(0)
    return context.te(lambda t: te.compute((t.shape[0], t.shape[1] // size), lambda n, i: t[n, i * size]), x)
"""
    nodes = []
    for i in range(3):
        nodes += [node("Pool", f"t{i} two", f"p{i}", f"pool{i}", domain="mine"), node("Relu", f"p{i}", f"t{i + 1}")]
    proto = model(nodes, {"t0": (FLOAT, ["n", 16])}, {"t3": (FLOAT, None)}, {"two": np.int64(2)}, domains={"mine": 1})
    onnx.save(proto, tmp_path / "m.onnx")
    with custom.converters([written(tmp_path, text)]) as functions:
        loaded = load_model(tmp_path / "m.onnx", functions, custom.output_types)
        assert [loaded.value(f"t{i}").shape for i in range(4)] == [("n", 16), ("n", 8), ("n", 4), ("n", 2)]
        assert loaded.value("t3").dtype == FLOAT
        # other shapes of the inputs, told anew
        assert [with_inputs(loaded, {"t0": (5, 64)}).value(f"t{i}").shape for i in (1, 3)] == [(5, 32), (5, 8)]
        assert loaded.value("t3").shape == ("n", 2)


def test_a_reference_catches_a_wrong_converter(tmp_path: Path) -> None:
    onnx.save(calls("mine", "Op"), tmp_path / "m.onnx")

    def checked(reference: str) -> float:
        file = written(tmp_path, SCALE + f"converter('Op', domain='mine', reference={reference})(times(3))")
        with custom.converters([file]) as functions:
            loaded = load_model(tmp_path / "m.onnx", functions, custom.output_types)
            (subgraph,) = extract(loaded, select(loaded, ["n"]), V3).subgraphs
            if not has_reference(subgraph.model):
                return -1
            return check_on_cpu(subgraph, import_subgraph(subgraph)).absolute

    assert checked("lambda x: 3 * x") == 0
    assert checked("None") == -1
    with pytest.raises(Exception, match="differs from ONNX reference"):
        checked("lambda x: 4 * x")


class _Point:
    name = "mine"

    def __init__(self, load: object) -> None:
        self.load = load


def test_installed_packages_offer_converters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, SCALE + "converter('Op', domain='mine')(times(3))")
    points = [_Point(lambda: custom._run(file))]

    def entry_points(group: str) -> list[_Point]:
        assert group == "plugin_autogen.converters"
        return points

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    np.testing.assert_array_equal(computed(calls("mine", "Op"), tmp_path), 3 * X)

    def broken() -> None:
        raise ImportError("no module named x")

    points[0] = _Point(broken)
    with pytest.raises(ConverterError, match=r'entry point "mine".*no module named x'):
        computed(calls("mine", "Op"), tmp_path)
