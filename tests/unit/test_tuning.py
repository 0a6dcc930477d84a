"""Tuning end to end, on the CPU: MetaSchedule, the database, a board behind a tracker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plugin_autogen.errors import TuningError
from plugin_autogen.schedule.choices import FILE, Choice, Choices, key, load_choices
from plugin_autogen.schedule.default import schedule_function
from plugin_autogen.schedule.rules.tuned import Tuned
from plugin_autogen.schedule.target import cuda_target
from plugin_autogen.tuning import Tracker, Tuning
from plugin_autogen.tuning.choose import chooser
from plugin_autogen.tuning.device import Device, find_device
from plugin_autogen.tuning.measure import Bench
from plugin_autogen.tuning.search import Search, is_tunable, plain
from plugin_autogen.tuning.space import space_of

CPU = Device("some cpu", 0)
TRIALS = 3


def _product(size: int = 32) -> Any:
    from tvm import te

    a, b = (te.placeholder((size, size), name=name) for name in "ab")
    k = te.reduce_axis((0, size), "k")
    c = te.compute((size, size), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="c")
    return te.create_prim_func([a, b, c])


def _gather(dtype: str = "float16") -> Any:
    from tvm import te

    x, at = te.placeholder((64, 96), dtype, name="x"), te.placeholder((512,), "int32", name="at")
    twice = te.compute((512, 96), lambda i, j: x[at[i], j] + x[at[i], j], name="twice")
    return te.create_prim_func([x, at, te.compute((512, 96), lambda i, j: twice[i, j] * x[at[i], j], name="y")])


def _bench(tracker: Tracker | None = None) -> Bench:
    from tvm.target import Target

    return Bench(Target({"kind": "llvm", "num-cores": 1}), None, tracker, jobs=2)


@pytest.fixture(scope="module")
def tracker() -> Iterator[Tracker]:
    """A tracker and one board of TVM's, as they run on other machines."""
    from tvm.rpc.tracker import Tracker as RpcTracker

    running = RpcTracker(host="127.0.0.1", port=9190, port_end=9290, silent=True)
    command = [sys.executable, "-m", "tvm.exec.rpc_server", "--host=127.0.0.1", "--port=9300", "--port-end=9400"]
    board = subprocess.Popen([*command, f"--tracker=127.0.0.1:{running.port}", "--key=board", "--silent"])
    try:
        yield Tracker("127.0.0.1", running.port, "board")
    finally:
        board.kill()
        board.wait()
        running.terminate()


def test_search_finds_a_faster_schedule_on_a_board_and_goes_on_where_it_was(tracker: Tracker, tmp_path: Path) -> None:
    function, seen = _product(), []

    def progress(what: str, done: int, total: int) -> None:
        seen.append((what, done, total))

    first = Search(tmp_path, CPU, _bench(tracker), TRIALS, progress).tune({"product": (function, function)})
    (choice,) = first.by_function.values()
    assert choice.trace is not None and choice.tuned_us is not None and choice.tuned_us < choice.default_us
    assert choice.trials == TRIALS and len((tmp_path / "records.json").read_text().splitlines()) == TRIALS
    assert any("default" in what and done == TRIALS for what, done, _ in seen)
    assert load_choices(tmp_path) == first

    seen.clear()
    again = Search(tmp_path, CPU, _bench(), TRIALS, progress).tune({"renamed": (function, function)})
    assert again == first and not seen

    Search(tmp_path, CPU, _bench(), TRIALS + 1, progress).tune({"product": (function, function)})
    assert len((tmp_path / "records.json").read_text().splitlines()) == TRIALS + 1


class _Impostor(Bench):
    """A bench on which every candidate is fast, and wrong."""

    def seconds(self, files: Any, function: Any) -> list[float | None]:
        return [1.0 if i == 0 else 0.1 for i in range(len(files))]

    def same_results(self, file: str, reference: str, function: Any) -> bool:
        wrong = Path(file).with_name("wrong.tar")
        Path(reference).replace(wrong)  # the reference is gone: the worker fails
        try:
            return super().same_results(file, reference, function)
        finally:
            wrong.replace(reference)


def test_candidate_that_fails_or_computes_something_else_is_not_taken(tmp_path: Path) -> None:
    function = _product()
    bench = _bench()
    bench.__class__ = _Impostor
    choices = Search(tmp_path, CPU, bench, 2, lambda *_: None).tune({"product": (function, function)})
    assert [choice.trace for choice in choices.by_function.values()] == [None]

    right, other = _bench().build([function, _other_product()])
    assert right and other
    assert _bench().same_results(right, right, function)
    assert not _bench().same_results(other, right, function)
    assert _bench().build([function.with_body(_nonsense())]) == [None]


def _other_product() -> Any:
    from tvm import te

    a, b = (te.placeholder((32, 32), name=name) for name in "ab")
    k = te.reduce_axis((0, 32), "k")
    return te.create_prim_func([a, b, te.compute((32, 32), lambda i, j: te.sum(a[i, k] * b[j, k], axis=k), name="c")])


def _nonsense() -> Any:
    from tvm import tirx

    return tirx.Evaluate(tirx.call_intrin("int32", "tirx.tvm_access_ptr"))


def test_folder_of_another_device_another_tvm_or_rubbish_is_refused(tmp_path: Path) -> None:
    import tvm

    with pytest.raises(TuningError, match="does not exist"):
        load_choices(tmp_path)
    Choices("other gpu", 90, tvm.__version__).save(tmp_path)
    with pytest.raises(TuningError, match="tuned on other gpu, this is some cpu"):
        Search(tmp_path, CPU, _bench(), 1, lambda *_: None).tune({})
    replace(Choices("x", 90, "0.1")).save(tmp_path)
    with pytest.raises(TuningError, match=r"TVM 0\.1"):
        load_choices(tmp_path)
    (tmp_path / FILE).write_text(json.dumps({"by_function": []}))
    with pytest.raises(TuningError, match="no tuning choices"):
        load_choices(tmp_path)


def test_two_processes_do_not_write_to_one_folder(tmp_path: Path) -> None:
    code = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(TuningError, match="in use by another process"):
            Search(tmp_path, CPU, _bench(), 1, lambda *_: None).tune({})
        other.kill()


def test_no_device_is_said_with_what_to_do(tracker: Tracker) -> None:
    with pytest.raises(TuningError, match=r"no NVIDIA GPU here.*--rpc_tracker"):
        find_device(None)
    with pytest.raises(TuningError, match=r"127\.0\.0\.1:9: no tracker answers .*rpc_tracker"):
        find_device(Tracker("127.0.0.1", 9, "board"))
    with pytest.raises(TuningError, match=r"no board with the key 'absent'.*rpc_server"):
        find_device(replace(tracker, key="absent"))
    with pytest.raises(TuningError, match="the board 'board' has no NVIDIA GPU"):
        find_device(tracker)


@pytest.mark.parametrize(("function", "spaces"), [(_gather, 1), (_product, 1)])
def test_candidates_for_a_gpu_become_kernels(function: Any, spaces: int) -> None:
    """Each of the space's schedules, taken as a choice, is the schedule that the function gets."""
    import tvm
    from tvm.s_tir import meta_schedule

    prim_func, target = function(), cuda_target()
    assert is_tunable(prim_func)
    module = tvm.IRModule({"main": prim_func.with_attr("global_symbol", "main")})
    space = space_of(prim_func, target, 75)
    context = meta_schedule.TuneContext(mod=module, target=target, space_generator=space, task_name="t", rand_state=1)
    found = context.generate_design_space()
    assert len(found) >= spaces
    for schedule in found:
        assert all(post.apply(schedule) for post in context.space_generator.postprocs)
        trace = json.loads(json.dumps(plain(schedule.trace.as_json())))
        choices = Choices("gpu", 75, tvm.__version__, {key(prim_func): Choice("f", 2.0, 1.0, trace, 1)})
        lowered = schedule_function(prim_func, "f", target, rules=[Tuned(choices, 75)])
        assert lowered.rule == "tuned" and len(lowered.kernels) == 1


def test_choice_without_trace_or_for_another_function_leaves_the_default() -> None:
    import tvm

    function, target = _gather(), cuda_target()
    choices = Choices("gpu", 75, tvm.__version__, {key(function): Choice("f", 1.0, 2.0, None, 1)})
    assert schedule_function(function, "f", target, rules=[Tuned(choices, 75)]).rule != "tuned"
    other = Choices("gpu", 75, tvm.__version__, {key(_product()): Choice("f", 2.0, 1.0, [[], []], 1)})
    assert schedule_function(function, "f", target, rules=[Tuned(other, 75)]).rule != "tuned"


def test_database_alone_needs_no_device(tmp_path: Path) -> None:
    import tvm

    Choices("gpu", 90, tvm.__version__).save(tmp_path)
    choose = chooser(Tuning(0, tmp_path), None, None, lambda *_: None)  # type: ignore[arg-type]
    assert choose(tvm.IRModule(), cuda_target()).device == "gpu"
