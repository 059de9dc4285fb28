"""Which segment this process records into: create, attach and find.

The end of the process closes what is still open, natively and after all exit handlers of Python, some of which still export.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from otel_perf import _core
from otel_perf._core import HistogramSeries, HistogramSnapshot, SegmentError, find
from otel_perf.environment_variables import OTEL_PERF_SEGMENT, OTEL_PERF_SERVICE_INSTANCE_ID

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from otel_perf.config import Settings

__all__ = [
    "VERSION",
    "HistogramSeries",
    "HistogramSnapshot",
    "Segment",
    "SegmentError",
    "default_segment",
    "find",
    "group_resource",
    "instance_id",
    "open_default",
]

_logger = logging.getLogger(__name__)

Segment = _core.Segment
VERSION: str = _core.__version__
"""Version of otel_perf."""

_default: Segment | None = None


def create(memory_limit: int, service_name: str) -> Segment:
    """Creates a segment for this process, which leads, and the ones it forks.

    Args:
        memory_limit: Size in bytes.
        service_name: Service that the segment belongs to; children of other services do not attach.

    Returns:
        The segment; a private one, with a warning, where shared memory cannot be had under a name.

    Raises:
        SegmentError: The size is not accepted or no memory can be mapped.
    """
    segment = Segment.create(memory_limit, service_name)
    # At once, and not at the first collection, which a child might be quicker to make.
    segment.lead()
    if segment.private_because is not None:
        _logger.warning(
            "Metrics are kept in private memory, which forked workers share but spawned ones and other programs do not see: %s",
            segment.private_because,
        )
    return segment


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
        segment = create(settings.memory_limit, settings.service_name)
        if segment.path is not None:
            os.environ[OTEL_PERF_SEGMENT] = str(segment.path)
    _default = segment
    return segment


def _attach_named(settings: Settings) -> Segment | None:
    if settings.segment_path is None:
        return None
    try:
        segment = Segment.attach(settings.segment_path)
    except SegmentError as error:
        _logger.warning("%s=%s: %s; using a segment of its own", OTEL_PERF_SEGMENT, settings.segment_path, error)
        return None
    if segment.service_name != settings.service_name:
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
