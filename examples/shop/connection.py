"""Responsible for one HTTP/1.1 keep-alive connection of the load generator.

A full client would do, but costs 2 ms of processor time a request where this costs a fifth of that, and the load
generator shares its processors with the shop it measures. It understands what the shop sends and nothing more: bodies
with a length and chunked bodies.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

_TIMEOUT_S = 10.0
# Refused or reset, cut short, not understood, too late: for a load generator all of these are one thing.
_BROKEN = (OSError, EOFError, ValueError, LookupError, asyncio.LimitOverrunError, asyncio.TimeoutError)


class RequestError(Exception):
    """A request got no complete answer; the message is the reason in a few words."""


class Connection:
    """A connection that is opened when it is needed and opened again after it was closed."""

    def __init__(self, host: str, port: int) -> None:
        """Prepares a connection; nothing is opened yet.

        Args:
            host: Address of the server.
            port: Port of the server.
        """
        self._host = host
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, body: Mapping[str, int] | None, *, last: bool) -> int:
        """Sends one request and reads the whole answer; a failed request is not repeated.

        Args:
            method: The HTTP method.
            path: The path, without characters that need quoting.
            body: Sent as JSON, where given.
            last: Whether the server shall close the connection after it.

        Returns:
            The status.

        Raises:
            RequestError: There was no complete answer within 10 s. The connection is closed.
        """
        try:
            status, closed = await asyncio.wait_for(self._exchange(method, path, body, last), _TIMEOUT_S)
        except _BROKEN as error:
            self.close()
            raise RequestError(type(error).__name__) from error
        except asyncio.CancelledError:
            self.close()
            raise
        if closed:
            self.close()
        return status

    def close(self) -> None:
        """Closes the connection; the next request opens a new one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _exchange(self, method: str, path: str, body: Mapping[str, int] | None, last: bool) -> tuple[int, bool]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        content = b"" if body is None else json.dumps(body).encode()
        head = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}"]
        if body is not None:
            head += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        if last:
            head.append("Connection: close")
        writer.write("\r\n".join([*head, "", ""]).encode() + content)
        status, headers = _parse_head(await reader.readuntil(b"\r\n\r\n"))
        if headers.get("transfer-encoding") == "chunked":
            await _skip_chunks(reader)
        else:
            await reader.readexactly(int(headers["content-length"]))
        return status, headers.get("connection") == "close"


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip().lower()
    if headers.get("transfer-encoding") != "chunked" and "content-length" not in headers:
        raise ValueError("an answer without a length")
    return int(first.split(maxsplit=2)[1]), headers


async def _skip_chunks(reader: asyncio.StreamReader) -> None:
    while True:
        size = int(await reader.readuntil(b"\r\n"), 16)
        # Two bytes of line end follow the data, and also the empty last chunk, after which there are no trailers.
        await reader.readexactly(size + 2)
        if size == 0:
            return
