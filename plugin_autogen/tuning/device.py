"""The GPU that candidates are timed on."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import Any

from plugin_autogen.errors import TuningError, shorten
from plugin_autogen.tuning import Tracker

TRACKER = "python -m tvm.exec.rpc_tracker --host=0.0.0.0 --port=9190"
SERVER = "python -m tvm.exec.rpc_server --tracker=HOST:PORT --key=KEY"
SECONDS = 20
"""How long the tracker and a board may take to answer."""


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        name: as the driver has it.
        arch: its compute capability (87 for 8.7).
    """

    name: str
    arch: int

    @property
    def slug(self) -> str:
        """For the name of a folder."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-") or "gpu"


def find_device(tracker: Tracker | None) -> Device:
    """This machine's first GPU, or that of the board which the tracker gives first.

    Raises:
        TuningError: none answers; says what to do.
    """
    return _described(_local() if tracker is None else _remote(tracker))


def rpc_config(tracker: Tracker) -> Any:
    """The tracker, as MetaSchedule's runner takes it."""
    from tvm.s_tir.meta_schedule.runner import RPCConfig

    return RPCConfig(tracker.host, tracker.port, tracker.key, session_timeout_sec=SECONDS)


def _local() -> Any:
    import tvm

    device = tvm.cuda(0)
    if not device.exist:
        raise TuningError(
            "--tune: no NVIDIA GPU here to time candidates on: run where there is one, or give --rpc_tracker and "
            "--rpc_key of a board"
        )
    return device


def _remote(tracker: Tracker) -> Any:
    where = f"--rpc_tracker {shorten(tracker.host)}:{tracker.port}"
    try:
        socket.create_connection((tracker.host, tracker.port), SECONDS).close()  # TVM would try for a minute
    except OSError as error:
        raise TuningError(f"{where}: no tracker answers ({error.strerror or error}): start `{TRACKER}`") from None
    try:
        boards = rpc_config(tracker).connect_tracker().summary()["server_info"]
        if not any(board["key"] == f"server:{tracker.key}" for board in boards):
            raise TuningError(
                f"{where}: no board with the key '{shorten(tracker.key)}' is registered: start `{SERVER}` there"
            )
        session = rpc_config(tracker).connect_server()
    except TuningError:
        raise
    except Exception as error:  # TVM raises many kinds
        raise TuningError(
            f"{where}: the board '{shorten(tracker.key)}' does not answer: {shorten(error, 200)}"
        ) from None
    device = session.cuda(0)
    if not device.exist:
        raise TuningError(f"the board '{shorten(tracker.key)}' has no NVIDIA GPU that its TVM can use")
    return device


def _described(device: Any) -> Device:
    major, _, minor = str(device.compute_version).partition(".")
    return Device(str(device.device_name), int(major) * 10 + int(minor or 0))
