"""Every environment variable that otel_perf reads besides the standard ``OTEL_*`` ones, as documented constants.

``opentelemetry-instrument`` makes an option of each: ``OTEL_PERF_MEMORY_LIMIT`` is also ``--perf_memory_limit``.
"""

__all__ = [
    "OTEL_PERF_CARDINALITY_LIMIT",
    "OTEL_PERF_EXIT_TIMEOUT",
    "OTEL_PERF_GAUGE_MODE",
    "OTEL_PERF_HDR_LOG",
    "OTEL_PERF_HDR_LOG_INTERVAL",
    "OTEL_PERF_MEMORY_LIMIT",
    "OTEL_PERF_OBSERVER",
    "OTEL_PERF_OBSERVER_LOG",
    "OTEL_PERF_QUANTILES",
    "OTEL_PERF_QUANTILE_INSTRUMENTS",
    "OTEL_PERF_QUANTILE_WINDOW",
    "OTEL_PERF_SEGMENT",
    "OTEL_PERF_SELF_METRICS",
    "OTEL_PERF_SERVICE_INSTANCE_ID",
    "OTEL_PERF_VIEWS_FILE",
    "OTEL_PERF_WINDOWS",
    "OTEL_PERF_WINDOW_MEMORY_LIMIT",
    "OTEL_PERF_WORKERS",
]

OTEL_PERF_MEMORY_LIMIT = "OTEL_PERF_MEMORY_LIMIT"
"""
.. envvar:: OTEL_PERF_MEMORY_LIMIT

Bytes of the segment that holds all metric state of the service, all workers together. Default 1048576, accepted 131072 to 1073741824.
When it is full, new attribute sets are counted in the overflow series of their instrument (``otel.metric.overflow=true``).
"""

OTEL_PERF_CARDINALITY_LIMIT = "OTEL_PERF_CARDINALITY_LIMIT"
"""
.. envvar:: OTEL_PERF_CARDINALITY_LIMIT

Series per instrument before further attribute sets are counted in its overflow series. Default 2000, as the OpenTelemetry
specification recommends; accepted 1 to 1000000.
"""

OTEL_PERF_OBSERVER = "OTEL_PERF_OBSERVER"
"""
.. envvar:: OTEL_PERF_OBSERVER

Who reads the segment and exports: ``thread``, the default, threads of the application; ``process``, a process of its own, so that the application
loads no metric exporter and never waits for one, also at its end; ``off``, nobody in this process, for an observer that is started elsewhere.
"""

OTEL_PERF_OBSERVER_LOG = "OTEL_PERF_OBSERVER_LOG"
"""
.. envvar:: OTEL_PERF_OBSERVER_LOG

Path of a file that the observer process appends its log lines to, which the application logs under ``otel_perf.observer`` for as long as it lives.
"""

OTEL_PERF_EXIT_TIMEOUT = "OTEL_PERF_EXIT_TIMEOUT"
"""
.. envvar:: OTEL_PERF_EXIT_TIMEOUT

Milliseconds that the exit of the program may be delayed to send what is left of metrics, traces and logs, all together. Default 1000, accepted 0 to
2000. What cannot be sent by then is given up, with one line in the log; 0 waits for nothing.
"""

OTEL_PERF_GAUGE_MODE = "OTEL_PERF_GAUGE_MODE"
"""
.. envvar:: OTEL_PERF_GAUGE_MODE

What the values of a gauge in several workers become: ``mostrecent``, the default, the value that was set last; ``min``, ``max`` or ``sum`` of the workers
that live; ``all``, a point for each, with the attribute ``otel_perf.worker``. Of what the semantic conventions define, ``system.*`` is always that of one
worker and ``process.*`` that of each.
"""

OTEL_PERF_SEGMENT = "OTEL_PERF_SEGMENT"
"""
.. envvar:: OTEL_PERF_SEGMENT

Path of the segment to attach to. Set by the first instrumented process for the processes that it starts; there is no need to set it by hand.
A child whose ``OTEL_SERVICE_NAME`` differs ignores it and makes a segment of its own.
"""

OTEL_PERF_SERVICE_INSTANCE_ID = "OTEL_PERF_SERVICE_INSTANCE_ID"
"""
.. envvar:: OTEL_PERF_SERVICE_INSTANCE_ID

``service.instance.id`` of the metrics of that segment, whichever worker exports them. Set beside ``OTEL_PERF_SEGMENT``; to choose the id, name
``service.instance.id`` in ``OTEL_RESOURCE_ATTRIBUTES``.
"""

OTEL_PERF_VIEWS_FILE = "OTEL_PERF_VIEWS_FILE"
"""
.. envvar:: OTEL_PERF_VIEWS_FILE

Path of a YAML or JSON file with views, in the shape of ``meter_provider.views`` of an OpenTelemetry configuration file. YAML needs the
extra ``views``. Not read if ``OTEL_CONFIG_FILE`` is set, which has views of its own.
"""

OTEL_PERF_SELF_METRICS = "OTEL_PERF_SELF_METRICS"
"""
.. envvar:: OTEL_PERF_SELF_METRICS

Whether the ``otel_perf.*`` metrics are exported: memory of the segment by part, series, drops by reason, cost of a recording, CPU time, export
results. Default ``true``; ``false`` leaves them out.
"""

OTEL_PERF_HDR_LOG = "OTEL_PERF_HDR_LOG"
"""
.. envvar:: OTEL_PERF_HDR_LOG

Path of a file that all histograms are appended to, one line for each series and interval, in the log format of HdrHistogram. Each service needs a file of
its own; all of its workers share one. Rotating it is left to logrotate, which may move, remove or truncate it at any time. Not set: no log.
"""

OTEL_PERF_HDR_LOG_INTERVAL = "OTEL_PERF_HDR_LOG_INTERVAL"
"""
.. envvar:: OTEL_PERF_HDR_LOG_INTERVAL

Seconds between the intervals of ``OTEL_PERF_HDR_LOG``. Default 10, accepted 1 to 3600.
"""

OTEL_PERF_WINDOWS = "OTEL_PERF_WINDOWS"
"""
.. envvar:: OTEL_PERF_WINDOWS

Seconds of the windows that percentiles and rates of the last seconds are kept of, integers separated by commas. Default ``1,10,60``, accepted one to
eight different ones from 1 to 3600. The longest one decides how much of ``OTEL_PERF_WINDOW_MEMORY_LIMIT`` they take.
"""

OTEL_PERF_WINDOW_MEMORY_LIMIT = "OTEL_PERF_WINDOW_MEMORY_LIMIT"
"""
.. envvar:: OTEL_PERF_WINDOW_MEMORY_LIMIT

Bytes that the windows may take, besides a copy of the segment's slots. Default 4194304, accepted 65536 to 1073741824. 1,000 histograms with 20 recordings a
second take 2.7 MB for a minute. Where it does not suffice, windows lose precision, and then the oldest seconds.
"""

OTEL_PERF_QUANTILES = "OTEL_PERF_QUANTILES"
"""
.. envvar:: OTEL_PERF_QUANTILES

Quantiles from 0 to 1, separated by commas, that every exporter gets as gauges beside the histograms: ``<name>.quantile`` with an attribute
``quantile``. Not set: none. They cannot be merged; what is to be merged is the histogram.
"""

OTEL_PERF_QUANTILE_INSTRUMENTS = "OTEL_PERF_QUANTILE_INSTRUMENTS"
"""
.. envvar:: OTEL_PERF_QUANTILE_INSTRUMENTS

Names of the histograms with such gauges, separated by commas, with ``*`` for anything and ``?`` for one character. Default ``*``.
"""

OTEL_PERF_QUANTILE_WINDOW = "OTEL_PERF_QUANTILE_WINDOW"
"""
.. envvar:: OTEL_PERF_QUANTILE_WINDOW

Seconds of the trailing window that the gauges are of. Default 60, or the longest of ``OTEL_PERF_WINDOWS`` if that is less; accepted 1 to the longest.
"""

OTEL_PERF_WORKERS = "OTEL_PERF_WORKERS"
"""
.. envvar:: OTEL_PERF_WORKERS

What the processes of a service are to those who read its metrics: ``merged``, the default, one stream and one endpoint for all; ``separate``, a stream
for each process that the program forks or spawns, with its own ``service.instance.id``. Each then serves its own endpoint, at the first free one of the 64
ports from the one that is set; ``otel-perf doctor`` lists them. The HDR log of each has its process id behind the name.
"""

OTEL_PERF_SPAN_METRICS = "OTEL_PERF_SPAN_METRICS"
"""
.. envvar:: OTEL_PERF_SPAN_METRICS

Which spans become metrics: ``all``, the default, also those that the sampler drops, which are then recorded, but neither sampled nor exported; ``sampled``, those
that the sampler has recorded; ``off``, none.
"""

OTEL_PERF_SPAN_ATTRIBUTES = "OTEL_PERF_SPAN_ATTRIBUTES"
"""
.. envvar:: OTEL_PERF_SPAN_ATTRIBUTES

Keys of the span attributes that are shown of running and slow spans, separated by commas. Not set: none, because values may be secrets.
"""
