"""A WSGI and an ASGI application that count each request in every kind of instrument and answer the process id."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

_meter = metrics.get_meter("served")
_requests = _meter.create_counter("served.requests")
_sizes = _meter.create_histogram("served.size", "By")
_active = _meter.create_up_down_counter("served.active")
_last = _meter.create_gauge("served.last")


def _observed(_options: CallbackOptions) -> Iterable[Observation]:
    yield Observation(1)


# Of a process, so that each worker has a point; and the number of workers, which is the sum over those that live.
_meter.create_observable_gauge("process.served", [_observed])
_meter.create_observable_up_down_counter("served.workers", [_observed])


def _count() -> bytes:
    _active.add(1)
    _requests.add(1, {"route": "/"})
    _sizes.record(100)
    _last.set(7)
    _active.add(-1)
    return str(os.getpid()).encode()


def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The WSGI application."""
    body = _count()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[dict[str, Any]], Any]) -> None:
    """The ASGI application."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = _count()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
