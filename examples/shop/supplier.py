"""Responsible for the supplier: the small HTTP service that the shop asks for prices.

Run it with `python -m examples.shop.supplier PORT`; it answers on loopback until it is terminated.
"""

from __future__ import annotations

import json
import random
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_USUAL_DELAY_S = (0.002, 0.008)
_SLOW_DELAY_S = 0.08
_SLOW_SHARE = 0.02


class SupplierHandler(BaseHTTPRequestHandler):
    """Answers `GET /prices/<product number>` with a price in cents, usually quickly."""

    protocol_version = "HTTP/1.1"
    # Headers and body are two writes; with Nagle's algorithm the second would wait for the shop's delayed ACK.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answers one request; the name is what `http.server` calls."""
        kind, _, number = self.path.strip("/").partition("/")
        if kind != "prices" or not (number.isascii() and number.isdigit()):
            self._answer(404, {"detail": "unknown path"})
            return
        time.sleep(_SLOW_DELAY_S if random.random() < _SLOW_SHARE else random.uniform(*_USUAL_DELAY_S))
        self._answer(200, {"product_id": int(number), "price_cents": random.randint(500, 9_000)})

    def _answer(self, status: int, body: dict[str, object]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - The name is that of the base class.
        """Writes nothing: one line for each request would only fill the log file."""


def main(arguments: list[str]) -> int:
    """Serves until terminated.

    Args:
        arguments: The port to bind on loopback, as one decimal number.

    Returns:
        The exit status: 2 where the arguments are wrong.
    """
    if len(arguments) != 1 or not (arguments[0].isascii() and arguments[0].isdigit()):
        print(f"supplier: expected one port number, got {arguments}", file=sys.stderr)
        return 2
    with ThreadingHTTPServer(("127.0.0.1", int(arguments[0])), SupplierHandler) as server:
        server.daemon_threads = True
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
