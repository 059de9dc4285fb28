"""Processes that `multiprocessing` spawns start instrumented, as those that it forks are: uvicorn's workers, for example.

Whether the wrapper is in their environment depends on its release, and on the application. What a spawned process is prepared with is pickled; something
more in it starts otel_perf there if nobody has, before the application's own module is imported. The tracker that `multiprocessing` starts beside them, to
remove what they leave behind, runs nothing of the application and is left alone.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

# Of builtins alone, because the path to our package may not be known yet, and so that nothing that goes wrong can end the process.
_START = """
try:
    from otel_perf._spawned import start
    start()
except Exception:
    import logging
    logging.getLogger("otel_perf").exception("This process is not instrumented")
"""


class _Start:
    """Starts otel_perf where it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, (_START,)


def is_a_tracker() -> bool:
    """Whether this process is the resource tracker of `multiprocessing`."""
    return any(argument.startswith("from multiprocessing.resource_tracker import") for argument in sys.orig_argv)


@cache
def follow_multiprocessing() -> None:
    """Has processes that this one spawns start instrumented. `multiprocessing` is not imported for it."""
    from wrapt import register_post_import_hook  # noqa: PLC0415 - the instrumentation package has imported it.

    register_post_import_hook(_follow, "multiprocessing.spawn")


def _follow(spawn: ModuleType) -> None:
    prepared = spawn.get_preparation_data

    def get_preparation_data(*args: Any, **kwargs: Any) -> dict[str, Any]:
        return {**prepared(*args, **kwargs), "otel_perf": _Start()}

    spawn.get_preparation_data = get_preparation_data  # type: ignore[attr-defined]


def start() -> None:
    """Starts this process as the wrapper does, unless it is instrumented."""
    from opentelemetry.instrumentation.auto_instrumentation import initialize  # noqa: PLC0415 - only spawned processes pay for it.

    from otel_perf.distro import OtelPerfConfigurator  # noqa: PLC0415 - as above.

    if not OtelPerfConfigurator._has_run:
        initialize()
