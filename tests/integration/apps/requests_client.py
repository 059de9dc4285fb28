"""Sends requests with the requests library to a server of its own, then prints what its Prometheus endpoint says."""

from __future__ import annotations

import os
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/ok" else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    """Sends seven good and three bad requests."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for path in ["/ok"] * 7 + ["/bad"] * 3:
        requests.get(f"http://127.0.0.1:{server.server_address[1]}{path}", timeout=5)
    port = os.environ["OTEL_EXPORTER_PROMETHEUS_PORT"]
    with urllib.request.urlopen(f"http://localhost:{port}/metrics") as answer:
        print(answer.read().decode())


if __name__ == "__main__":
    main()
