"""The package's lazy names, the distro, its configurator, and starting from code."""

from __future__ import annotations

import importlib
import logging
import os
from importlib.metadata import entry_points
from typing import Any

import pytest

import otel_perf
from otel_perf import distro
from otel_perf._rivals import warn_if_another_distro_won
from otel_perf.distro import OtelPerfConfigurator, OtelPerfDistro
from otel_perf.metrics._noop import NoOpMeterProvider
from tests.peers.program import Finished, run
from tests.peers.prometheus import free_port

CONFIGURATOR = "OTEL_PYTHON_CONFIGURATOR"
EXPORTERS = ("OTEL_METRICS_EXPORTER", "OTEL_TRACES_EXPORTER", "OTEL_LOGS_EXPORTER")


def test_names_of_the_package_are_those_of_their_modules() -> None:
    """Every name of `__all__` is imported when it is used, and is the object of its home."""
    assert sorted(otel_perf.__all__) == sorted(otel_perf._HOMES)
    for name, home in otel_perf._HOMES.items():
        assert getattr(otel_perf, name) is getattr(importlib.import_module(home), name)


def test_dir_lists_the_public_names() -> None:
    """`dir(otel_perf)` shows every public name, also those that nobody has used yet."""
    done = run("-c", "import otel_perf; print(sorted(set(otel_perf.__all__) - set(dir(otel_perf))))", wrapper=False)

    assert done.out == "[]\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that there is not raises as in any module."""
    with pytest.raises(AttributeError, match="module 'otel_perf' has no attribute 'nonsense'"):
        otel_perf.nonsense  # noqa: B018 - the access is the test.
    assert not hasattr(otel_perf, "nonsense")


def test_star_import_gives_the_public_names() -> None:
    """`from otel_perf import *` imports all of them."""
    done = run("-c", "from otel_perf import *; print(MeterProvider.__name__, configure.__name__)", wrapper=False)

    assert (done.out, done.err) == ("MeterProvider configure\n", "")


ENTRY_POINTS = {
    "opentelemetry_distro": "otel_perf",
    "opentelemetry_configurator": "otel_perf",
    "opentelemetry_environment_variables": "otel_perf",
    "opentelemetry_pre_instrument": "otel_perf",
}


@pytest.mark.parametrize("group", ENTRY_POINTS)
def test_entry_points_can_be_loaded(group: str) -> None:
    """Every entry point of the package names something that is there."""
    (found,) = entry_points(group=group, name=ENTRY_POINTS[group])

    assert found.load() is not None


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without the variables that a distro sets; what is set is undone."""
    for variable in (*EXPORTERS, CONFIGURATOR, "OTEL_PYTHON_DISTRO"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    return monkeypatch


@pytest.mark.usefixtures("clean")
def test_the_distro_completes_the_environment() -> None:
    """Exporters that nobody named are chosen, and our configurator is pinned."""
    OtelPerfDistro().configure()

    assert [os.environ[variable] for variable in EXPORTERS] == ["prometheus", "none", "none"]
    assert os.environ[CONFIGURATOR] == "otel_perf"


def test_the_distro_leaves_what_is_set(clean: pytest.MonkeyPatch) -> None:
    """Exporters and a configurator that somebody chose stay."""
    given = {EXPORTERS[0]: "console", EXPORTERS[1]: "otlp", EXPORTERS[2]: "none", CONFIGURATOR: "other"}
    for variable, value in given.items():
        clean.setenv(variable, value)
    OtelPerfDistro().configure()

    assert {variable: os.environ[variable] for variable in given} == given


@pytest.mark.parametrize(
    ("chosen", "has_run", "lines"),
    [(None, False, 1), ("otel_perf", False, 1), ("other", False, 0), (None, True, 0), ("otel_perf", True, 0)],
)
def test_another_distribution_that_won_is_one_line(
    chosen: str | None, has_run: bool, lines: int, clean: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If our configurator has not run although nobody chose another, one warning names both variables."""
    clean.setattr(OtelPerfConfigurator, "_has_run", has_run)
    if chosen is not None:
        clean.setenv(CONFIGURATOR, chosen)
    warn_if_another_distro_won()

    assert [record.levelno for record in caplog.records] == [logging.WARNING] * lines
    assert all(
        "OTEL_PYTHON_DISTRO=otel_perf" in text and f"{CONFIGURATOR}=otel_perf" in text for text in caplog.messages
    )


def test_a_disabled_sdk_is_configured_to_nothing(clean: pytest.MonkeyPatch) -> None:
    """With OTEL_SDK_DISABLED the configurator makes no part but meters that do nothing, and counts as run."""
    set_providers: list[object] = []
    clean.setenv("OTEL_SDK_DISABLED", "true")
    clean.setattr(OtelPerfConfigurator, "_has_run", False)
    clean.setattr(distro, "_Parts", None)
    clean.setattr(distro, "set_meter_provider", set_providers.append)
    OtelPerfConfigurator().configure(raise_errors=True)

    assert OtelPerfConfigurator._has_run
    assert [type(provider) for provider in set_providers] == [NoOpMeterProvider]


def script(code: str, **env: Any) -> Finished:
    """Runs a script without the wrapper, with a Prometheus port of its own."""
    env.setdefault("OTEL_EXPORTER_PROMETHEUS_PORT", str(free_port()))
    return run("-c", code, wrapper=False, **env)


PROVIDERS = (
    "from opentelemetry import metrics, trace, _logs\n"
    "import opentelemetry.sdk._logs\n"
    "for p in (metrics.get_meter_provider(), trace.get_tracer_provider(), _logs.get_logger_provider()):\n"
    "    print(p.__class__.__module__.split('.')[0], p.__class__.__name__, p._resource.attributes.get('k') if hasattr(p, '_resource')"
    " else getattr(p, 'resource', None) and p.resource.attributes.get('k') if not hasattr(p, '_sdk_config')"
    " else p._sdk_config.resource.attributes.get('k'))\n"
)


def test_configure_sets_all_three_providers_with_one_resource() -> None:
    """Metrics are ours, traces and logs the SDK's, and all have the resource attributes that were given."""
    done = script(f"import otel_perf; otel_perf.configure(resource_attributes={{'k': 'v'}})\n{PROVIDERS}")

    assert done.err == ""
    assert done.out.splitlines() == [
        "otel_perf MeterProvider v",
        "opentelemetry TracerProvider v",
        "opentelemetry LoggerProvider v",
    ]


def test_configuring_twice_keeps_the_first_providers() -> None:
    """A second call does not replace providers or take a second port; the API says so, and recordings go on."""
    code = (
        "import otel_perf; from opentelemetry import metrics; otel_perf.configure()\n"
        "first = metrics.get_meter_provider(); counter = metrics.get_meter('m').create_counter('c')\n"
        "otel_perf.configure(); counter.add(1)\n"
        "print(metrics.get_meter_provider() is first, otel_perf.segment.default_segment() is first.segment)"
    )
    done = script(code)

    assert done.code == 0, done.err
    assert done.out == "True True\n"
    assert "Overriding of current MeterProvider is not allowed" in done.err
    assert "Traceback" not in done.err


def test_configure_raises_what_the_wrapper_logs() -> None:
    """An exporter that was asked for by argument and is not installed raises in code."""
    done = script("import otel_perf; otel_perf.configure(metric_exporter_names=['nonsense'])")

    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("RuntimeError: 'nonsense' is not installed")


def test_one_signal_that_fails_leaves_the_others() -> None:
    """Without `raise_errors` a signal that cannot be set up is one line, and the others are there."""
    code = (
        "from otel_perf.distro import OtelPerfConfigurator, OtelPerfDistro; OtelPerfDistro().configure()\n"
        f"OtelPerfConfigurator().configure(trace_exporter_names=['nonsense'])\n{PROVIDERS}"
    )
    done = script(code)

    assert done.err.splitlines() == [
        "No traces: RuntimeError: 'nonsense' is not installed (entry point group 'opentelemetry_traces_exporter')"
    ]
    assert done.out.splitlines()[0].startswith("otel_perf MeterProvider")
    assert done.out.splitlines()[2].startswith("opentelemetry LoggerProvider")


def test_arguments_of_the_sdks_configurator_are_passed_on() -> None:
    """Span processors, sampler, exporter arguments and meter configurator reach what is built."""
    code = (
        "import otel_perf, sys\n"
        "from opentelemetry import metrics, trace\n"
        "from opentelemetry.sdk.metrics._internal import _disable_meter_configurator\n"
        "from opentelemetry.sdk.trace import SpanProcessor\n"
        "from opentelemetry.sdk.trace.sampling import ALWAYS_ON\n"
        "class P(SpanProcessor):\n"
        "    def on_end(self, span): print('ended', span.name)\n"
        "otel_perf.configure(span_processors=[P()], sampler=ALWAYS_ON, meter_configurator=_disable_meter_configurator)\n"
        "with trace.get_tracer('t').start_as_current_span('work'): pass\n"
        "print(trace.get_tracer_provider().sampler.get_description())\n"
        "print(metrics.get_meter('m').create_counter('c')._is_enabled())\n"
    )
    done = script(code)

    assert done.err == ""
    assert done.out == "ended work\nRecordAll{AlwaysOnSampler}\nFalse\n"


def test_loggers_are_made_when_they_are_asked_for() -> None:
    """The logs SDK is loaded only when somebody looks at what the provider is, and it is the SDK's then."""
    code = (
        "import sys, otel_perf; otel_perf.configure(resource_attributes={'k': 'v'})\n"
        "from opentelemetry._logs import get_logger_provider; provider = get_logger_provider()\n"
        "print('opentelemetry.sdk._logs' in sys.modules)\n"
        "print(provider.resource.attributes['k'], provider is get_logger_provider())\n"
        "from opentelemetry.sdk._logs import LoggerProvider\n"
        "print(isinstance(provider, LoggerProvider), provider.force_flush(), provider.get_logger('a') is not None)\n"
        "try: provider.nonsense\n"
        "except AttributeError as error: print(error)\n"
        "provider.shutdown()\n"
    )
    done = script(code)

    assert done.out.splitlines() == [
        "False",
        "v True",
        "True True True",
        "'LoggerProvider' object has no attribute 'nonsense'",
    ]
    assert done.err == ""


def test_asking_for_the_class_of_the_logger_provider_loads_nothing() -> None:
    """`isinstance` with any class, which tools ask of every object, neither loads the logs SDK nor makes the provider."""
    code = (
        "import sys, otel_perf; otel_perf.configure(); from opentelemetry._logs import LoggerProvider, get_logger_provider\n"
        "provider = get_logger_provider(); print(isinstance(provider, LoggerProvider), isinstance(provider, dict))\n"
        "print('opentelemetry.sdk._logs' in sys.modules)\n"
        "import opentelemetry.sdk._logs as sdk; print(isinstance(provider, sdk.LoggerProvider), provider._made)\n"
    )
    done = script(code)

    assert (done.out, done.err) == ("True False\nFalse\nTrue None\n", "")


def test_a_log_exporter_that_is_not_installed_is_said_at_once() -> None:
    """That the exporter is loaded later does not hide that it is not there."""
    done = script("import otel_perf; otel_perf.configure(log_exporter_names=['nonsense'])")

    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("RuntimeError: 'nonsense' is not installed")


def test_a_log_exporter_that_fails_breaks_nobodys_logging() -> None:
    """An exporter that cannot be made when the first logger is asked for is one line, and the logger works."""
    code = (
        "import otel_perf\n"
        "from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter\n"
        "otel_perf.configure(log_exporter_names=['otlp_proto_http'], exporter_args_map={OTLPLogExporter: {'nonsense': 1}})\n"
        "from opentelemetry._logs import get_logger; get_logger('a').emit(body='b'); print('runs on')\n"
    )
    done = script(code)

    assert (done.code, done.out) == (0, "runs on\n")
    assert done.err.startswith("No logs to otlp_proto_http: TypeError: ")
    assert len(done.err.splitlines()) == 1


def test_what_is_logged_while_the_provider_is_made_does_not_wait_for_it() -> None:
    """A handler that passes Python's log records on asks for a logger while the provider says that an exporter failed."""
    code = (
        "import logging, otel_perf\n"
        "from opentelemetry._logs import get_logger\n"
        "from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter\n"
        "otel_perf.configure(log_exporter_names=['otlp_proto_http'], exporter_args_map={OTLPLogExporter: {'nonsense': 1}})\n"
        "class Handler(logging.Handler):\n"
        "    def emit(self, record): get_logger('handler').emit(body=record.getMessage()); print('passed on')\n"
        "logging.getLogger().addHandler(Handler())\n"
        "get_logger('a').emit(body='b'); print('runs on')\n"
    )

    assert script(code).out.splitlines() == ["passed on", "runs on"]


def test_several_threads_that_log_first_share_one_provider() -> None:
    """The provider is made once, however many threads ask for it at once, and a forked child makes its own."""
    code = (
        "import os, threading, otel_perf; otel_perf.configure()\n"
        "from opentelemetry._logs import get_logger_provider\n"
        "provider = get_logger_provider(); begin = threading.Barrier(8); found = []\n"
        "def work(): begin.wait(); found.append(provider._provider())\n"
        "with provider._lock:\n"
        "    pid = os.fork()\n"
        "    if pid == 0: provider.get_logger('child'); os._exit(0)\n"
        "print(os.waitpid(pid, 0)[1])\n"
        "threads = [threading.Thread(target=work) for _ in range(8)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "print(len(set(map(id, found))))\n"
    )

    assert script(code).out == "0\n1\n"
