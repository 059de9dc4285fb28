"""What the stock OTLP metric exporters send with: their own way through headers, TLS, compression, timeout, retries and internal metrics, for bytes.

The one place that uses the private parts of those exporters; tests/unit/test_sdk_seam_otlp.py guards them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import MetricExportResult

from otel_perf.exporters._http_answers import LimitedPool, LimitedSession

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData

__all__ = ["Encoded", "GrpcTransport", "HttpTransport", "Outcome", "Transport", "transport_of"]

_RETRYABLE_STATUS = frozenset({429, 502, 503, 504})
_NEEDS_RETRY_INFO = "RESOURCE_EXHAUSTED"
_OVER_REQUESTS = "opentelemetry.exporter.http.transport._requests.RequestsHTTPTransport"
_OVER_URLLIB3 = "opentelemetry.exporter.http.transport._urllib3.Urllib3HTTPTransport"
_RETRY_INFO = "google.rpc.retryinfo-bin"


@dataclass(frozen=True)
class Encoded:
    """A request in bytes. The stock exporters count the points of what they export, so it looks to them like one metric in one scope.

    Attributes:
        body: The bytes.
        points: Number of data points.
        deltas: How many of these are deltas, which no later request has again.
    """

    body: bytes
    points: int
    deltas: int

    @property
    def resource_metrics(self) -> tuple[Encoded]:
        """Itself."""
        return (self,)

    scope_metrics = metrics = resource_metrics

    @property
    def data(self) -> Encoded:
        """Itself."""
        return self

    @property
    def data_points(self) -> range:
        """So many as there are points."""
        return range(self.points)

    def WhichOneof(self, _group: str) -> str:  # noqa: N802 - the name is that of protobuf's messages.
        """The attribute that has the points."""
        return "data"

    def SerializeToString(self) -> bytes:  # noqa: N802 - as above.
        """The bytes."""
        return self.body


@dataclass(frozen=True)
class Outcome:
    """How an export ended.

    Attributes:
        ok: Whether the server took the request.
        retryable: Whether it may take the same request later; of a failure.
        retry_after: Seconds for which the server wants to be left alone.
        rejected: Data points that it did not take, although it took the request.
        message: What it says about that.
    """

    ok: bool
    retryable: bool = False
    retry_after: float = 0.0
    rejected: int = 0
    message: str = ""


class Transport:
    """An exporter that also takes bytes, and is watched.

    Args:
        exporter: The stock exporter.

    Attributes:
        exporter_name: Entry point name of the exporter.
    """

    exporter_name: str

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter

    @property
    def takes_bytes(self) -> bool:
        """Whether requests may be sent as they are; not if the exporter is to split them."""
        return self._exporter._max_export_batch_size is None

    def send(self, request: Encoded) -> Outcome:
        """Sends bytes.

        Raises:
            Exception: What the exporter raises, which it does not mean to.
        """
        self._begin()
        # The exporters ask themselves this before they encode.
        if self._exporter._shutdown:
            return Outcome(ok=False)
        return self._outcome(self._submit(request) is MetricExportResult.SUCCESS)

    def export(self, data: MetricsData, timeout_millis: float) -> Outcome:
        """Exports in the stock way; raises as `send` does."""
        self._begin()
        result = self._exporter.export(data, timeout_millis=timeout_millis)
        return self._outcome(result is MetricExportResult.SUCCESS)

    def _begin(self) -> None:
        raise NotImplementedError

    def _submit(self, request: Encoded) -> Any:
        raise NotImplementedError

    def _outcome(self, ok: bool) -> Outcome:
        raise NotImplementedError


class GrpcTransport(Transport):
    """Over gRPC: the exporter's stubs, also those that it makes when it connects again, let bytes pass and show what is answered."""

    exporter_name = "otlp_proto_grpc"

    def __init__(self, exporter: Any) -> None:
        super().__init__(exporter)
        self._begin()
        translate, stub = exporter._translate_data, exporter._stub
        exporter._translate_data = lambda data: data if isinstance(data, Encoded) else translate(data)
        exporter._stub = lambda channel: stub(_WatchedChannel(channel, self))
        exporter._client = exporter._stub(exporter._channel)

    def _begin(self) -> None:
        self.answer: Any = None
        self.error: Any = None

    def _submit(self, request: Encoded) -> Any:
        return self._exporter._export(request)

    def _outcome(self, ok: bool) -> Outcome:
        if ok:
            partial = getattr(self.answer, "partial_success", None)
            return _partial(partial)
        code: Any = getattr(self.error, "code", lambda: None)()
        if code not in self._exporter._retryable_error_codes:
            return Outcome(ok=False)
        info = dict(self.error.trailing_metadata() or ()).get(_RETRY_INFO)
        if info is None:
            # Without a time after which there is room again it means that there never will be.
            return Outcome(ok=False, retryable=code.name != _NEEDS_RETRY_INFO)
        return Outcome(ok=False, retryable=True, retry_after=_retry_delay(info))


def _retry_delay(info: bytes) -> float:
    # Loaded with the exporter.
    from google.rpc.error_details_pb2 import RetryInfo  # noqa: PLC0415

    delay = RetryInfo.FromString(info).retry_delay
    return float(delay.seconds + delay.nanos / 1e9)


class _WatchedChannel:
    """A channel whose calls serialise what is not bytes yet, and show answer and error."""

    def __init__(self, channel: Any, watcher: GrpcTransport) -> None:
        self._channel = channel
        self._watcher = watcher

    def unary_unary(self, method: str, *, request_serializer: Any, **options: Any) -> Any:
        call = self._channel.unary_unary(
            method,
            request_serializer=lambda request: (
                request.body if isinstance(request, Encoded) else request_serializer(request)
            ),
            **options,
        )
        watcher = self._watcher

        def export(**arguments: Any) -> Any:
            try:
                watcher.answer = call(**arguments)
            except Exception as error:
                watcher.error = error
                raise
            watcher.error = None
            return watcher.answer

        return export


class HttpTransport(Transport):
    """Over HTTP: stands between the exporter's client and its transport, whose answers it bounds where that is the one of requests."""

    exporter_name = "otlp_proto_http"

    def __init__(self, exporter: Any) -> None:
        super().__init__(exporter)
        self._result: Any = None
        self._inner = exporter._client._transport
        # That of requests, or in 1.45.0 of urllib3; whichever it is, is loaded.
        kind = f"{type(self._inner).__module__}.{type(self._inner).__qualname__}"
        if kind == _OVER_REQUESTS:
            self._inner._session = LimitedSession(self._inner._session)
        elif kind == _OVER_URLLIB3:
            self._inner._pool = LimitedPool(self._inner._pool)
        exporter._client._transport = self

    def request(self, method: str, url: str, **arguments: Any) -> Any:
        """Sends, and keeps what is answered."""
        self._result = self._inner.request(method, url, **arguments)
        return self._result

    def is_connection_error(self, exception: Exception | None) -> bool:
        """Asks the transport."""
        return bool(self._inner.is_connection_error(exception))

    def close(self) -> None:
        """Closes the transport."""
        self._inner.close()

    def _begin(self) -> None:
        self._result = None

    def _submit(self, request: Encoded) -> Any:
        return self._exporter._export_batch(request)

    def _outcome(self, ok: bool) -> Outcome:
        result = self._result
        if ok:
            return _partial(_partial_of(result))
        if result is None:
            return Outcome(ok=False)
        if result.status_code is None:
            return Outcome(ok=False, retryable=self.is_connection_error(result.error))
        if result.status_code not in _RETRYABLE_STATUS:
            return Outcome(ok=False)
        # Loaded with the exporter.
        from opentelemetry.exporter.otlp.common.http import _extract_retry_after  # noqa: PLC0415

        return Outcome(ok=False, retryable=True, retry_after=_extract_retry_after(result) or 0.0)


def _partial_of(result: Any) -> Any:
    """The partial success of an answer; None if the body is none, which does not make the export less of a success."""
    # Loaded with the exporter.
    from google.protobuf.message import DecodeError  # noqa: PLC0415
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (  # noqa: PLC0415
        ExportMetricsServiceResponse,
    )

    try:
        return ExportMetricsServiceResponse.FromString(result.content()).partial_success
    except DecodeError:
        return None


def _partial(partial: Any) -> Outcome:
    if partial is None:
        return Outcome(ok=True)
    return Outcome(ok=True, rejected=max(partial.rejected_data_points, 0), message=partial.error_message)


_STOCK: dict[tuple[str, str], type[Transport]] = {
    ("opentelemetry.exporter.otlp.proto.grpc.metric_exporter", "OTLPMetricExporter"): GrpcTransport,
    ("opentelemetry.exporter.otlp.proto.http.metric_exporter", "OTLPMetricExporter"): HttpTransport,
}


def transport_of(exporter: object) -> Transport | None:
    """The transport of a stock OTLP exporter; None for others, also for those derived from it. Loads nothing."""
    kind = type(exporter)
    found = _STOCK.get((kind.__module__, kind.__qualname__))
    return None if found is None else found(exporter)
