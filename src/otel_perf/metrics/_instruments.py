"""What native instruments need of Python: membership in the SDK's classes, attribute cleaning, and the log line of an ignored recording."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Mapping
from typing import Any

from opentelemetry.attributes import _clean_attribute_value
from opentelemetry.sdk import metrics as sdk

from otel_perf import _context as _context  # noqa: PLC0414 - for what it states.
from otel_perf import _core
from otel_perf.segment import default_segment

_logger = logging.getLogger(__name__)

# Virtual subclasses: isinstance() holds, and the exact native types keep the interpreter's specialised calls, which a
# real subclass would lose (reference figures: 8.6 ns against 20 to 28 ns).
sdk.Counter.register(_core.Counter)
sdk.UpDownCounter.register(_core.UpDownCounter)
sdk.Histogram.register(_core.Histogram)
sdk._Gauge.register(_core.Gauge)

NATIVE = (_core.Counter, _core.UpDownCounter, _core.Histogram, _core.Gauge)
"""The types of the synchronous instruments."""

_live: weakref.WeakSet[Any] = weakref.WeakSet()

_REPEAT_AFTER_S = 60.0
_LOG_LINES_MAX = 256
_reported: dict[tuple[str, str, str], tuple[float, int]] = {}

_TEXTS = {
    ("Counter", "negative"): "Add amount must be non-negative on Counter %s.",
    ("Histogram", "negative"): "Record amount must be non-negative on Histogram %s.",
}
_VERBS = {"Counter": "Add", "UpDownCounter": "Add", "Histogram": "Record", "Gauge": "Set"}


def remember(instrument: Any) -> None:
    """Includes an instrument's process-local caches in ``memory_usage``."""
    _live.add(instrument)


def memory_usage() -> dict[str, int]:
    """Bytes that otel_perf's metric state takes, by part.

    Returns:
        The parts of the segment, which add up to its size, among them ``free``; and ``process_caches``: what this process keeps
        beside the segment to find series without copying attributes. Without a configured segment only the latter.
    """
    segment = default_segment()
    usage = segment.memory_usage() if segment is not None else {}
    usage["process_caches"] = sum(instrument._memory for instrument in list(_live))
    return usage


def clean_attributes(attributes: Any) -> dict[str, Any]:
    """The SDK's own cleaning, with its warnings, for attributes that native code does not take as they are."""
    if not isinstance(attributes, Mapping):
        _logger.warning("Invalid type '%s' for attributes. Expected a Mapping or None.", type(attributes))
        return {}
    return dict(_clean_attribute_value(attributes, None))


def _ignored(kind: str, name: str, reason: str, amount: Any, *, now: float | None = None) -> None:
    """Logs an ignored recording as the SDK words it, at most once a minute for each instrument and reason."""
    now = time.monotonic() if now is None else now
    key = (kind, name, reason)
    last, suppressed = _reported.get(key, (-_REPEAT_AFTER_S, 0))
    if key not in _reported and len(_reported) >= _LOG_LINES_MAX:
        return
    if now - last < _REPEAT_AFTER_S:
        _reported[key] = (last, suppressed + 1)
        return
    _reported[key] = (now, 0)
    more = f" ({suppressed} more like this since the last line.)" if suppressed else ""
    text = _TEXTS.get((kind, reason))
    if text is not None:
        _logger.warning("%s%s", text % name, more)
    else:
        _logger.warning(
            "%s amount %s is not finite on %s %s, ignoring measurement.%s", _VERBS[kind], amount, kind, name, more
        )


_core.set_hooks(clean_attributes, _ignored)
