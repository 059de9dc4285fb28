"""Counts in children of every kind; each argument is a kind, and all of them together are one service.

In every process 1 is added per task, and a callback reports 1. When all tasks are done, ``done N`` is printed, N being the number of tasks, and the program
waits for the end of its standard input.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

_meter = metrics.get_meter("children")
_tasks = _meter.create_counter("children.tasks")
_sizes = _meter.create_histogram("children.size", "By")


def _observed(_options: CallbackOptions) -> Iterable[Observation]:
    yield Observation(1)


_meter.create_observable_up_down_counter("children.processes", [_observed])

TASKS = 25


def task(_number: int = 0) -> int:
    """One task."""
    _tasks.add(1)
    _sizes.record(100)
    return os.getpid()


def tasks() -> None:
    """So many in one process."""
    for number in range(TASKS):
        task(number)


def processes(method: str) -> int:
    """Three processes of multiprocessing, started by one of its methods."""
    context: Any = multiprocessing.get_context(method)
    started = [context.Process(target=tasks) for _ in range(3)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    return 3 * TASKS


def pool(method: str) -> int:
    """A pool of multiprocessing whose processes are replaced after some tasks."""
    with multiprocessing.get_context(method).Pool(2, maxtasksperchild=10) as workers:
        workers.map(task, range(3 * TASKS), chunksize=1)
        workers.close()
        workers.join()
    return 3 * TASKS


def executor(method: str) -> int:
    """A pool of concurrent.futures."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as workers:
        list(workers.map(task, range(3 * TASKS)))
    return 3 * TASKS


def by_hand() -> int:
    """Forked children, one that ends with the exit handlers, one that does not, and one with a child of its own."""
    for kind in range(3):
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        tasks()
        if kind == 2 and os.fork() == 0:
            tasks()
            os._exit(0)
        if kind == 2:
            os.wait()
        if kind == 0:
            sys.exit()
        os._exit(0)
    return 4 * TASKS


def daemon() -> int:
    """A process that goes into the background and closes all descriptors, as PEP 3143 has it, and counts again afterwards."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        os.waitpid(child, 0)
        os.read(read, 1)
        return 2 * TASKS
    os.setsid()
    if os.fork():
        os._exit(0)
    tasks()
    for descriptor in range(64):
        # All but the pipe, which says when it is done.
        if descriptor != write:
            try:
                os.close(descriptor)
            except OSError:
                continue
    for _ in range(3):
        os.open(os.devnull, os.O_RDWR)
    tasks()
    os.write(write, b"x")
    os._exit(0)


KINDS: dict[str, Any] = {
    **{
        f"{kind.__name__} {method}": (kind, method)
        for kind in (processes, pool, executor)
        for method in ("fork", "spawn", "forkserver")
    },
    "by_hand": (by_hand,),
    "daemon": (daemon,),
}


def main() -> None:
    """Runs one kind after the other."""
    done = 0
    for name in sys.argv[1:]:
        kind, *arguments = KINDS[name]
        done += kind(*arguments)
    print("done", done, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
