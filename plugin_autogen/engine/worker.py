"""The child process of this package: does what a request (JSON) asks for.

Appends what it is about to do, and at last a result or an error, to a journal (JSON lines); `child.py` reads it. What
TensorRT prints itself goes to the parent through the process's output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plugin_autogen.engine import execution, network
from plugin_autogen.engine.network import Journal
from plugin_autogen.errors import PluginAutogenError

ACTIONS = {
    "build": network.build,
    "supports": network.supports,
    "compare": execution.compare,
    "bench": execution.bench,
}


def main(arguments: Sequence[str]) -> int:
    request: dict[str, Any] = json.loads(Path(arguments[0]).read_text())
    journal = Journal(Path(arguments[1]))
    try:
        ACTIONS[request["action"]](request, journal)
    except PluginAutogenError as error:
        journal.write(error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
