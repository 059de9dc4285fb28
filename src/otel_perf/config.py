"""Settings: the only reader of the environment, and the judge of its values.

A wrong value never stops the application. It is reported in one line that names variable, value and accepted values, and the default takes its place,
also for the standard variables that the SDK would answer with an exception.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from os import environ
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry.environment_variables import (
    OTEL_LOGS_EXPORTER,
    OTEL_METRICS_EXPORTER,
    OTEL_PYTHON_ID_GENERATOR,
    OTEL_TRACES_EXPORTER,
)
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_COMPRESSION,
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_LOGS_COMPRESSION,
    OTEL_EXPORTER_OTLP_LOGS_ENDPOINT,
    OTEL_EXPORTER_OTLP_LOGS_PROTOCOL,
    OTEL_EXPORTER_OTLP_LOGS_TIMEOUT,
    OTEL_EXPORTER_OTLP_METRICS_COMPRESSION,
    OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION,
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL,
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE,
    OTEL_EXPORTER_OTLP_METRICS_TIMEOUT,
    OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TIMEOUT,
    OTEL_EXPORTER_OTLP_TRACES_COMPRESSION,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_TIMEOUT,
    OTEL_EXPORTER_PROMETHEUS_HOST,
    OTEL_EXPORTER_PROMETHEUS_PORT,
    OTEL_METRIC_EXPORT_INTERVAL,
    OTEL_METRIC_EXPORT_TIMEOUT,
    OTEL_METRICS_EXEMPLAR_FILTER,
    OTEL_SDK_DISABLED,
    OTEL_SERVICE_NAME,
    OTEL_TRACES_SAMPLER,
    OTEL_TRACES_SAMPLER_ARG,
)
from opentelemetry.util._importlib_metadata import entry_points

from otel_perf._core import MEMORY_LIMIT_DEFAULT, MEMORY_LIMIT_MAX, MEMORY_LIMIT_MIN
from otel_perf.environment_variables import (
    OTEL_PERF_CARDINALITY_LIMIT,
    OTEL_PERF_EXIT_TIMEOUT,
    OTEL_PERF_GAUGE_MODE,
    OTEL_PERF_HDR_LOG,
    OTEL_PERF_HDR_LOG_INTERVAL,
    OTEL_PERF_MEMORY_LIMIT,
    OTEL_PERF_OBSERVER,
    OTEL_PERF_OBSERVER_LOG,
    OTEL_PERF_QUANTILE_INSTRUMENTS,
    OTEL_PERF_QUANTILE_WINDOW,
    OTEL_PERF_QUANTILES,
    OTEL_PERF_SEGMENT,
    OTEL_PERF_SELF_METRICS,
    OTEL_PERF_SERVICE_INSTANCE_ID,
    OTEL_PERF_SPAN_ATTRIBUTES,
    OTEL_PERF_SPAN_METRICS,
    OTEL_PERF_VIEWS_FILE,
    OTEL_PERF_WINDOW_MEMORY_LIMIT,
    OTEL_PERF_WINDOWS,
    OTEL_PERF_WORKERS,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

__all__ = [
    "CARDINALITY_LIMIT_DEFAULT",
    "CARDINALITY_LIMIT_MAX",
    "COMPRESSIONS",
    "EXIT_TIMEOUT_DEFAULT",
    "EXIT_TIMEOUT_MAX",
    "OBSERVERS",
    "OTLP_EXPORTERS",
    "PROTOCOLS",
    "WINDOWS_DEFAULT",
    "WINDOWS_MAX",
    "WINDOW_MAX_S",
    "WINDOW_MEMORY_LIMIT_DEFAULT",
    "Settings",
    "read",
    "report",
    "sanitise",
    "set_defaults",
]

_logger = logging.getLogger(__name__)

CARDINALITY_LIMIT_DEFAULT = 2000
CARDINALITY_LIMIT_MAX = 1_000_000
EXIT_TIMEOUT_DEFAULT = 1000
EXIT_TIMEOUT_MAX = 2000
GAUGE_MODES = ("mostrecent", "min", "max", "sum", "all")
"""What several workers' values of a gauge become."""
WORKERS = ("merged", "separate")
"""What the processes of a service are to those who read its metrics."""
SPAN_METRICS = ("all", "sampled", "off")
"""Which spans may become metrics."""
OBSERVERS = ("thread", "process", "off")
"""Who may read the segment and export."""
WINDOWS_DEFAULT = (1, 10, 60)
WINDOWS_MAX = 8
WINDOW_MAX_S = 3600
WINDOW_MEMORY_LIMIT_DEFAULT = 4_194_304
QUANTILE_WINDOW_DEFAULT_S = 60
EXPORT_INTERVAL_DEFAULT_S = 60.0

_ENDPOINTS = {
    OTEL_METRICS_EXPORTER: OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    OTEL_TRACES_EXPORTER: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_LOGS_EXPORTER: OTEL_EXPORTER_OTLP_LOGS_ENDPOINT,
}
_GROUPS = {
    OTEL_METRICS_EXPORTER: "opentelemetry_metrics_exporter",
    OTEL_TRACES_EXPORTER: "opentelemetry_traces_exporter",
    OTEL_LOGS_EXPORTER: "opentelemetry_logs_exporter",
}
OTLP_EXPORTERS = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
"""Entry point of the OTLP exporter of each protocol."""
PROTOCOLS = {
    "metrics": OTEL_EXPORTER_OTLP_METRICS_PROTOCOL,
    "traces": OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    "logs": OTEL_EXPORTER_OTLP_LOGS_PROTOCOL,
}
"""Variable of each signal's OTLP protocol."""
COMPRESSIONS = {
    "metrics": OTEL_EXPORTER_OTLP_METRICS_COMPRESSION,
    "traces": OTEL_EXPORTER_OTLP_TRACES_COMPRESSION,
    "logs": OTEL_EXPORTER_OTLP_LOGS_COMPRESSION,
}
"""Variable of each signal's OTLP compression."""


@dataclass(frozen=True)
class Settings:
    """What the environment asks for, checked.

    Attributes:
        memory_limit: Bytes of the segment.
        cardinality_limit: Series per instrument before the overflow series.
        segment_path: Segment of the process that started this one, or None.
        service_instance_id: ``service.instance.id`` of that segment's metrics, or None.
        service_name: ``OTEL_SERVICE_NAME``, empty if not set.
        prometheus_host: Address that the Prometheus endpoint binds to.
        prometheus_port: Port of the Prometheus endpoint.
        disabled: Whether ``OTEL_SDK_DISABLED`` is true.
        views_file: File with views, or None.
        exit_timeout_ms: Milliseconds that the exit may be delayed.
        self_metrics: Whether the ``otel_perf.*`` metrics are exported.
        observer: Who reads the segment and exports: ``thread``, ``process`` or ``off``.
        observer_log: File that the observer process writes its log to, or None.
        export_interval_s: Seconds between two exports.
        hdr_log: File that histograms are appended to, or None.
        hdr_log_interval_s: Seconds between its intervals.
        windows: Seconds of the windows that the observer keeps, shortest first.
        window_memory_limit: Bytes that they may take.
        quantiles: Quantiles that are exported as gauges, from 0 to 1.
        quantile_instruments: Names of the histograms of which they are, with ``*`` and ``?``.
        quantile_window_s: Seconds of the window of which they are, if the longest of the windows has so many.
        gauge_mode: What the values of a gauge in several workers become, one of `GAUGE_MODES`.
        workers: Whether the processes of the service are one stream of metrics or a stream each, one of `WORKERS`.
        span_metrics: Which spans become metrics, one of `SPAN_METRICS`.
        span_attributes: Keys of the attributes that are shown of running and slow spans.
    """

    memory_limit: int = MEMORY_LIMIT_DEFAULT
    cardinality_limit: int = CARDINALITY_LIMIT_DEFAULT
    segment_path: str | None = None
    service_instance_id: str | None = None
    service_name: str = ""
    prometheus_host: str = "localhost"
    prometheus_port: int = 9464
    disabled: bool = False
    views_file: Path | None = None
    exit_timeout_ms: int = EXIT_TIMEOUT_DEFAULT
    self_metrics: bool = True
    observer: str = "thread"
    observer_log: Path | None = None
    export_interval_s: float = EXPORT_INTERVAL_DEFAULT_S
    hdr_log: Path | None = None
    hdr_log_interval_s: int = 10
    windows: tuple[int, ...] = WINDOWS_DEFAULT
    window_memory_limit: int = WINDOW_MEMORY_LIMIT_DEFAULT
    quantiles: tuple[float, ...] = ()
    quantile_instruments: tuple[str, ...] = ("*",)
    quantile_window_s: int = QUANTILE_WINDOW_DEFAULT_S
    gauge_mode: str = GAUGE_MODES[0]
    workers: str = WORKERS[0]
    span_metrics: str = SPAN_METRICS[0]
    span_attributes: tuple[str, ...] = ()

    @staticmethod
    def from_environment(env: MutableMapping[str, str] = environ) -> Settings:
        """Reads the environment; wrong values are logged and replaced by defaults.

        Args:
            env: The environment to read.

        Returns:
            The settings.
        """
        views_file = read(OTEL_PERF_VIEWS_FILE, env)
        observer_log = read(OTEL_PERF_OBSERVER_LOG, env)
        # What is not accepted was reported with the other standard variables.
        interval = read(OTEL_METRIC_EXPORT_INTERVAL, env)
        hdr_log = read(OTEL_PERF_HDR_LOG, env)
        windows = _windows(env)
        instruments = read(OTEL_PERF_QUANTILE_INSTRUMENTS, env)
        return Settings(
            memory_limit=_integer(
                env, OTEL_PERF_MEMORY_LIMIT, MEMORY_LIMIT_DEFAULT, MEMORY_LIMIT_MIN, MEMORY_LIMIT_MAX
            ),
            cardinality_limit=_integer(
                env, OTEL_PERF_CARDINALITY_LIMIT, CARDINALITY_LIMIT_DEFAULT, 1, CARDINALITY_LIMIT_MAX
            ),
            segment_path=env.get(OTEL_PERF_SEGMENT) or None,
            service_instance_id=env.get(OTEL_PERF_SERVICE_INSTANCE_ID) or None,
            service_name=env.get(OTEL_SERVICE_NAME, ""),
            prometheus_host=env.get(OTEL_EXPORTER_PROMETHEUS_HOST) or "localhost",
            prometheus_port=_integer(env, OTEL_EXPORTER_PROMETHEUS_PORT, 9464, 0, 65535),
            disabled=env.get(OTEL_SDK_DISABLED, "").strip().lower() == "true",
            views_file=Path(views_file) if views_file else None,
            exit_timeout_ms=_integer(env, OTEL_PERF_EXIT_TIMEOUT, EXIT_TIMEOUT_DEFAULT, 0, EXIT_TIMEOUT_MAX),
            self_metrics=_boolean(env, OTEL_PERF_SELF_METRICS, default=True),
            observer=_choice(env, OTEL_PERF_OBSERVER, OBSERVERS),
            observer_log=Path(observer_log) if observer_log else None,
            export_interval_s=float(interval) / 1000 if _positive(interval) else EXPORT_INTERVAL_DEFAULT_S,
            hdr_log=Path(hdr_log) if hdr_log else None,
            hdr_log_interval_s=_integer(env, OTEL_PERF_HDR_LOG_INTERVAL, 10, 1, 3600),
            windows=windows,
            window_memory_limit=_integer(
                env, OTEL_PERF_WINDOW_MEMORY_LIMIT, WINDOW_MEMORY_LIMIT_DEFAULT, MEMORY_LIMIT_MIN // 2, MEMORY_LIMIT_MAX
            ),
            quantiles=_quantiles(env),
            quantile_instruments=tuple(name.strip() for name in instruments.split(",")) if instruments else ("*",),
            gauge_mode=_choice(env, OTEL_PERF_GAUGE_MODE, GAUGE_MODES),
            workers=_choice(env, OTEL_PERF_WORKERS, WORKERS),
            span_metrics=_choice(env, OTEL_PERF_SPAN_METRICS, SPAN_METRICS),
            span_attributes=_words(env, OTEL_PERF_SPAN_ATTRIBUTES),
            quantile_window_s=_integer(env, OTEL_PERF_QUANTILE_WINDOW, QUANTILE_WINDOW_DEFAULT_S, 1, windows[-1]),
        )


def read(variable: str, env: MutableMapping[str, str] = environ) -> str:
    """Value of a variable without surrounding blanks; empty if it is not set."""
    return env.get(variable, "").strip()


def report(variable: str, value: str, accepted: str, instead: str) -> None:
    """Logs the one line that a wrong value gets."""
    _logger.warning("%s=%r is not accepted (accepted: %s); %s", variable, value, accepted, instead)


def _integer(env: MutableMapping[str, str], variable: str, default: int, low: int, high: int) -> int:
    text = env.get(variable, "").strip()
    if not text:
        return default
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if low <= number <= high:
        return number
    report(variable, text, f"an integer from {low} to {high}", f"using {default}")
    return default


def _windows(env: MutableMapping[str, str]) -> tuple[int, ...]:
    text = read(OTEL_PERF_WINDOWS, env)
    if not text:
        return WINDOWS_DEFAULT
    try:
        windows = sorted(int(seconds) for seconds in text.split(","))
    except ValueError:
        windows = []
    if (
        len(set(windows)) == len(windows)
        and 1 <= len(windows) <= WINDOWS_MAX
        and 1 <= windows[0] <= windows[-1] <= WINDOW_MAX_S
    ):
        return tuple(windows)
    accepted = f"one to {WINDOWS_MAX} different integers from 1 to {WINDOW_MAX_S}, separated by commas"
    report(OTEL_PERF_WINDOWS, text, accepted, f"using {','.join(str(seconds) for seconds in WINDOWS_DEFAULT)}")
    return WINDOWS_DEFAULT


def _quantiles(env: MutableMapping[str, str]) -> tuple[float, ...]:
    text = read(OTEL_PERF_QUANTILES, env)
    if not text:
        return ()
    try:
        quantiles = sorted({float(quantile) for quantile in text.split(",")})
    except ValueError:
        quantiles = [-1.0]
    if all(0 <= quantile <= 1 for quantile in quantiles):
        return tuple(quantiles)
    report(OTEL_PERF_QUANTILES, text, "numbers from 0 to 1, separated by commas", "exporting none")
    return ()


def _boolean(env: MutableMapping[str, str], variable: str, *, default: bool) -> bool:
    text = read(variable, env)
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text:
        report(variable, text, "true, false", f"using {str(default).lower()}")
    return default


def _words(env: MutableMapping[str, str], variable: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in read(variable, env).split(",") if word.strip())


def _choice(env: MutableMapping[str, str], variable: str, accepted: tuple[str, ...]) -> str:
    text = read(variable, env)
    if text in accepted:
        return text
    if text:
        report(variable, text, ", ".join(accepted), f"using {accepted[0]}")
    return accepted[0]


def set_defaults(env: MutableMapping[str, str] = environ) -> None:
    """Chooses the exporters that nobody named: OTLP where an OTLP endpoint is named, else Prometheus for metrics and none for the rest.

    Args:
        env: The environment to complete; variables that are set stay as they are.
    """
    for variable, endpoint in _ENDPOINTS.items():
        if env.get(variable, "").strip():
            continue
        if env.get(endpoint) or env.get(OTEL_EXPORTER_OTLP_ENDPOINT):
            env[variable] = "otlp"
        else:
            env[variable] = "prometheus" if variable == OTEL_METRICS_EXPORTER else "none"


def sanitise(env: MutableMapping[str, str] = environ) -> None:
    """Takes values out of the environment that would make the SDK raise or complain without naming them; one line each.

    Args:
        env: The environment to correct.
    """
    for variable, accepted, is_accepted in _standard_rules(env):
        value = env.get(variable)
        if value is None:
            continue
        stripped = value.strip()
        if stripped and is_accepted(stripped):
            # The SDK strips some values and stumbles over the blanks of others.
            env[variable] = stripped
            continue
        if stripped:
            report(variable, value, accepted, "using the default")
        del env[variable]
    for variable, group in _GROUPS.items():
        _sanitise_exporters(env, variable, group)


def _standard_rules(env: MutableMapping[str, str]) -> Iterator[tuple[str, str, Callable[[str], bool]]]:
    def choice(*words: str, lower: bool = True) -> Callable[[str], bool]:
        return lambda value: (value.lower() if lower else value) in words

    for variable in (OTEL_EXPORTER_OTLP_PROTOCOL, *PROTOCOLS.values()):
        yield variable, "grpc, http/protobuf", choice(*OTLP_EXPORTERS, lower=False)
    for variable in (OTEL_METRIC_EXPORT_INTERVAL, OTEL_METRIC_EXPORT_TIMEOUT):
        yield variable, "a positive number of milliseconds", _positive
    yield (
        OTEL_METRICS_EXEMPLAR_FILTER,
        "trace_based, always_on, always_off",
        choice("trace_based", "always_on", "always_off", lower=False),
    )
    yield (
        OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE,
        "cumulative, delta, lowmemory",
        choice("cumulative", "delta", "lowmemory"),
    )
    yield (
        OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION,
        "explicit_bucket_histogram, base2_exponential_bucket_histogram",
        choice("explicit_bucket_histogram", "base2_exponential_bucket_histogram"),
    )
    samplers = _names("opentelemetry_traces_sampler")
    yield OTEL_TRACES_SAMPLER, ", ".join(samplers), choice(*samplers, lower=False)
    if "traceidratio" in env.get(OTEL_TRACES_SAMPLER, ""):
        # Samplers that are not by ratio take arguments of their own.
        yield OTEL_TRACES_SAMPLER_ARG, "a number from 0 to 1, for samplers by ratio", _ratio
    generators = _names("opentelemetry_id_generator")
    yield OTEL_PYTHON_ID_GENERATOR, ", ".join(generators), choice(*generators, lower=False)
    for variable in (
        OTEL_EXPORTER_OTLP_TIMEOUT,
        OTEL_EXPORTER_OTLP_METRICS_TIMEOUT,
        OTEL_EXPORTER_OTLP_TRACES_TIMEOUT,
        OTEL_EXPORTER_OTLP_LOGS_TIMEOUT,
    ):
        yield variable, "a positive number of seconds", _positive
    for variable in (OTEL_EXPORTER_OTLP_COMPRESSION, *COMPRESSIONS.values()):
        yield variable, "none, gzip, deflate", choice("none", "gzip", "deflate")


def _positive(value: str) -> bool:
    try:
        number = float(value)
    except ValueError:
        return False
    return number > 0 and not math.isnan(number)


def _ratio(value: str) -> bool:
    try:
        return 0 <= float(value) <= 1
    except ValueError:
        return False


def _names(group: str) -> list[str]:
    return sorted({entry_point.name for entry_point in entry_points(group=group)})


def _sanitise_exporters(env: MutableMapping[str, str], variable: str, group: str) -> None:
    value = env.get(variable, "")
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names or [name.lower() for name in names] == ["none"]:
        return
    installed = _names(group)
    accepted = ["none", *installed]
    if any(name.startswith("otlp_proto_") for name in installed):
        accepted.append("otlp")
    unknown = [name for name in names if name not in accepted or name == "none"]
    if unknown:
        known = [name for name in names if name not in unknown]
        instead = f"using {','.join(known)}" if known else "using none"
        hint = ", otlp after 'pip install otel-perf[otlp]'" if "otlp" in unknown else ""
        report(variable, value, ", ".join(sorted(accepted)) + hint, instead)
        env[variable] = ",".join(known) or "none"
