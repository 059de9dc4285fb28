"""Which segment this process records into: create, attach and find; and what happens to it when the process forks.

The end of the process closes what is still open, natively and after all exit handlers of Python, some of which still export.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import ref

from otel_perf import _core
from otel_perf._core import HistogramSeries, HistogramSnapshot, SegmentError, find
from otel_perf.config import WORKERS
from otel_perf.environment_variables import OTEL_PERF_SEGMENT, OTEL_PERF_SERVICE_INSTANCE_ID

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.resources import Resource

    from otel_perf.config import Settings

__all__ = [
    "VERSION",
    "HistogramSeries",
    "HistogramSnapshot",
    "Segment",
    "SegmentError",
    "after_fork_in_child",
    "after_untold_fork_in_child",
    "default_segment",
    "find",
    "group_resource",
    "instance_id",
    "let_lead_where_threads_run",
    "open_default",
]

_logger = logging.getLogger(__name__)

Segment = _core.Segment
VERSION: str = _core.__version__
"""Version of otel_perf."""

_default: Segment | None = None
_in_child: list[Callable[[], object]] = []
_untold: list[Callable[[], object]] = []
_forks = _core.forks()


def after_fork_in_child(act: Callable[[], object]) -> None:
    """Has something done in every process that is forked from this one, once and in the order of registration.

    Also where the interpreter is not told of a fork, as by uWSGI, then at the first recording in the child.

    Args:
        act: What is called; what it raises is logged.
    """
    once = _Once(act)
    _in_child.append(once)
    # Each for itself, so that it has its place among the hooks of others: locks that they hold during a fork are given back by theirs.
    os.register_at_fork(after_in_child=once)


def after_untold_fork_in_child(act: Callable[[], object]) -> None:
    """As `after_fork_in_child`, before that, and only where the interpreter is not told: for what does the same by a hook of the interpreter.

    Args:
        act: What is called; what it raises is logged.
    """
    _untold.append(_Once(act))


class _Once:
    """Does something once in each process that was forked since."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self._forks = _core.forks()

    def __call__(self) -> None:
        forks = _core.forks()
        if forks == self._forks:
            return
        self._forks = forks
        try:
            self._act()
        except Exception:
            _logger.exception("Something of the parent process is left in process %d", os.getpid())


def _told() -> None:
    global _forks  # noqa: PLW0603 - a process has one number.
    _forks = _core.forks()


def _recorded() -> None:
    if _core.forks() != _forks:
        for act in (*_untold, *_in_child):
            act()
        _told()


os.register_at_fork(after_in_child=_told)
_core.set_forked(_recorded)


@cache
def _is_uwsgi() -> bool:
    """Whether this is uWSGI, also before its module is there: as a program that embeds the interpreter, or as the script of its package."""
    with suppress(OSError):
        if Path("/proc/self/exe").readlink().name.startswith("uwsgi"):
            return True
    return any(Path(argument).name in ("uwsgi", "pyuwsgi") for argument in sys.orig_argv[1:2])


def let_lead_where_threads_run(segment: Segment) -> None:
    """Keeps uWSGI's master, which lets no thread of Python run, from leading, and says where its workers let none run.

    Args:
        segment: The segment that the process would lead.
    """
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is None and not _is_uwsgi():
        return
    is_worker = uwsgi is not None and uwsgi.worker_id() > 0
    segment.bar_leading(not is_worker)
    if is_worker and not {"enable-threads", "threads"} & set(uwsgi.opt):
        _tell_of_threads()


@cache
def _tell_of_threads() -> None:
    _logger.warning("No metrics are exported: uWSGI lets no thread of Python run; start it with --enable-threads")


def create(memory_limit: int, service_name: str, workers: str = WORKERS[0]) -> Segment:
    """Creates a segment for this process, which leads, and the ones it forks.

    Args:
        memory_limit: Size in bytes.
        service_name: Service that the segment belongs to; children of other services do not attach.
        workers: ``separate`` if each process that is forked gets a segment of its own.

    Returns:
        The segment; a private one, with a warning, where shared memory cannot be had under a name.

    Raises:
        SegmentError: The size is not accepted or no memory can be mapped.
    """
    segment = Segment.create(memory_limit, service_name)
    let_lead_where_threads_run(segment)
    if workers == "separate":
        segment.set_separate(True)
        after_fork_in_child(partial(_separate, ref(segment)))
    # At once, and not at the first collection, which a child might be quicker to make.
    segment.lead()
    if segment.private_because is not None:
        _logger.warning(
            "Metrics are kept in private memory, which forked workers share but spawned ones and other programs do not see: %s",
            segment.private_because,
        )
    return segment


def _separate(found: ref[Segment]) -> None:
    segment = found()
    if segment is not None:
        # It has its own memory as soon as it has its own lane, before any thread of ours runs in the child.
        _ = segment.lane


def open_default(settings: Settings) -> Segment:
    """Opens the segment of the service: the one that the parent process named, or else a new one that children will find.

    Args:
        settings: Checked settings.

    Returns:
        The segment, the same one at every call.
    """
    global _default  # noqa: PLW0603 - one segment a process is the idea.
    if _default is not None:
        return _default
    segment = _attach_named(settings)
    if segment is None:
        segment = create(settings.memory_limit, settings.service_name, settings.workers)
        if segment.path is not None:
            os.environ[OTEL_PERF_SEGMENT] = str(segment.path)
    _default = segment
    return segment


def _attach_named(settings: Settings) -> Segment | None:
    if settings.segment_path is None or settings.workers == "separate":
        return None
    try:
        segment = Segment.attach(settings.segment_path)
    except SegmentError as error:
        _logger.warning("%s=%s: %s; using a segment of its own", OTEL_PERF_SEGMENT, settings.segment_path, error)
        return None
    if segment.service_name != settings.service_name or not segment.join():
        return None
    return segment


def instance_id(settings: Settings, own: str) -> str:
    """``service.instance.id`` of the service's metrics: all processes of one segment are one stream, whichever of them exports.

    Args:
        settings: The settings that the segment was opened with.
        own: The id of this process, which is the group's if this process made the segment; the processes that it starts will find it.

    Returns:
        The id of the group.
    """
    path = _default.path if _default is not None else None
    if path is None:
        return own
    if str(path) == settings.segment_path and settings.service_instance_id is not None:
        return settings.service_instance_id
    os.environ[OTEL_PERF_SERVICE_INSTANCE_ID] = own
    return own


def group_resource(settings: Settings, resource: Resource) -> Resource:
    """The resource of the metrics: that of this process, but for the id of the group of processes whose metrics they are.

    Args:
        settings: The settings that the segment was opened with.
        resource: The resource of this process.
    """
    from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, Resource  # noqa: PLC0415 - who reads segments needs no SDK.

    own = resource.attributes.get(SERVICE_INSTANCE_ID)
    if not isinstance(own, str):
        return resource
    group = instance_id(settings, own)
    return resource if group == own else resource.merge(Resource({SERVICE_INSTANCE_ID: group}))


def default_segment() -> Segment | None:
    """The segment of the service, or None while nothing is configured."""
    return _default


def close(segment: Segment) -> None:
    """Gives the segment's lane back and removes its file if no other process uses it."""
    global _default  # noqa: PLW0603 - see open_default.
    if segment is _default:
        if os.environ.get(OTEL_PERF_SEGMENT) == str(segment.path):
            del os.environ[OTEL_PERF_SEGMENT]
            os.environ.pop(OTEL_PERF_SERVICE_INSTANCE_ID, None)
        _default = None
    segment.close()
