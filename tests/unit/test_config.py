"""Settings: right values are taken, wrong ones are one log line each and give way to the default."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from otel_perf import config
from otel_perf.config import Settings, read, sanitise, set_defaults

DEFAULTS = Settings()

RIGHT: list[tuple[str, str, str, Any]] = [
    ("OTEL_PERF_MEMORY_LIMIT", "131072", "memory_limit", 131_072),
    ("OTEL_PERF_MEMORY_LIMIT", "1073741824", "memory_limit", 1 << 30),
    ("OTEL_PERF_MEMORY_LIMIT", " 2097152 ", "memory_limit", 2 << 20),
    ("OTEL_PERF_MEMORY_LIMIT", "", "memory_limit", 1 << 20),
    ("OTEL_PERF_MEMORY_LIMIT", "  ", "memory_limit", 1 << 20),
    ("OTEL_PERF_CARDINALITY_LIMIT", "1", "cardinality_limit", 1),
    ("OTEL_PERF_CARDINALITY_LIMIT", "1000000", "cardinality_limit", 1_000_000),
    ("OTEL_PERF_CARDINALITY_LIMIT", "", "cardinality_limit", 2000),
    ("OTEL_PERF_EXIT_TIMEOUT", "0", "exit_timeout_ms", 0),
    ("OTEL_PERF_EXIT_TIMEOUT", " 2000 ", "exit_timeout_ms", 2000),
    ("OTEL_PERF_EXIT_TIMEOUT", "", "exit_timeout_ms", 1000),
    ("OTEL_PERF_SEGMENT", "/dev/shm/x", "segment_path", "/dev/shm/x"),
    ("OTEL_PERF_SEGMENT", "", "segment_path", None),
    ("OTEL_PERF_SERVICE_INSTANCE_ID", "an-id", "service_instance_id", "an-id"),
    ("OTEL_PERF_SERVICE_INSTANCE_ID", "", "service_instance_id", None),
    ("OTEL_PERF_VIEWS_FILE", " views.yaml ", "views_file", Path("views.yaml")),
    ("OTEL_PERF_VIEWS_FILE", "", "views_file", None),
    ("OTEL_PERF_OBSERVER", "process", "observer", "process"),
    ("OTEL_PERF_OBSERVER", " off ", "observer", "off"),
    ("OTEL_PERF_OBSERVER", "thread", "observer", "thread"),
    ("OTEL_PERF_OBSERVER", "", "observer", "thread"),
    ("OTEL_PERF_OBSERVER_LOG", " observer.log ", "observer_log", Path("observer.log")),
    ("OTEL_PERF_OBSERVER_LOG", "", "observer_log", None),
    ("OTEL_METRIC_EXPORT_INTERVAL", "500", "export_interval_s", 0.5),
    ("OTEL_METRIC_EXPORT_INTERVAL", "", "export_interval_s", 60.0),
    # Reported where the standard variables are.
    ("OTEL_METRIC_EXPORT_INTERVAL", "soon", "export_interval_s", 60.0),
    ("OTEL_PERF_HDR_LOG", " latency.hlog ", "hdr_log", Path("latency.hlog")),
    ("OTEL_PERF_HDR_LOG", "", "hdr_log", None),
    ("OTEL_PERF_HDR_LOG_INTERVAL", "1", "hdr_log_interval_s", 1),
    ("OTEL_PERF_HDR_LOG_INTERVAL", "3600", "hdr_log_interval_s", 3600),
    ("OTEL_PERF_WINDOWS", "5", "windows", (5,)),
    ("OTEL_PERF_WINDOWS", " 60, 1 ,3600", "windows", (1, 60, 3600)),
    ("OTEL_PERF_WINDOWS", "1,2,3,4,5,6,7,8", "windows", (1, 2, 3, 4, 5, 6, 7, 8)),
    ("OTEL_PERF_WINDOWS", " ", "windows", (1, 10, 60)),
    ("OTEL_PERF_WINDOW_MEMORY_LIMIT", "65536", "window_memory_limit", 65_536),
    ("OTEL_PERF_QUANTILES", "0.99, 0.5,0.99", "quantiles", (0.5, 0.99)),
    ("OTEL_PERF_QUANTILES", "", "quantiles", ()),
    ("OTEL_PERF_QUANTILE_INSTRUMENTS", "http.*, db.?", "quantile_instruments", ("http.*", "db.?")),
    ("OTEL_PERF_QUANTILE_INSTRUMENTS", "", "quantile_instruments", ("*",)),
    ("OTEL_PERF_QUANTILE_WINDOW", "10", "quantile_window_s", 10),
    ("OTEL_SERVICE_NAME", "shop", "service_name", "shop"),
    ("OTEL_SERVICE_NAME", "", "service_name", ""),
    ("OTEL_EXPORTER_PROMETHEUS_HOST", "0.0.0.0", "prometheus_host", "0.0.0.0"),
    ("OTEL_EXPORTER_PROMETHEUS_HOST", "", "prometheus_host", "localhost"),
    ("OTEL_EXPORTER_PROMETHEUS_PORT", "0", "prometheus_port", 0),
    ("OTEL_EXPORTER_PROMETHEUS_PORT", "65535", "prometheus_port", 65_535),
    ("OTEL_EXPORTER_PROMETHEUS_PORT", "", "prometheus_port", 9464),
    ("OTEL_SDK_DISABLED", "true", "disabled", True),
    ("OTEL_SDK_DISABLED", " TRUE ", "disabled", True),
    ("OTEL_SDK_DISABLED", "false", "disabled", False),
    ("OTEL_SDK_DISABLED", "1", "disabled", False),
    ("OTEL_SDK_DISABLED", "", "disabled", False),
]

WRONG_NUMBERS: dict[str, tuple[list[str], str, str]] = {
    "OTEL_PERF_MEMORY_LIMIT": (["131071", "1073741825", "1M", "1e6", "-1", "0"], "131072 to 1073741824", "1048576"),
    "OTEL_PERF_CARDINALITY_LIMIT": (["0", "-1", "1000001", "many", "2.0"], "1 to 1000000", "2000"),
    "OTEL_EXPORTER_PROMETHEUS_PORT": (["-1", "65536", "http", "80.0"], "0 to 65535", "9464"),
    "OTEL_PERF_EXIT_TIMEOUT": (["-1", "2001", "1s", "0.5"], "0 to 2000", "1000"),
    "OTEL_PERF_HDR_LOG_INTERVAL": (["0", "3601", "10s", "0.5"], "1 to 3600", "10"),
    "OTEL_PERF_WINDOW_MEMORY_LIMIT": (["65535", "1073741825", "1M"], "65536 to 1073741824", "4194304"),
    "OTEL_PERF_QUANTILE_WINDOW": (["0", "61", "1m"], "1 to 60", "60"),
}


def test_nothing_set_gives_the_defaults(caplog: pytest.LogCaptureFixture) -> None:
    """An empty environment is fine: documented defaults, no log line."""
    assert Settings.from_environment({}) == DEFAULTS
    assert (DEFAULTS.memory_limit, DEFAULTS.cardinality_limit, DEFAULTS.prometheus_port) == (1 << 20, 2000, 9464)
    assert caplog.messages == []


@pytest.mark.parametrize(("variable", "value", "field", "expected"), RIGHT)
def test_right_values_are_taken(
    variable: str, value: str, field: str, expected: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A right value changes its setting and no other, without a log line."""
    settings = Settings.from_environment({variable: value})

    assert getattr(settings, field) == expected
    others = set(Settings.__dataclass_fields__) - {field}
    assert all(getattr(settings, other) == getattr(DEFAULTS, other) for other in others)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("variable", "value"), [(variable, value) for variable, (values, _, _) in WRONG_NUMBERS.items() for value in values]
)
def test_wrong_numbers_are_one_line_and_the_default(
    variable: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A number out of range or no number is one line with variable, value, accepted values and the default that is used."""
    _, accepted, default = WRONG_NUMBERS[variable]

    assert Settings.from_environment({variable: value}) == DEFAULTS
    assert caplog.messages == [
        f"{variable}={value!r} is not accepted (accepted: an integer from {accepted}); using {default}"
    ]


def test_a_wrong_observer_is_one_line_and_a_thread(caplog: pytest.LogCaptureFixture) -> None:
    """What is none of the modes is one line with the three, and the default takes its place."""
    assert Settings.from_environment({"OTEL_PERF_OBSERVER": "Process"}) == DEFAULTS
    assert caplog.messages == [
        "OTEL_PERF_OBSERVER='Process' is not accepted (accepted: thread, process, off); using thread"
    ]


@pytest.mark.parametrize("value", ["0", "3601", "-1", "1,1", "1,,2", "1.5", "1s", "1,2,3,4,5,6,7,8,9", ","])
def test_wrong_windows_are_one_line_and_the_default(value: str, caplog: pytest.LogCaptureFixture) -> None:
    """Seconds that are none, out of range, twice the same or too many are one line, and none of them is taken."""
    assert Settings.from_environment({"OTEL_PERF_WINDOWS": value}) == DEFAULTS
    assert caplog.messages == [
        f"OTEL_PERF_WINDOWS={value!r} is not accepted (accepted: one to 8 different integers from 1 to 3600, separated by commas); using 1,10,60"
    ]


def test_several_wrong_values_are_one_line_each(caplog: pytest.LogCaptureFixture) -> None:
    """Each wrong variable has its own line; right ones beside them are taken."""
    env = dict.fromkeys(WRONG_NUMBERS, "wrong") | {"OTEL_SERVICE_NAME": "shop"}

    assert Settings.from_environment(env) == Settings(service_name="shop")
    assert [message.split("=")[0] for message in caplog.messages] == list(WRONG_NUMBERS)
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_read_strips() -> None:
    """`read` answers a value without blanks, and an empty text for a variable that is not set."""
    assert [read("A", env) for env in ({"A": " b "}, {"A": "  "}, {})] == ["b", "", ""]


EXPORTERS = ("OTEL_METRICS_EXPORTER", "OTEL_TRACES_EXPORTER", "OTEL_LOGS_EXPORTER")
CHOSEN: list[tuple[dict[str, str], tuple[str, str, str]]] = [
    ({}, ("prometheus", "none", "none")),
    ({"OTEL_METRICS_EXPORTER": "  ", "OTEL_TRACES_EXPORTER": ""}, ("prometheus", "none", "none")),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, ("otlp", "otlp", "otlp")),
    ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://x"}, ("otlp", "none", "none")),
    ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, ("prometheus", "otlp", "none")),
    ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://x"}, ("prometheus", "none", "otlp")),
    ({"OTEL_METRICS_EXPORTER": "console"}, ("console", "none", "none")),
    ({"OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, ("none", "otlp", "otlp")),
    ({"OTEL_LOGS_EXPORTER": "console", "OTEL_TRACES_EXPORTER": "otlp"}, ("prometheus", "otlp", "console")),
]


@pytest.mark.parametrize("value", ["50", "-0.1", "p99", "0.5;0.9", "nan"])
def test_wrong_quantiles_are_one_line_and_none(value: str, caplog: pytest.LogCaptureFixture) -> None:
    """Quantiles that are no numbers from 0 to 1 are one line, and none is exported."""
    assert Settings.from_environment({"OTEL_PERF_QUANTILES": value}) == DEFAULTS
    assert caplog.messages == [
        f"OTEL_PERF_QUANTILES={value!r} is not accepted (accepted: numbers from 0 to 1, separated by commas); exporting none"
    ]


@pytest.mark.parametrize(("env", "chosen"), CHOSEN)
def test_exporters_that_nobody_named_are_chosen(env: dict[str, str], chosen: tuple[str, str, str]) -> None:
    """OTLP where an endpoint is named, else Prometheus for metrics and none for the rest; what is set stays."""
    completed = dict(env)
    set_defaults(completed)

    assert tuple(completed[variable] for variable in EXPORTERS) == chosen
    assert {key: completed[key] for key in env if env[key].strip()} == {k: v for k, v in env.items() if v.strip()}
    assert set(completed) == {*env, *EXPORTERS}


PROTOCOLS = [f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL" for signal in ("", "METRICS_", "TRACES_", "LOGS_")]
TIMEOUTS = [f"OTEL_EXPORTER_OTLP_{signal}TIMEOUT" for signal in ("", "METRICS_", "TRACES_", "LOGS_")]
COMPRESSIONS = [f"OTEL_EXPORTER_OTLP_{signal}COMPRESSION" for signal in ("", "METRICS_", "TRACES_", "LOGS_")]
TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
AGGREGATION = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
STANDARD: list[tuple[list[str], list[str], list[str], list[str]]] = [
    (PROTOCOLS, ["grpc", "http/protobuf", " grpc "], ["http", "GRPC", "http/json"], ["grpc", "http/protobuf"]),
    (TIMEOUTS, ["10", "0.5"], ["soon", "0", "-1", "nan"], ["positive", "seconds"]),
    (COMPRESSIONS, ["none", "gzip", "deflate", "GZIP"], ["zstd", "1"], ["none", "gzip", "deflate"]),
    (
        ["OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT"],
        ["60000", "0.5"],
        ["soon", "0", "-5", "nan", "1m"],
        ["positive", "milliseconds"],
    ),
    (
        ["OTEL_METRICS_EXEMPLAR_FILTER"],
        ["trace_based", "always_on", "always_off"],
        ["sometimes", "ALWAYS_ON"],
        ["trace_based", "always_on", "always_off"],
    ),
    ([TEMPORALITY], ["cumulative", "DELTA", "LowMemory"], ["both"], ["cumulative", "delta", "lowmemory"]),
    (
        [AGGREGATION],
        ["explicit_bucket_histogram", "base2_exponential_bucket_histogram"],
        ["hdr"],
        ["explicit_bucket_histogram", "base2_exponential_bucket_histogram"],
    ),
    (
        ["OTEL_TRACES_SAMPLER"],
        ["always_on", "parentbased_traceidratio"],
        ["maybe", "ALWAYS_ON"],
        ["always_off", "always_on", "parentbased_always_on", "traceidratio"],
    ),
    (["OTEL_PYTHON_ID_GENERATOR"], ["random"], ["dice"], ["random"]),
]


@pytest.mark.parametrize(
    ("variable", "value"), [(name, value) for names, right, _, _ in STANDARD for name in names for value in right]
)
def test_right_standard_values_stay(variable: str, value: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is accepted stays, without the blanks around it, over which some parts of the SDK stumble."""
    env = {variable: value}
    sanitise(env)

    assert env == {variable: value.strip()}
    assert caplog.messages == []


@pytest.mark.parametrize("blank", ["", "  "])
@pytest.mark.parametrize("variable", [name for names, _, _, _ in STANDARD for name in names])
def test_blank_standard_values_are_as_if_not_set(variable: str, blank: str, caplog: pytest.LogCaptureFixture) -> None:
    """The specification has an empty value mean the same as none, so it is removed without a word."""
    env = {variable: blank, "OTHER": ""}
    sanitise(env)

    assert env == {"OTHER": ""}
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("variable", "value", "accepted"),
    [(name, value, accepted) for names, _, wrong, accepted in STANDARD for name in names for value in wrong],
)
def test_wrong_standard_values_are_taken_out(
    variable: str, value: str, accepted: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What would make the SDK raise is one line with variable, value and accepted values, and is removed."""
    env = {variable: value, "OTHER": "stays"}
    sanitise(env)

    assert env == {"OTHER": "stays"}
    (message,) = caplog.messages
    assert message.startswith(f"{variable}={value!r} is not accepted (accepted: ")
    assert message.endswith("; using the default")
    assert all(word in message for word in accepted)


EXPORTER_LISTS: list[tuple[str, str, str | None, str | None]] = [
    ("OTEL_METRICS_EXPORTER", "prometheus", None, None),
    ("OTEL_METRICS_EXPORTER", "otlp,prometheus", None, None),
    ("OTEL_METRICS_EXPORTER", " console , otlp_proto_http ", None, None),
    ("OTEL_METRICS_EXPORTER", "none", None, None),
    ("OTEL_METRICS_EXPORTER", "NONE", None, None),
    ("OTEL_METRICS_EXPORTER", ",", None, None),
    ("OTEL_METRICS_EXPORTER", "nonsense", "none", "using none"),
    ("OTEL_METRICS_EXPORTER", "nonsense,prometheus", "prometheus", "using prometheus"),
    ("OTEL_METRICS_EXPORTER", "none,prometheus", "prometheus", "using prometheus"),
    ("OTEL_METRICS_EXPORTER", "none,none", "none", "using none"),
    ("OTEL_TRACES_EXPORTER", "prometheus,console", "console", "using console"),
    ("OTEL_LOGS_EXPORTER", "zipkin", "none", "using none"),
]


@pytest.mark.parametrize(("variable", "value", "left", "instead"), EXPORTER_LISTS)
def test_exporters_that_are_not_installed_are_taken_out(
    variable: str, value: str, left: str | None, instead: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Unknown exporters are one line that says which are installed; the known ones of the list stay."""
    env = {variable: value}
    sanitise(env)

    assert env[variable] == (value if left is None else left)
    if instead is None:
        assert caplog.messages == []
    else:
        (message,) = caplog.messages
        assert message.startswith(f"{variable}={value!r} is not accepted (accepted: ")
        assert message.endswith(instead)
        assert all(name in message for name in ("none", "otlp", "console"))


def test_a_missing_otlp_exporter_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the OTLP exporters are not installed, the line names the extra that installs them."""
    monkeypatch.setattr(config, "_names", lambda _group: ["console"])
    env = {"OTEL_METRICS_EXPORTER": "otlp"}
    sanitise(env)

    assert env == {"OTEL_METRICS_EXPORTER": "none"}
    assert "pip install otel-perf[otlp]" in caplog.messages[0]


RATIOS: list[tuple[str, str, bool]] = [
    ("traceidratio", "0.5", True),
    ("parentbased_traceidratio", "1", True),
    ("traceidratio", "0", True),
    ("traceidratio", "1.5", False),
    ("traceidratio", "-0.1", False),
    ("parentbased_traceidratio", "half", False),
    ("traceidratio", "nan", False),
    ("always_on", "anything", True),
]


@pytest.mark.parametrize(("sampler", "argument", "accepted"), RATIOS)
def test_the_samplers_argument_is_checked_where_it_is_a_ratio(
    sampler: str, argument: str, accepted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A ratio must be from 0 to 1; other samplers take arguments of their own."""
    env = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    sanitise(env)

    assert ("OTEL_TRACES_SAMPLER_ARG" in env) is accepted
    assert len(caplog.messages) == (0 if accepted else 1)


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument the functions read and correct the environment of the process."""
    for variable in EXPORTERS:
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv("OTEL_PERF_CARDINALITY_LIMIT", "17")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "soon")
    set_defaults()
    sanitise()

    assert Settings.from_environment().cardinality_limit == 17
    assert os.environ["OTEL_METRICS_EXPORTER"] in ("prometheus", "otlp")
    assert "OTEL_METRIC_EXPORT_INTERVAL" not in os.environ
