"""The arithmetic of `compare`, with Polygraphy's own comparator and runners of ours on both sides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from polygraphy.backend.base import BaseRunner
from polygraphy.common import TensorMetadata
from polygraphy.datatype import DataType

from plugin_autogen.engine.comparison import compare_runners
from plugin_autogen.engine.feeding import Feeds, data_loader
from plugin_autogen.errors import EngineError
from plugin_autogen.verify.compare import Tolerance

Arrays = dict[str, np.ndarray]


class Runner(BaseRunner):  # type: ignore[misc]
    """Computes with a function of ours."""

    def __init__(
        self, name: str, function: Callable[[np.ndarray], Mapping[str, np.ndarray]], shape: Any = (4,)
    ) -> None:
        super().__init__(name=name, prefix=name)
        self._function, self._shape = function, shape

    def activate_impl(self) -> None:
        pass

    def deactivate_impl(self) -> None:
        pass

    def get_input_metadata_impl(self) -> TensorMetadata:
        return TensorMetadata().add("x", DataType.FLOAT32, self._shape)

    def infer_impl(self, feed_dict: Arrays) -> Mapping[str, np.ndarray]:
        self.inference_time = 0.0
        return self._function(feed_dict["x"])


def _compare(reference: Any, actual: Any, feeds: Any = None, **options: Any) -> Any:
    feeds = feeds if feeds is not None else [{"x": np.arange(1, 5, dtype=np.float32)}]
    return compare_runners(Runner("reference", reference), Runner("actual", actual), feeds, **options)


def test_equal_outputs_are_equal() -> None:
    (output,) = _compare(lambda x: {"y": x * 2}, lambda x: {"y": x + x})
    assert (output.name, output.dtype, output.shape) == ("y", "float32", (4,))
    assert (output.absolute, output.relative, output.message) == (0, 0, None)


def test_the_largest_errors_of_all_sets_are_told() -> None:
    feeds = [{"x": np.full(4, size, np.float32)} for size in (1, 100, 10)]

    def off(x: np.ndarray) -> Arrays:
        return {"y": x + np.array([0, 0, 0.5 if x[0] == 1 else 2, 0], np.float32), "z": x}

    y, z = _compare(lambda x: {"y": x, "z": x}, off, feeds)
    assert (y.absolute, y.relative) == (2, 0.5)  # 2 of 100, 0.5 of 1
    assert y.message == "set 0: 1 of 4 values differ, the worst at [2]: 1.5 instead of 1.0"
    assert z.message is None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda x: x + np.float32(1e-2), "values differ"),
        (lambda x: np.where(x == 2, np.nan, x).astype(np.float32), "nan instead of 2"),
        (lambda x: np.where(x == 2, np.inf, x).astype(np.float32), "inf instead of 2"),
        (lambda x: x[:3], "shape [3], reference [4]"),
        (lambda x: x[None], "shape [1, 4], reference [4]"),
        (lambda x: x.astype(np.float16), "element type float16"),
        (lambda x: x.astype(np.int32), "element type int32"),
        (np.zeros_like, "4 of 4 values differ"),
        (lambda x: x[::-1].copy(), "values differ"),
    ],
)
def test_wrong_outputs_never_pass(wrong: Callable[[np.ndarray], np.ndarray], words: str) -> None:
    (output,) = _compare(lambda x: {"y": x}, lambda x: {"y": wrong(x)})
    assert output.message is not None and words in output.message


def test_a_difference_in_the_last_set_alone_counts() -> None:
    feeds = [{"x": np.full(4, i, np.float32)} for i in range(5)]
    (output,) = _compare(lambda x: {"y": x}, lambda x: {"y": np.minimum(x, 3)}, feeds)
    assert output.message is not None and output.message.startswith("set 4: ")
    assert output.absolute == 1


def test_narrow_precisions_and_explicit_tolerances() -> None:
    def reference(x: np.ndarray) -> Arrays:
        return {"y": x * 100, "n": x.astype(np.int32)}

    def off(x: np.ndarray) -> Arrays:
        return {"y": x * np.float32(100.5), "n": x.astype(np.int32) + 1}

    def verdicts(**options: Any) -> list[bool]:
        return [o.message is None for o in _compare(reference, off, **options)]

    assert verdicts() == [False, False]
    assert verdicts(precisions=["fp16"]) == [True, False]  # 5e-3 of the value; integers stay exact
    assert verdicts(tolerance=Tolerance(absolute=2)) == [True, True]
    assert verdicts(tolerance=Tolerance(absolute=1.9)) == [False, True]
    assert verdicts(tolerance=Tolerance(relative=0.0049)) == [False, False]
    assert verdicts(tolerance=Tolerance(relative=0.0051)) == [True, False]
    assert verdicts(tolerance=Tolerance()) == [False, False]


def test_types_that_an_old_parser_narrows() -> None:
    big = np.arange(4, dtype=np.int64) * 2**33
    exact = _compare(lambda x: {"y": np.arange(4)}, lambda x: {"y": np.arange(4, dtype=np.int32)})
    assert exact[0].message is None
    (wrapped,) = _compare(lambda x: {"y": big}, lambda x: {"y": big.astype(np.int32)})
    assert wrapped.message is not None and "3 of 4 values differ" in wrapped.message
    doubled = _compare(lambda x: {"y": x.astype(np.float64)}, lambda x: {"y": x})
    assert doubled[0].message is None
    (other,) = _compare(lambda x: {"y": x.astype(np.int32)}, lambda x: {"y": x.astype(np.int64)})
    assert other.message is not None


def test_nothing_compared_is_an_error() -> None:
    with pytest.raises(EngineError, match="output 'b' is in one of the two"):
        _compare(lambda x: {"a": x, "b": x}, lambda x: {"a": x})
    with pytest.raises(EngineError, match="output 'c' is in one of the two"):
        _compare(lambda x: {"a": x}, lambda x: {"a": x, "c": x})
    with pytest.raises(EngineError, match="output 'b' is in one of the two"):
        _compare(lambda x: {"a": x}, lambda x: {"a": x}, names=["a", "b"])
    with pytest.raises(EngineError, match="nothing to compare"):
        _compare(lambda x: {"a": x}, lambda x: {"a": x}, [])
    with pytest.raises(EngineError, match="nothing to compare"):
        _compare(lambda x: {}, lambda x: {})


def test_inputs_that_a_runner_does_not_take() -> None:
    with pytest.raises(EngineError, match="the comparison failed: ") as caught:
        _compare(lambda x: {"y": x}, lambda x: {"y": x}, [{"x": np.zeros(5, np.float32)}])
    assert "\n" not in str(caught.value)


def test_chosen_outputs_come_in_their_order_and_are_kept() -> None:
    kept: list[Any] = []
    found = _compare(
        lambda x: {"a": x, "b": x, "c": x},
        lambda x: {"c": x + 1, "a": x, "b": x},
        names=["c", "a"],
        keep=lambda *sides: kept.append(sides),
    )
    assert [(o.name, o.message is None) for o in found] == [("c", False), ("a", True)]
    ((number, theirs, ours),) = kept
    assert number == 0 and list(ours["c"] - theirs["c"]) == [1, 1, 1, 1]


# Inputs


def _request(**given: Any) -> dict[str, Any]:
    return {"files": [], "script": None, "function": "load_data", "shapes": {}, "sets": 1, "seed": 0, **given}


def test_random_inputs_have_the_engines_shapes_and_come_again() -> None:
    shapes = {"x": (2, 3)}
    seen: list[np.ndarray] = []

    def look(x: np.ndarray) -> Arrays:
        seen.append(x.copy())
        return {"y": x}

    for request in (_request(sets=2, seed=7), _request(sets=1, seed=7), _request(shapes={"x": [5, 3]})):
        loader = data_loader(request, ["x"], shapes)
        compare_runners(Runner("reference", look, ("n", 3)), Runner("actual", lambda x: {"y": x}, (-1, 3)), loader)
    first, second, again, other = seen
    assert first.shape == (2, 3) and other.shape == (5, 3)
    assert (first == again).all() and (first != second).any()
    assert first.min() >= 0 and first.max() < 1 and len(np.unique(first)) == 6
    with pytest.raises(EngineError, match="--shapes names 'z', the model's inputs are 'x'"):
        data_loader(_request(shapes={"z": [1]}), ["x"], shapes)


def test_files_and_scripts(tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", x=np.ones(3, np.float32), y=np.zeros((), np.int64), unused=np.zeros(1))
    np.savez(tmp_path / "1.npz", y=np.ones(()))
    np.save(tmp_path / "2.npy", np.ones(3))
    (tmp_path / "3.npz").write_text("text")
    feeds = Feeds(_request(files=[str(tmp_path / "0.npz")]), ["x", "y"])
    for _ in range(2):  # a calibrator goes through them again
        (feed,) = feeds
        assert sorted(feed) == ["x", "y"] and feed["y"].shape == () and list(feed["x"]) == [1, 1, 1]
    for name, words in (
        ("1.npz", "has no array for input 'x': it has 'y'"),
        ("2.npy", "no .npz"),
        ("3.npz", "no .npz"),
    ):
        with pytest.raises(EngineError, match=words):
            list(Feeds(_request(files=[str(tmp_path / name)]), ["x"]))

    script = tmp_path / "data.py"
    script.write_text(
        "import numpy as np\n"
        "def load_data():\n    for i in range(3):\n        yield {'x': np.load('2.npy') * i}\n"
        "def empty():\n    return []\n"
        "def broken():\n    yield {'x': np.ones(1)}\n    raise KeyError('so\\nso')\n"
        "def list_of_arrays():\n    return [np.ones(1)]\n"
    )

    def of(function: str) -> list[Arrays]:
        return list(Feeds(_request(script=str(script), function=function, folder=str(tmp_path)), ["x"]))

    assert [list(feed["x"]) for feed in of("load_data")] == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
    for function, words in (
        ("empty", "gives no inputs"),
        ("broken", "broken: KeyError: 'so"),
        ("list_of_arrays", "set 0 of .* is no dict"),
        ("missing", "missing: "),
    ):
        with pytest.raises(EngineError, match=words) as caught:
            of(function)
        assert "\n" not in str(caught.value)
