"""Search for faster schedules with MetaSchedule, on a GPU here or on a board behind TVM's RPC tracker.

The stage stands between lowering and scheduling: it takes the TIR functions, times candidates, and leaves its choices
in a folder (`schedule.choices`), from which the schedule stage reads them. Nothing after it knows that it ran.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_TRIALS = 128


@dataclass(frozen=True)
class Tracker:
    """Where TVM's RPC tracker listens, and which boards to ask it for."""

    host: str
    port: int
    key: str


@dataclass(frozen=True)
class Tuning:
    """What is tuned, or was.

    Attributes:
        trials: candidates to time for each TIR function, those of earlier runs counted; 0: none, use what is known.
        database: folder of records and choices; None: one for the device in the user's cache folder.
        tracker: boards to time on; None: this machine's GPU.
        cpu: LLVM's triple of the board's CPU; None: this machine's.
    """

    trials: int = DEFAULT_TRIALS
    database: Path | None = None
    tracker: Tracker | None = None
    cpu: str | None = None
