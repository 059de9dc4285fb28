"""Prometheus endpoint: text, OpenMetrics with exemplars, and protobuf with native histograms, encoded natively."""

from __future__ import annotations

import logging
from _thread import allocate_lock
from time import monotonic, perf_counter, sleep
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.semconv._incubating.attributes.otel_attributes import OtelComponentTypeValues

from otel_perf import _core
from otel_perf.exporters._http import Answer, Server
from otel_perf.exporters._negotiation import CONTENT_TYPES, format_for, takes_gzip
from otel_perf.segment import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.sdk.metrics.export import MetricsData

    from otel_perf.config import Settings
    from otel_perf.metrics._consumer import Scrape

__all__ = ["PrometheusEndpoint", "serve"]

_logger = logging.getLogger(__name__)

_PATHS = ("/metrics", "/")
_SCRAPE_S = 10.0
_TURN_S = 0.001
_GZIP = 31
"""Window of zlib with which it writes the format of gzip."""
_FAST = 1
_PORTS = 64
_PORT_MAX = 65_535
_PLAIN = ("Content-Type", "text/plain; charset=utf-8")

_endpoints: set[PrometheusEndpoint] = set()
_refused: set[tuple[str, int]] = set()


class PrometheusEndpoint(MetricReader):
    """Serves the metrics of an `otel_perf.MeterProvider` over HTTP, at ``/metrics`` and ``/``.

    What the scraper asks for decides the format: text 0.0.4, OpenMetrics 1.0, or delimited protobuf, in which histograms are native and classic at once.
    Names, units and labels are those of the stock exporter. Of metrics that share a name but not a type, and of series that share all labels, the
    first is shown, and one warning says so. Exemplars of reservoirs in Python are not shown.

    A scrape of 1,000 histogram series (3 MB of text) costs 2 to 4 ms of CPU without the GIL, and 5 ms more if it is compressed. One scrape is
    answered at a time.

    Args:
        host: Name or address to bind. Where it is a loopback one, requests must name it: see `Server`.
        port: Port to bind; any free one if it is 0.
        disable_target_info: Whether to leave out ``target_info``, which has the attributes of the resource.
        prefix: What all names begin with, before an underscore.
        scope_info_enabled: Whether series have labels that tell their scope.
        resource_attribute_filter: Says of each key of the resource whether all series get it as a label.

    Raises:
        OSError: The address cannot be had.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 9464,
        *,
        disable_target_info: bool = False,
        prefix: str = "",
        scope_info_enabled: bool = True,
        resource_attribute_filter: Callable[[str], bool] | None = None,
    ) -> None:
        # Cumulative, with the default aggregations, as the SDK's readers are by default.
        super().__init__(otel_component_type=OtelComponentTypeValues.PROMETHEUS_HTTP_TEXT_METRIC_EXPORTER)
        self._host = host
        self._filter = resource_attribute_filter
        self._encoder = _core.PrometheusEncoder(
            prefix=prefix, scope_labels=scope_info_enabled, target_info=not disable_target_info
        )
        self._scrape: Scrape | None = None
        self._turn = allocate_lock()
        self._server = Server(host, port, _PATHS, self._answer)
        _endpoints.add(self)

    @property
    def port(self) -> int:
        """The port that is bound."""
        return self._server.port

    @property
    def address(self) -> str:
        """Where metrics are."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}/metrics"

    def _set_scrape_callback(self, scrape: Scrape) -> None:
        """Takes what collects natively; our provider calls it."""
        self._scrape = scrape

    def _answer(self, headers: Mapping[str, str]) -> Answer:
        """Answers a request."""
        # As with collections, the lock is asked for again and again: where threads are greenlets of one thread, its holder may have given way.
        deadline = monotonic() + _SCRAPE_S
        while not self._turn.acquire(blocking=False):
            if monotonic() >= deadline:
                return Answer(503, (_PLAIN,), b"Another scrape takes too long\n")
            sleep(_TURN_S)
        try:
            return self._answer_in_turn(headers)
        finally:
            self._turn.release()

    def _answer_in_turn(self, headers: Mapping[str, str]) -> Answer:
        if self._scrape is None:
            return Answer(503, (_PLAIN,), b"No otel_perf.MeterProvider has this reader\n")
        chosen = format_for(headers.get("accept", ""))
        began = perf_counter()
        body = self._scrape(self, self._encoder, chosen, self._filter, _SCRAPE_S * 1000)
        self._metrics.record_collection(perf_counter() - began)
        for line in self._encoder.take_left_out():
            _logger.warning("Not shown to Prometheus: %s", line)
        if body is None:
            return Answer(503, (_PLAIN,), b"Metrics were not collected, see the log of the service\n")
        found = (("Content-Type", CONTENT_TYPES[chosen]), ("Vary", "Accept, Accept-Encoding"))
        if not takes_gzip(headers.get("accept-encoding", "")):
            return Answer(200, found, body)
        from zlib import DEFLATED, compressobj  # noqa: PLC0415 - only who is asked for it pays for it.

        # The lowest level: half the time of the default, and a scrape repeats itself so much that it shrinks to a few per cent all the same.
        gzip = compressobj(_FAST, DEFLATED, _GZIP)
        return Answer(200, (*found, ("Content-Encoding", "gzip")), gzip.compress(body) + gzip.flush())

    def force_flush(self, timeout_millis: float = 10_000) -> bool:  # noqa: ARG002 - the signature is the base class's.
        """Does nothing: a scrape collects by itself, and one for nobody would take the exemplars of the next."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:  # noqa: ARG002 - as above.
        """Ends the endpoint; a scrape that is being answered is answered."""
        if self in _endpoints:
            _endpoints.discard(self)
            self._server.close()

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        """Takes nothing: what Python collects is not what is served."""


def serve(
    settings: Settings, *, setting: str = "OTEL_EXPORTER_PROMETHEUS_PORT", **options: Any
) -> PrometheusEndpoint | None:
    """Starts the endpoint. That an address cannot be had is a warning once only, because it is tried again.

    Args:
        settings: Host and port.
        setting: What to set for another port.
        **options: Arguments of `PrometheusEndpoint`.

    Returns:
        The endpoint, which is a reader; None, after one log line, if the address cannot be had.
    """
    address = (settings.prometheus_host, settings.prometheus_port)
    try:
        endpoint = _bound(*address, options, tries=_PORTS if settings.workers == "separate" else 1)
    except OSError as error:
        _logger.log(
            logging.DEBUG if address in _refused else logging.WARNING,
            "No Prometheus endpoint: %s:%s cannot be used (%s); set %s to a free port. It is tried again until it is free.",
            *address,
            error,
            setting,
        )
        _refused.add(address)
        return None
    if address in _refused:
        _refused.discard(address)
        _logger.warning("The Prometheus endpoint is at %s:%s now", *address)
    return endpoint


def _bound(host: str, port: int, options: dict[str, Any], tries: int) -> PrometheusEndpoint:
    """The endpoint at the first of so many ports that can be had."""
    while True:
        try:
            return PrometheusEndpoint(host, port, **options)
        except OSError:
            tries -= 1
            # 0 is any port, and the last one has no next.
            if tries == 0 or port in (0, _PORT_MAX):
                raise
        port += 1


def _after_fork_in_child() -> None:
    # The thread that serves lives on in the parent only. An inherited socket would keep the port taken after the parent's end.
    for endpoint in _endpoints:
        endpoint._server.after_fork_in_child()
    _endpoints.clear()


after_fork_in_child(_after_fork_in_child)
