"""The search: MetaSchedule proposes and learns, the device decides, the default schedule is always a candidate."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import statistics
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugin_autogen.errors import TuningError, shorten
from plugin_autogen.schedule.choices import FILE, Choice, Choices, key, load_choices
from plugin_autogen.tuning.device import Device
from plugin_autogen.tuning.measure import Bench, remove
from plugin_autogen.tuning.space import space_of

if TYPE_CHECKING:
    from tvm import tirx

log = logging.getLogger(__name__)

BATCH = 16
"""Candidates between two looks at what was learned."""
FINALISTS = 3
ROUNDS = 3
"""The best candidates and the default are timed so often once more, in turns: the best of a hundred noisy figures is
partly luck."""
GAIN = 0.98
"""A tuned schedule is taken below this share of the default's time."""

Progress = Callable[[str, int, int], None]


class Search:
    """Tunes functions one after another and keeps records and choices in a folder.

    Every record is written as soon as it is there: after an interruption the same call goes on where it was.

    Args:
        folder: of the database.
        device: that the bench times on.
        bench: builds and times.
        trials: for each function, those of earlier calls counted.
        progress: called with what is being done and the best time so far.
    """

    def __init__(self, folder: Path, device: Device, bench: Bench, trials: int, progress: Progress) -> None:
        self._folder = folder
        self._device = device
        self._bench = bench
        self._trials = trials
        self._progress = progress

    def tune(self, functions: Mapping[str, tuple[tirx.PrimFunc, tirx.PrimFunc]]) -> Choices:
        """Searches for each function that the folder has no choice of as many trials for.

        Args:
            functions: name → (the function, the same as the default rules schedule it).

        Returns:
            All choices of the folder.

        Raises:
            TuningError: the folder is another device's, in use, or cannot be written to.
        """
        with _locked(self._folder):
            choices = self._known()
            for name, (function, default) in functions.items():
                known = choices.by_function.get(key(function))
                if not is_tunable(function) or (known is not None and known.trials >= self._trials):
                    continue
                choices.by_function[key(function)] = self._tune(name, function, default)
                choices.save(self._folder)
            return choices

    def _known(self) -> Choices:
        import tvm

        if not (self._folder / FILE).exists():
            return Choices(self._device.name, self._device.arch, tvm.__version__)
        choices = load_choices(self._folder)
        if (choices.device, choices.arch) != (self._device.name, self._device.arch):
            raise TuningError(
                f"{shorten(self._folder)} holds what was tuned on {shorten(choices.device)}, this is "
                f"{shorten(self._device.name)}: give another --tuning_db"
            )
        return choices

    def _tune(self, name: str, function: tirx.PrimFunc, default: tirx.PrimFunc) -> Choice:
        self._progress(f"tuning {name}: the default schedule", 0, self._trials)
        (reference,) = self._bench.build([default])
        try:
            start = self._bench.seconds([reference], function)[0] if reference else None
            candidates = self._candidates(name, function, start)
            return self._decide(name, function, reference, start, candidates)
        finally:
            remove([reference])

    def _candidates(self, name: str, function: tirx.PrimFunc, default: float | None) -> list[Any]:
        """MetaSchedule's records of the function, the fastest first."""
        import tvm
        from tvm.s_tir import meta_schedule

        module = tvm.IRModule({"main": function.with_attr("global_symbol", "main").with_attr("tirx.noalias", True)})
        database = meta_schedule.database.JSONDatabase(
            str(self._folder / "workloads.json"), str(self._folder / "records.json")
        )
        workload = database.commit_workload(module)
        measured = len(database.get_top_k(workload, self._trials))
        if measured < self._trials:
            task = meta_schedule.TuneContext(
                mod=module,
                target=self._bench.target,
                space_generator=space_of(function, self._bench.target, self._device.arch),
                # before the first batch there is nothing to learn from
                search_strategy="evolutionary" if self._trials > BATCH else "replay-trace",
                task_name=name,
                rand_state=1,
                logger=_quiet(),
            )
            meta_schedule.tune_tasks(
                tasks=[task],
                task_weights=[1.0],
                work_dir=str(self._folder),
                max_trials_global=self._trials - measured,
                num_trials_per_iter=min(BATCH, self._trials),
                builder=self._bench.builder,
                runner=self._bench.runner,
                database=database,
                cost_model="xgb",
                measure_callbacks=[
                    *meta_schedule.measure_callback.MeasureCallback.create("default"),
                    _live(self._progress, name, measured, self._trials, default),
                ],
                task_scheduler="round-robin",
            )
        return [record for record in database.get_top_k(workload, FINALISTS) if record.run_secs]

    def _decide(
        self, name: str, function: tirx.PrimFunc, reference: str | None, default: float | None, records: list[Any]
    ) -> Choice:
        """The fastest of default and finalists that gives the default's results."""
        from tvm import s_tir

        self._progress(f"tuning {name}: the best once more", self._trials, self._trials)
        traces = [plain(record.trace.as_json()) for record in records]
        scheduled = []
        for trace in traces:
            schedule = s_tir.Schedule(function)
            s_tir.schedule.Trace.apply_json_to_schedule(trace, schedule)
            scheduled.append(schedule.mod["main"])
        files = self._bench.build(scheduled)
        try:
            right = [
                i
                for i, file in enumerate(files)
                if file and reference and self._bench.same_results(file, reference, function)
            ]
            contestants = [reference, *(files[i] for i in right)]
            rounds = [self._bench.seconds([f for f in contestants if f], function) for _ in range(ROUNDS)]
        finally:
            remove(files)
        if default is None or reference is None:
            return Choice(name, 0.0, None, None, self._trials)
        medians = [
            statistics.median(times) if (times := [t for t in column if t is not None]) else float("inf")
            for column in zip(*rounds, strict=True)
        ]
        best = min(range(1, len(medians)), key=medians.__getitem__, default=None)
        tuned = None if best is None else medians[best]
        wins = best is not None and medians[best] < GAIN * medians[0]
        log.info("%s: default %.2f us, tuned %s", name, medians[0] * 1e6, f"{tuned * 1e6:.2f} us" if tuned else "none")
        return Choice(
            name,
            medians[0] * 1e6,
            None if tuned is None else tuned * 1e6,
            traces[right[best - 1]] if wins and best is not None else None,
            self._trials,
        )


def is_tunable(function: tirx.PrimFunc) -> bool:
    """Whether the function computes in blocks of fixed size, whose loops are mapped to nothing yet."""
    import tvm_ffi
    from tvm import s_tir, tirx

    obstacles: list[bool] = []
    blocks: list[Any] = []

    def visit(loop: tirx.For) -> None:
        obstacles.append(
            bool(loop.annotations)
            or int(loop.kind) == tirx.ForKind.THREAD_BINDING
            or not isinstance(loop.extent, tirx.IntImm)
        )

    tvm_ffi.structural_walk(function.body, [(tirx.For, visit), (s_tir.SBlock, blocks.append)])
    return len(blocks) > 1 and not any(obstacles)


def plain(value: Any) -> Any:
    """TVM's containers as Python's, for JSON."""
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if hasattr(value, "value"):
        return plain(value.value)
    if isinstance(value, Mapping) or hasattr(value, "items"):
        return {str(k): plain(v) for k, v in value.items()}
    return [plain(v) for v in value]


def _quiet() -> logging.Logger:
    """MetaSchedule writes tables after every batch; what matters of them is in our progress."""
    logger = logging.getLogger(f"{__name__}.meta_schedule")
    logger.setLevel(logging.ERROR)
    return logger


def _live(progress: Progress, name: str, measured: int, trials: int, default: float | None) -> Any:
    """MetaSchedule's callback that shows how far the search is."""
    from tvm.ir.utils import derived_object
    from tvm.s_tir.meta_schedule.measure_callback import PyMeasureCallback

    @derived_object
    class Live(PyMeasureCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.done = measured
            self.best = float("inf")

        def apply(self, _scheduler: Any, _task: int, _candidates: Any, _builds: Any, results: Any) -> None:
            self.done += len(results)
            for result in results:
                if result.run_secs:
                    times = [float(t) for t in result.run_secs]
                    self.best = min(self.best, sum(times) / len(times))
            best = f"{self.best * 1e6:.1f}" if self.best < float("inf") else "–"
            shown = f"{default * 1e6:.1f}" if default else "–"
            progress(f"tuning {name}: {best} µs (default {shown})", min(self.done, trials), trials)

    return Live()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time: MetaSchedule appends to its files without asking."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise TuningError(f"cannot write to {shorten(folder)}: {error.strerror}; give another --tuning_db") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TuningError(
                f"{shorten(folder)} is in use by another process that tunes: wait for it, or give another --tuning_db"
            ) from None
        yield
    finally:
        os.close(descriptor)
