"""Faults of the stock SDK and its exporters that we do not inherit. Each test also shows that the stock one still has the fault.

Where the latter fails, the fault has been mended upstream, and what we do about it may go.
"""

from __future__ import annotations

import json
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExporter, MetricExportResult
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader as PeriodicReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from prometheus_client import CollectorRegistry, start_http_server

from otel_perf import MeterProvider
from otel_perf.metrics._readers import SDK_TYPES
from tests.peers.entry_points import AS_STOCK, STOCK, on_path
from tests.peers.otlp import Receiver, http_receiver
from tests.peers.program import get, run
from tests.peers.prometheus import Scrape

SHOWN = {
    "scraped exponential histograms": "test_an_exponential_histogram_does_not_break_the_scrape",
    "scraped scopes that share a name": "test_scopes_that_share_a_name_keep_their_labels",
    "a scrape after a flush": "test_what_a_flush_has_collected_is_not_scraped_again",
    "a fork during a collection": "test_no_child_hangs_that_is_forked_during_a_collection",
}
"""Those that docs/differences.md names, each with the test that shows it."""

OURS, THEIRS = MeterProvider, sdk.MeterProvider


class Exponential(PrometheusMetricReader):
    """A reader of exponential histograms, which the stock one has no argument for."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        preferred: Any = self._instrument_class_aggregation
        preferred[SDK_TYPES["Histogram"]] = ExponentialBucketHistogramAggregation()


@contextmanager
def endpoint(provider_class: Any, kind: Any = PrometheusMetricReader) -> Iterator[tuple[Any, str]]:
    """A provider behind an endpoint, and the endpoint's address."""
    registry = CollectorRegistry()
    provider = provider_class([kind(registry=registry)], shutdown_on_exit=False)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        yield provider, f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        provider.shutdown()


def text(url: str) -> str:
    """The answer of an endpoint."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def lines(url: str, start: str) -> list[str]:
    """Lines of the answer that begin with a text."""
    return [line for line in text(url).splitlines() if line.startswith(start)]


def test_an_exponential_histogram_does_not_break_the_scrape() -> None:
    """Exponential histograms are scraped as histograms whose buckets end at powers of two, all counts exact; the stock endpoint answers 500."""
    values = [0.0, 0.2, 0.26, 0.45, 3, 3, 1000]
    with endpoint(OURS, Exponential) as (provider, url):
        histogram = provider.get_meter("m").create_histogram("h", "s")
        for value in values:
            histogram.record(value, {"k": "v"})
        found = Scrape(text(url))
    buckets = {
        float(dict(labels)["le"]): value for (name, labels), value in found.samples.items() if name.endswith("_bucket")
    }

    assert buckets == {bound: sum(value <= bound for value in values) for bound in buckets}
    assert {0.0, 0.25, 0.5, 4.0, 1024.0, float("inf")} < set(buckets)
    assert found.value("h_seconds_count", k="v") == len(values)
    assert found.value("h_seconds_sum", k="v") == pytest.approx(sum(values))

    with endpoint(THEIRS, Exponential) as (provider, url):
        provider.get_meter("m").create_histogram("h", "s").record(1)
        assert get(url) == 500


def two_scopes(provider: Any) -> None:
    """Makes one metric in two scopes, with other labels, other attributes of the scope and another description."""
    first = provider.get_meter("one", "1", attributes={"team": "a"}).create_counter("x", description="First.")
    second = provider.get_meter("two", "2").create_counter("x", description="Second.")
    first.add(1, {"alpha": "A"})
    second.add(2, {"beta": "B", "gamma": "C"})
    second.add(3)


def test_scopes_that_share_a_name_keep_their_labels() -> None:
    """Of two scopes with the same metric each sample has its own labels; the stock exporter puts values under labels of the other scope."""
    with endpoint(OURS) as (provider, url):
        two_scopes(provider)
        found = Scrape(text(url))

    samples = {
        frozenset(pair for pair in labels if pair[1]): value
        for (name, labels), value in found.samples.items()
        if name == "x_total"
    }
    assert samples == {
        frozenset({("alpha", "A")}): 1,
        frozenset({("beta", "B"), ("gamma", "C")}): 2,
        frozenset(): 3,
    }
    assert 'otel_scope_team="a"' in text_of_scope(found, "one")
    assert 'otel_scope_team="a"' not in text_of_scope(found, "two")

    with endpoint(THEIRS) as (provider, url):
        provider.get_meter("one").create_counter("x").add(1, {"alpha": "A"})
        provider.get_meter("two").create_counter("x").add(2, {"beta": "B"})
        assert any('otel_scope_name="two"' in line for line in lines(url, 'x_total{alpha="B"'))


def text_of_scope(found: Scrape, name: str) -> str:
    """Lines of one scope."""
    return "\n".join(line for line in found.text.splitlines() if f'otel_scope_name="{name}"' in line)


def test_scopes_that_share_a_name_are_one_family() -> None:
    """Of two scopes with other descriptions of the same metric there is one HELP and one TYPE line; the stock exporter writes two."""
    with endpoint(OURS) as (provider, url):
        two_scopes(provider)
        assert lines(url, "# HELP x") == ["# HELP x_total First."]
        assert lines(url, "# TYPE x") == ["# TYPE x_total counter"]

    with endpoint(THEIRS) as (provider, url):
        two_scopes(provider)
        assert len(lines(url, "# TYPE x_total")) == 2


def test_what_a_flush_has_collected_is_not_scraped_again() -> None:
    """After a flush a scrape has each series once, with its newest value; the stock reader queues what is flushed for the next scrape."""
    found = []
    for provider_class in (OURS, THEIRS):
        with endpoint(provider_class) as (provider, url):
            counter = provider.get_meter("m").create_counter("c")
            counter.add(1)
            provider.force_flush()
            counter.add(1)
            found.append([line.split()[-1] for line in lines(url, "c_total")])

    assert found[0] == ["2.0"]
    assert len(found[1]) > 1


def test_scrapes_at_once_get_everything_once() -> None:
    """What another thread has collected and not shown yet is not in this one's scrape, which has each series once."""
    with endpoint(OURS) as (provider, url):
        provider.get_meter("m").create_counter("c").add(1)
        # As a scrape that has collected when this one begins.
        other = threading.Thread(target=provider._metric_readers[0].collect)
        other.start()
        other.join()

        assert len(lines(url, "c_total")) == 1


class Exported(MetricExporter):
    """Says when it has got something."""

    def __init__(self) -> None:
        super().__init__()
        self.got = threading.Event()

    def export(self, *_: Any, **__: Any) -> MetricExportResult:
        """Keeps nothing."""
        self.got.set()
        return MetricExportResult.SUCCESS

    def force_flush(self, *_: Any, **__: Any) -> bool:
        """There is nothing to flush."""
        return True

    def shutdown(self, *_: Any, **__: Any) -> None:
        """There is nothing to shut down."""


def fail_once(collect: Any) -> Callable[..., Any]:
    """A function that raises when it is first called and then does what it should."""
    calls: list[None] = []

    def fails(*arguments: Any, **kwargs: Any) -> Any:
        calls.append(None)
        if len(calls) == 1:
            raise ValueError("broken")
        return collect(*arguments, **kwargs)

    return fails


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_exception_in_a_collection_does_not_end_the_export(caplog: pytest.LogCaptureFixture) -> None:
    """A collection that fails is logged and the next one is exported; on the stock SDK the export thread is gone."""
    exporter = Exported()
    reader = PeriodicReader(exporter, export_interval_millis=20)
    ours = MeterProvider([reader], shutdown_on_exit=False)
    ours._consumer._builder.build = fail_once(ours._consumer._builder.build)  # type: ignore[method-assign]
    ours.get_meter("m").create_counter("c").add(1)
    assert exporter.got.wait(10)
    assert "Metrics are not collected" in caplog.text
    ours.shutdown()

    reader = PeriodicReader(Exported(), export_interval_millis=20)
    storage: Any = sdk.MeterProvider([reader], shutdown_on_exit=False)._measurement_consumer
    storage._reader_storages[reader].collect = fail_once(storage._reader_storages[reader].collect)
    thread: Any = reader._daemon_thread
    thread.join(10)
    assert not thread.is_alive()
    reader.shutdown()


def test_readers_that_are_added_later_are_flushed_and_shut_down() -> None:
    """A reader that is added at run time exports when the provider is flushed and when it is shut down; on the stock SDK it does neither."""
    found = []
    for provider_class in (OURS, THEIRS):
        exporter = Exported()
        provider = provider_class(shutdown_on_exit=False)
        reader = PeriodicReader(exporter, export_interval_millis=3_600_000)
        provider.add_metric_reader(reader)
        counter = provider.get_meter("m").create_counter("c")
        counter.add(1)
        provider.force_flush()
        flushed = exporter.got.is_set()
        exporter.got.clear()
        counter.add(1)
        provider.shutdown()
        found.append((flushed, exporter.got.is_set()))
        if not reader._shutdown:
            reader.shutdown()

    assert found == [(True, True), (False, False)]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """An OTLP receiver."""
    with http_receiver() as found:
        yield found


def test_the_capacity_of_the_queues_is_not_lost(receiver: Receiver, tmp_path: Path) -> None:
    """What the SDK says of itself when traces are set up arrives, because metrics are set up first; on the stock SDK it is lost."""
    path = on_path(tmp_path, STOCK)
    env: dict[str, Any] = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "true",
        "PYTHONPATH": path,
    }
    code = "from opentelemetry import trace; trace.get_tracer('t').start_span('s').end()"
    names = []
    for more in ({"OTEL_PYTHON_DISTRO": "otel_perf", "OTEL_PYTHON_CONFIGURATOR": "otel_perf"}, AS_STOCK):
        before = len(receiver.requests)
        done = run("-c", code, **{**env, **more})
        assert done.code == 0, done.err
        requests = range(before, len(receiver.requests))
        names.append({name for number in requests for _, name, _ in receiver.points(number)})

    assert "otel.sdk.span.started" in names[0] & names[1]
    assert "otel.sdk.processor.span.queue.capacity" in names[0]
    assert "otel.sdk.processor.span.queue.capacity" not in names[1]


def forking(*arguments: str) -> dict[str, Any]:
    """Output of the program that forks."""
    done = run("-m", "tests.integration.apps.forking", *arguments, wrapper=False, timeout=100)
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_no_child_hangs_that_is_forked_during_a_collection() -> None:
    """A child that is forked while a thread collects records and collects itself; on the stock SDK it waits for ever for the lock of that thread."""
    assert forking("ours", "collecting") == {"code": 0}
    assert forking("stock", "collecting") == {"code": -signal.SIGALRM}


def test_no_child_hangs_that_is_forked_while_others_record() -> None:
    """Of 200 children that are forked while threads record and collect none hangs; on the stock SDK most do, but by chance, so it is not tried."""
    assert forking("ours", "busy", "200") == {"forks": 200, "last": 0}


def test_nothing_is_counted_twice_after_a_fork() -> None:
    """Parent and child together export each recording once; on the stock SDK the child exports what its parent has counted over again."""
    assert forking("ours", "counted") == {"code": 0, "child": 0, "parent": 6}
    assert forking("stock", "counted") == {"code": 0, "child": 6, "parent": 5}


def test_a_flush_of_the_in_memory_reader_is_unaffected() -> None:
    """Only the Prometheus reader gets other data: an exponential histogram stays one for every other reader."""
    reader = InMemoryMetricReader(preferred_aggregation={sdk.Histogram: ExponentialBucketHistogramAggregation()})
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("m").create_histogram("h").record(1)
    data: Any = reader.get_metrics_data()
    provider.shutdown()

    assert type(data.resource_metrics[0].scope_metrics[0].metrics[0].data).__name__ == "ExponentialHistogram"
