"""Two of Polygraphy's runners on the same inputs, and how far the second one's outputs are from the first one's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plugin_autogen.errors import EngineError, shorten
from plugin_autogen.verify.compare import Difference, Tolerance, difference

if TYPE_CHECKING:
    import numpy as np

Outputs = Mapping[str, "np.ndarray"]


@dataclass(frozen=True)
class OutputDifference:
    """How far one output is from the reference, over all sets of inputs.

    Attributes:
        name: of the tensor.
        dtype: of the reference.
        shape: of the reference, with the first set.
        absolute: the largest absolute difference.
        relative: the largest share that a set's absolute difference is of its largest reference value.
        message: None where the output is right, else what is wrong, with the first set in which it is.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    absolute: float
    relative: float
    message: str | None


def compare_runners(
    reference: Any,
    actual: Any,
    feeds: Iterable[Mapping[str, np.ndarray]],
    tolerance: Tolerance | None = None,
    precisions: Sequence[str] = (),
    names: Sequence[str] | None = None,
    keep: Any = None,
) -> list[OutputDifference]:
    """Runs both on every feed and compares output by output.

    Args:
        reference: a Polygraphy runner; its outputs are the truth.
        actual: the runner to judge.
        feeds: sets of inputs; a Polygraphy data loader for random ones.
        tolerance: what may differ in every output; None: what its element type allows, integers nothing.
        precisions: narrower types that the engine computes in; without a `tolerance`, floats may differ as they do.
        names: the outputs to compare, in this order; None: all of the reference, which must be all of the other.
        keep: called with the number of the set, the reference's outputs and the other's.

    Raises:
        EngineError: a runner fails, outputs are missing, or there are no inputs: nothing was compared.
    """
    from polygraphy.comparator import Comparator
    from polygraphy.exception import PolygraphyException

    found: dict[str, OutputDifference] = {}
    count = 0
    try:
        for results in Comparator.run([reference, actual], data_loader=feeds, streaming=True):
            (_, (theirs,)), (_, (mine,)) = list(results)
            expected, got = dict(theirs.items()), dict(mine.items())
            if keep is not None:
                keep(count, expected, got)
            for name in _common(expected, got, names):
                one = _difference(got[name], expected[name], tolerance, precisions)
                found[name] = _merged(found.get(name), name, expected[name], one, count)
            count += 1
    except PolygraphyException as error:
        raise EngineError(f"the comparison failed: {shorten(error, 300)}") from None
    if not count or not found:
        raise EngineError("there was nothing to compare: no inputs, or no outputs")
    return list(found.values())


def _common(expected: Outputs, actual: Outputs, names: Sequence[str] | None) -> list[str]:
    wanted = list(expected) if names is None else list(names)
    missing = [name for name in wanted if name not in actual or name not in expected]
    if names is None:
        missing += [name for name in actual if name not in expected]
    if missing:
        raise EngineError(
            f"output '{shorten(missing[0])}' is in one of the two models only: is the second one made from the first?"
        )
    return wanted


def _difference(
    actual: np.ndarray, expected: np.ndarray, tolerance: Tolerance | None, precisions: Sequence[str]
) -> Difference:
    # What the parser of TensorRT 8 makes of types that it lacks.
    types = (expected.dtype.name, actual.dtype.name)
    if types == ("int64", "int32"):
        actual = actual.astype(expected.dtype)
    elif types == ("float64", "float32"):
        expected = expected.astype(actual.dtype)
    if tolerance is None:
        tolerance = loosest(expected.dtype.name, precisions)
    return difference(actual, expected, tolerance)


def loosest(dtype: str, precisions: Sequence[str]) -> Tolerance:
    """What an output of this element type may differ by, where the engine computes in these precisions too."""
    own = Tolerance.of(dtype)
    if not own.relative:  # integers and booleans are right or wrong
        return own
    # Calibrated int8 has 8 bits for the range of a whole tensor, as an e4m3 has for each number.
    kinds = {"fp16": "float16", "bf16": "bfloat16", "int8": "float8_e4m3fn"}
    return max([own, *(Tolerance.of(kinds[p]) for p in precisions)], key=lambda t: t.relative)


def _merged(
    before: OutputDifference | None, name: str, expected: np.ndarray, one: Difference, number: int
) -> OutputDifference:
    message = f"set {number}: {one.message}" if one.message is not None else None
    if before is None:
        shape = tuple(map(int, expected.shape))
        return OutputDifference(name, expected.dtype.name, shape, one.absolute, one.relative, message)
    return OutputDifference(
        name,
        before.dtype,
        before.shape,
        max(before.absolute, one.absolute),
        max(before.relative, one.relative),
        before.message if before.message is not None else message,
    )
