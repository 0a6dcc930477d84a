"""Runs a request in a child process, which alone loads TensorRT.

The loader reads LD_LIBRARY_PATH when a process starts, and a native library that aborts must end in one clear line, not
in the end of this process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plugin_autogen.engine import runtime_library
from plugin_autogen.engine.runtime_library import Backend
from plugin_autogen.errors import EngineError, shorten


def run(backend: Backend, request: Mapping[str, Any]) -> dict[str, Any]:
    """What `worker.py` gives for the request. Raises the `EngineError` that it reports, or one that tells its end."""
    with tempfile.TemporaryDirectory(prefix="plugin_autogen-") as scratch:
        return _run(backend, request, Path(scratch))


def _run(backend: Backend, request: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    document = {**request, "module": backend.module, "title": backend.title, "release": str(backend)}
    (scratch / "request.json").write_text(json.dumps(document))
    journal = scratch / "journal.jsonl"
    environment = runtime_library.environment(backend, scratch)
    # The child finds this package where this process did, and runs in a folder that holds nobody's modules.
    package_root = str(Path(__file__).resolve().parents[2])
    paths = [package_root, *(str(Path(path).resolve()) for path in sys.path if path)]
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    done = subprocess.run(
        [sys.executable, "-m", "plugin_autogen.engine.worker", "request.json", "journal.jsonl"],
        cwd=scratch,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    text = journal.read_text(errors="replace") if journal.exists() else ""
    # A line without its end was being written when the process died.
    entries = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    results: list[dict[str, Any]] = [entry["result"] for entry in entries if "result" in entry]
    if results:
        return results[-1]
    last = entries[-1] if entries else {}
    if "error" in last:
        raise EngineError(last["error"])
    stage = last.get("stage", "starting")
    if done.returncode < 0:
        try:
            how = f"was killed by {signal.Signals(-done.returncode).name}"
        except ValueError:
            how = f"was killed by signal {-done.returncode}"
    else:
        how = f"ended with exit status {done.returncode}"
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    words = f": {shorten(lines[-1], 200)}" if lines else ""
    raise EngineError(f"{backend} {how} while {stage}{words}")
