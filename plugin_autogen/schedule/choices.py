"""What tuning chose for TIR functions: for each either a trace of schedule steps, or the default schedule.

A folder holds the choices for one device, `choices.json`, beside MetaSchedule's own records of all that was timed.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugin_autogen.errors import TuningError, shorten

if TYPE_CHECKING:
    from tvm import tirx

FILE = "choices.json"


@dataclass(frozen=True)
class Choice:
    """The outcome for one TIR function.

    Attributes:
        function: its name, for people.
        default_us: microseconds of one call with the default schedule.
        tuned_us: with the best candidate; None where none was valid.
        trace: MetaSchedule's JSON of the best candidate's steps; None: the default schedule is the best.
        trials: candidates that were timed.
    """

    function: str
    default_us: float
    tuned_us: float | None
    trace: Any
    trials: int


@dataclass(frozen=True)
class Choices:
    """All choices for one device.

    Attributes:
        device: name of the GPU.
        arch: its compute capability (87 for 8.7).
        tvm: version whose steps these are.
        by_function: by `key`.
    """

    device: str
    arch: int
    tvm: str
    by_function: dict[str, Choice] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Replaces the folder's file as a whole.

        Raises:
            TuningError: the folder cannot be written to.
        """
        try:
            with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".tmp", delete=False) as file:
                json.dump(asdict(self), file, indent=1)
            os.replace(file.name, folder / FILE)
        except OSError as error:
            raise TuningError(f"cannot write to {shorten(folder)}: {error.strerror}") from None


def load_choices(folder: Path) -> Choices:
    """Reads a folder's choices.

    Raises:
        TuningError: there are none, they cannot be read, or another TVM made them.
    """
    import tvm

    path = folder / FILE
    try:
        data = json.loads(path.read_text())
        found = {key: Choice(**choice) for key, choice in data.pop("by_function").items()}
        choices = Choices(**data, by_function=found)
    except FileNotFoundError:
        raise TuningError(f"{shorten(path)} does not exist: tune with --tune --tuning_db first") from None
    except OSError as error:
        raise TuningError(f"cannot read {shorten(path)}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise TuningError(f"{shorten(path)} holds no tuning choices ({shorten(error)}): delete it") from None
    if choices.tvm != tvm.__version__:
        raise TuningError(
            f"{shorten(path)} was made with TVM {shorten(choices.tvm)}, this is {tvm.__version__}: tune again"
        )
    return choices


def key(function: tirx.PrimFunc) -> str:
    """The same for functions that compute the same in the same way, whatever their name."""
    import tvm_ffi

    return f"{tvm_ffi.structural_hash(function.without_attr('global_symbol')) & (2**64 - 1):016x}"
