"""Runs a function over many names in worker processes: a crash or a hang costs one result, not the run."""

from __future__ import annotations

import multiprocessing as mp
import os
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait


def run_isolated(
    function: Callable[[str], object], names: Iterable[str], jobs: int, timeout: float, quiet: bool = True
) -> Iterator[tuple[str, object]]:
    """Yields (name, result) as they come; the result is an Exception where the worker crashed or took too long.

    Args:
        function: importable, called in a worker with one name.
        names: what to run.
        jobs: worker processes.
        timeout: seconds for one name.
        quiet: drop what the function prints, such as the warnings of libraries.
    """
    todo = list(names)[::-1]
    workers = [_Worker(function, quiet) for _ in range(min(jobs, len(todo)))]
    try:
        while todo or any(w.name is not None for w in workers):
            for worker in workers:
                if worker.name is None and todo:
                    worker.start(todo.pop())
            busy = [w for w in workers if w.name is not None]
            ready = set(wait([w.connection for w in busy], timeout=1.0))
            for worker in busy:
                name = worker.name
                assert name is not None
                if worker.connection in ready:
                    try:
                        yield name, worker.finish()
                    except EOFError:
                        yield name, RuntimeError(f"the process ended (exit code {worker.restart()})")
                elif time.monotonic() - worker.began > timeout:
                    worker.restart()
                    yield name, TimeoutError(f"no result after {timeout:.0f} s")
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    def __init__(self, function: Callable[[str], object], quiet: bool) -> None:
        self._function = function
        self._quiet = quiet
        self._spawn()

    def _spawn(self) -> None:
        context = mp.get_context("fork")
        self.connection, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._function, child, self._quiet), daemon=True)
        self._process.start()
        child.close()
        self.name: str | None = None
        self.began = 0.0

    def start(self, name: str) -> None:
        self.name, self.began = name, time.monotonic()
        self.connection.send(name)

    def finish(self) -> object:
        result: object = self.connection.recv()
        self.name = None
        return result

    def restart(self) -> int | None:
        self.stop()
        code = self._process.exitcode
        self._spawn()
        return code

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()


def _serve(function: Callable[[str], object], connection: Connection, quiet: bool) -> None:
    if quiet:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
    while True:
        try:
            name = connection.recv()
        except EOFError:
            return
        try:
            result = function(name)
        except Exception as error:  # every failure is a result
            result = RuntimeError(f"{type(error).__name__}: {error}")
        connection.send(result)
