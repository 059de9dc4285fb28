"""What `sanitise` leaves in the environment is what the SDK and its exporters can be built with."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from grpc import Compression
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader

from otel_perf import MeterProvider, _components
from otel_perf.config import sanitise


def provider() -> None:
    """Builds a meter provider."""
    MeterProvider(shutdown_on_exit=False).shutdown()


def periodic() -> None:
    """Builds a periodic reader."""
    with Path(os.devnull).open("w") as out:
        reader = PeriodicExportingMetricReader(ConsoleMetricExporter(out=out))
        reader._set_collect_callback(lambda *_, **__: None)  # type: ignore[arg-type]
        reader.shutdown()


def exporter(signal: str, name: str) -> Any:
    """Builds an exporter as the configurator does."""
    ((kind, arguments),) = _components.load_exporters(signal, [name], {}).items()
    return kind(**arguments)


SIGNALS = ("metrics", "traces", "logs")
EXPORTERS: dict[str, Callable[[], Any]] = {
    f"{name} {signal}": partial(exporter, signal, name)
    for name in ("otlp_proto_grpc", "otlp_proto_http")
    for signal in SIGNALS
}
EXPORTER_VALUES: dict[str, list[str]] = {
    "OTEL_EXPORTER_OTLP_TIMEOUT": ["10", "0.5", " 5 ", "", " ", "soon"],
    "OTEL_EXPORTER_OTLP_COMPRESSION": ["none", "gzip", "deflate", " gzip ", "", " ", "zip"],
}
METRICS_VALUES: dict[str, list[str]] = {
    "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": ["0.5", "", "soon"],
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": ["delta", " DELTA ", "lowmemory", "wrong"],
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": ["base2_exponential_bucket_histogram", "wrong"],
}
SDK_VALUES: list[tuple[str, str, Callable[[], Any]]] = [
    *(
        ("OTEL_METRICS_EXEMPLAR_FILTER", value, provider)
        for value in ("always_off", " trace_based ", "", " ", "sometimes")
    ),
    *(("OTEL_METRIC_EXPORT_INTERVAL", value, periodic) for value in ("1000", " 1e4 ", "0.5", "inf", "0", "soon")),
    *(("OTEL_METRIC_EXPORT_TIMEOUT", value, periodic) for value in ("1000", "0.5", "soon")),
    *(
        ("OTEL_TRACES_SAMPLER", value, _components.sampler)
        for value in (" always_on ", "traceidratio", "", " ", "maybe")
    ),
    *(("OTEL_PYTHON_ID_GENERATOR", value, _components.id_generator) for value in (" random ", "", " ", "dice")),
]


def built(variable: str, value: str, build: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets a variable, sanitises, and builds what reads it."""
    monkeypatch.setenv(variable, value)
    sanitise()
    build()


@pytest.mark.parametrize(("variable", "value", "build"), SDK_VALUES)
def test_the_sdk_can_be_built(
    variable: str, value: str, build: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `sanitise` no value of a variable that the SDK reads makes it raise."""
    built(variable, value, build, monkeypatch)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(
    ("variable", "value"), [(variable, value) for variable, values in EXPORTER_VALUES.items() for value in values]
)
def test_the_exporters_can_be_built(variable: str, value: str, exporter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `sanitise` no value of a variable that the OTLP exporters read makes one of them raise."""
    built(variable, value, EXPORTERS[exporter], monkeypatch)


@pytest.mark.parametrize("exporter", [name for name in EXPORTERS if name.endswith("metrics")])
@pytest.mark.parametrize(
    ("variable", "value"), [(variable, value) for variable, values in METRICS_VALUES.items() for value in values]
)
def test_the_metrics_exporters_can_be_built(
    variable: str, value: str, exporter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `sanitise` no value of a variable that the OTLP metrics exporters read makes one of them raise."""
    built(variable, value, EXPORTERS[exporter], monkeypatch)


COMPRESSED: list[tuple[dict[str, str], Compression]] = [
    ({}, Compression.NoCompression),
    ({"OTEL_EXPORTER_OTLP_COMPRESSION": "GZIP"}, Compression.Gzip),
    ({"OTEL_EXPORTER_OTLP_COMPRESSION": "none"}, Compression.NoCompression),
    ({"OTEL_EXPORTER_OTLP_{}_COMPRESSION": "gzip"}, Compression.Gzip),
    (
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_EXPORTER_OTLP_{}_COMPRESSION": "none"},
        Compression.NoCompression,
    ),
    ({"OTEL_EXPORTER_OTLP_COMPRESSION": "deflate"}, Compression.NoCompression),
]


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize(("env", "expected"), COMPRESSED)
def test_compression_over_grpc(
    env: dict[str, str], expected: Compression, signal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal's own variable counts, then the common one; what gRPC cannot do is sent uncompressed."""
    for variable, value in env.items():
        monkeypatch.setenv(variable.format(signal.upper()), value)

    assert exporter(signal, "otlp_proto_grpc")._compression is expected


def test_a_compression_that_grpc_does_not_have_is_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`deflate` is right for HTTP; over gRPC it is a line with variable, value and what is accepted there."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "deflate")
    exporter("metrics", "otlp_proto_grpc")

    assert caplog.messages == [
        "OTEL_EXPORTER_OTLP_COMPRESSION='deflate' is not accepted (accepted: none, gzip over gRPC); using none"
    ]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """The lines are what test_config.py is about."""
    caplog.set_level(logging.CRITICAL)
