"""Runs an HTTP server of the standard library on loopback for as long as a test needs it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class QuietHandler(BaseHTTPRequestHandler):
    """Does not write to standard error what it was asked."""

    disable_nagle_algorithm = True
    """Head and body are sent apart, and the second would wait for the acknowledgement of the first."""

    def log_message(self, *_: object) -> None:
        """What is of interest is kept by the test."""


@contextmanager
def serving(handler: type[QuietHandler]) -> Iterator[int]:
    """Serves in a thread, and gives the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
