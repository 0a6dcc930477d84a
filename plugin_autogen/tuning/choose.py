"""From `--tune` and its companions to the choices that the schedule stage applies."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from plugin_autogen.errors import TuningError
from plugin_autogen.schedule.choices import Choices, load_choices
from plugin_autogen.tuning import Tuning

if TYPE_CHECKING:
    import tvm
    from tvm.target import Target

    from plugin_autogen.build.toolchain import Toolchain

Progress = Callable[[str, int, int], None]
Choose = Callable[["tvm.IRModule", "Target"], Choices]


def chooser(tuning: Tuning, toolchain: Toolchain, jobs: int | None, progress: Progress) -> Choose:
    """A function that gives the choices for the TIR functions of a module, after tuning them where that is asked for.

    Raises:
        TuningError: no device to tune on, a missing package, or a database that does not serve.
    """
    if not tuning.trials:
        if tuning.database is None:
            raise TuningError("without trials there must be a database: give --tuning_db")
        choices = load_choices(tuning.database)
        return lambda module, target: choices
    if importlib.util.find_spec("xgboost") is None:
        raise TuningError("--tune needs XGBoost: pip install 'plugin_autogen[tune]'")

    from tvm.target import Target

    from plugin_autogen.schedule.default import functions_of, schedule_function
    from plugin_autogen.tuning.device import find_device
    from plugin_autogen.tuning.measure import Bench, CudaCompiler
    from plugin_autogen.tuning.search import Search

    device = find_device(tuning.tracker)
    folder = tuning.database or default_database(device.slug)
    compiler = CudaCompiler.of(toolchain, device.arch)
    searches: dict[str, Search] = {}

    def choose(module: tvm.IRModule, target: Target) -> Choices:
        if str(target) not in searches:
            settings = {k: v for k, v in target.export().items() if k != "host"}
            host = {"kind": "llvm", "mtriple": tuning.cpu} if tuning.cpu else "llvm"
            bench = Bench(Target(settings, host=host), compiler, tuning.tracker, jobs or os.cpu_count() or 1)
            searches[str(target)] = Search(folder, device, bench, tuning.trials, progress)
        return searches[str(target)].tune(
            {
                name: (function, schedule_function(function, name, target).scheduled)
                for name, function in functions_of(module).items()
            }
        )

    return choose


def default_database(slug: str) -> Path:
    """The folder for a device, in the user's cache folder.

    Raises:
        TuningError: the user has turned the cache off.
    """
    import tvm

    from plugin_autogen.build.cache import cache_dir

    folder = cache_dir()
    if folder is None:
        raise TuningError("the cache is turned off: name a folder with --tuning_db")
    return folder / "tuning" / f"{slug}-tvm-{tvm.__version__}"
