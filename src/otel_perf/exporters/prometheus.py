"""Prometheus endpoint: the stock reader behind an HTTP server that a taken port or a fork cannot turn into a fault."""

from __future__ import annotations

import logging
import os
from _thread import start_new_thread
from socket import socket
from typing import TYPE_CHECKING, Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import start_http_server

if TYPE_CHECKING:
    from otel_perf.config import Settings

__all__ = ["serve", "withdraw"]

_logger = logging.getLogger(__name__)

_servers: dict[PrometheusMetricReader, Any] = {}


def serve(
    settings: Settings, *, setting: str = "OTEL_EXPORTER_PROMETHEUS_PORT", **options: Any
) -> PrometheusMetricReader | None:
    """Starts the endpoint and returns the reader that feeds it.

    Args:
        settings: Host and port.
        setting: What to set for another port.
        **options: Arguments of the stock reader.

    Returns:
        The reader; None, after one log line, if the address cannot be had.
    """
    try:
        server, _thread = start_http_server(port=settings.prometheus_port, addr=settings.prometheus_host)
    except OSError as error:
        _logger.warning(
            "No Prometheus endpoint: %s:%s cannot be used (%s); set %s to a free port",
            settings.prometheus_host,
            settings.prometheus_port,
            error,
            setting,
        )
        return None
    _answer_in_threads(server)
    reader = PrometheusMetricReader(**options)
    _servers[reader] = server
    return reader


def withdraw(reader: PrometheusMetricReader) -> None:
    """Ends an endpoint.

    Args:
        reader: The reader that `serve` has returned.
    """
    server = _servers.pop(reader)
    server.shutdown()
    server.server_close()
    reader.shutdown()


def _answer_in_threads(server: Any) -> None:
    """Answers each request in a thread, and through a socket, of the kind that the server's own is.

    `threading` and `socket` are others if gevent or eventlet have patched them since the server was started: a greenlet of the server's thread would
    never run, because that thread waits for the next connection in the kernel, and a green socket belongs to the thread that made it.
    """

    def process_request(request: Any, client_address: Any) -> None:
        own = socket(fileno=request.detach())
        own.setblocking(True)
        start_new_thread(server.process_request_thread, (own, client_address))

    server.process_request = process_request


def _after_fork_in_child() -> None:
    # The thread that serves lives on in the parent only. An inherited socket would keep the port taken after the parent's end.
    for server in _servers.values():
        server.socket.close()
    _servers.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
