"""Bounds on what an HTTP server may answer: bytes and time, both of the whole answer.

The timeout of requests is one of each read, so that a server that sends a byte a second is waited for without end, and an answer is read and
decompressed whole, however large.
"""

from __future__ import annotations

import io
import threading
import zlib
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from socket import socket

__all__ = ["MAX_ANSWER", "Answer", "AnswerTooLargeError", "LimitedPool", "LimitedSession"]

MAX_ANSWER = 4 * 1024 * 1024
"""Most bytes of an answer, as they come and decompressed."""

_CHUNK = 64 * 1024
_ANY_ZLIB = zlib.MAX_WBITS | 32


class AnswerTooLargeError(Exception):
    """An answer has more than `MAX_ANSWER` bytes."""


class _Deadline(threading.local):
    """When the answer that this thread waits for has to be there; None outside a request of ours."""

    at: float | None = None


class LimitedSession:
    """Stands where the stock transport has its `requests.Session`, which sends as before: adapters, proxies, authentication, TLS.

    Args:
        session: The session; others may go on using it, without the limits.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._deadline = _Deadline()
        for adapter in set(session.adapters.values()):
            self._limit(adapter)

    def request(self, method: str, url: str, *, timeout: float | None = None, **arguments: Any) -> Any:
        """Sends a request and reads the answer.

        Args:
            method: HTTP method.
            url: URL.
            timeout: Seconds for each step of sending, and again for the whole answer; None for no limit.
            **arguments: What else `requests.Session.request` takes.

        Returns:
            The response, whose body is read.

        Raises:
            AnswerTooLargeError: The answer is too large, or would be when decompressed.
            requests.exceptions.RequestException: As of requests; a timeout also if the answer as a whole takes too long.
        """
        self._deadline.at = None if timeout is None else monotonic() + timeout
        try:
            response = self._session.request(method=method, url=url, timeout=timeout, **arguments, stream=True)
            try:
                body = _decoded(response, self._read(response))
            finally:
                # Read to its end it is back in the pool already, and stays open.
                response.close()
        finally:
            self._deadline.at = None
        response.raw = io.BytesIO(body)
        return response

    def close(self) -> None:
        """Closes the session."""
        self._session.close()

    def _read(self, response: Any) -> bytes:
        # Loaded with the session.
        from requests import exceptions  # noqa: PLC0415
        from urllib3.exceptions import HTTPError, ReadTimeoutError  # noqa: PLC0415

        try:
            return _read(response.raw)
        except ReadTimeoutError as error:
            raise exceptions.ReadTimeout(error) from error
        except HTTPError as error:
            raise exceptions.ChunkedEncodingError(error) from error

    def _limit(self, adapter: Any) -> None:
        """Gives an adapter, and its proxies, connections that have a deadline; adapters that are not made of pools stay as they are."""
        if not hasattr(getattr(adapter, "poolmanager", None), "pool_classes_by_scheme"):
            return
        _limit_pools(adapter.poolmanager, self._deadline)
        through_proxy = adapter.proxy_manager_for

        def proxy_manager_for(*arguments: Any, **kwargs: Any) -> Any:
            known = list(adapter.proxy_manager.values())
            manager = through_proxy(*arguments, **kwargs)
            if manager not in known:
                _limit_pools(manager, self._deadline)
            return manager

        adapter.proxy_manager_for = proxy_manager_for


@dataclass(frozen=True)
class Answer:
    """What the stock transport asks of an answer of urllib3.

    Attributes:
        status: Status.
        reason: Its text.
        headers: Headers.
        data: The body.
    """

    status: int
    reason: str | None
    headers: Any
    data: bytes


class LimitedPool:
    """Stands where the stock transport has its `urllib3.PoolManager`, as that of OpenTelemetry 1.45.0 does.

    Args:
        pool: The manager, which is this one's alone.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._deadline = _Deadline()
        _limit_pools(pool, self._deadline)

    def request(self, *, url: str, timeout: Any = None, preload_content: bool = True, **arguments: Any) -> Answer:
        """Sends a request and reads the answer.

        Args:
            url: URL.
            timeout: `urllib3.Timeout`, whose seconds are for sending and again for the whole answer; None for no limit.
            preload_content: Always, whatever is said.
            **arguments: What else `urllib3.PoolManager.request` takes.

        Raises:
            AnswerTooLargeError: The answer is too large, or would be when decompressed.
            urllib3.exceptions.HTTPError: As of urllib3; `MaxRetryError` also if the answer ends early or as a whole takes too long.
        """
        from urllib3.exceptions import IncompleteRead, MaxRetryError, ReadTimeoutError  # noqa: PLC0415 - loaded with the transport.

        del preload_content
        seconds = None if timeout is None else timeout.total
        self._deadline.at = None if seconds is None else monotonic() + seconds
        try:
            response = self._pool.request(
                url=url, timeout=timeout, preload_content=False, decode_content=False, **arguments
            )
            try:
                body = _decoded(response, _read(response))
            finally:
                response.close()
        except (ReadTimeoutError, IncompleteRead) as error:
            # As what it means elsewhere: the server may take the request later.
            raise MaxRetryError(self._pool, url, error) from error
        finally:
            self._deadline.at = None
        return Answer(response.status, response.reason, response.headers, body)

    def clear(self) -> None:
        """Closes all connections."""
        self._pool.clear()


def _limit_pools(manager: Any, deadline: _Deadline) -> None:
    manager.clear()
    manager.pool_classes_by_scheme = {
        scheme: _limited(kind, deadline) for scheme, kind in manager.pool_classes_by_scheme.items()
    }


def _limited(pool: Any, deadline: _Deadline) -> type:
    class Response(pool.ConnectionCls.response_class):  # type: ignore[misc]
        fp: Any

        def __init__(self, sock: socket, *arguments: Any, **kwargs: Any) -> None:
            super().__init__(sock, *arguments, **kwargs)
            if deadline.at is not None and isinstance(self.fp, io.BufferedReader):
                self.fp = io.BufferedReader(_Reading(self.fp.detach(), sock, deadline.at))

    connection = type("Connection", (pool.ConnectionCls,), {"response_class": Response})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})


class _Reading(io.RawIOBase):
    """Reads from a socket until a moment, instead of for some seconds each time."""

    def __init__(self, raw: io.RawIOBase, sock: socket, until: float) -> None:
        self._raw = raw
        self._sock = sock
        self._until = until

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._until - monotonic()
        if remaining <= 0:
            raise TimeoutError("the answer as a whole took too long")
        self._sock.settimeout(remaining)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _read(raw: Any) -> bytes:
    """The body as it came."""
    body = bytearray()
    while chunk := raw.read(_CHUNK, decode_content=False):
        body += chunk
        if len(body) > MAX_ANSWER:
            raise AnswerTooLargeError(f"the answer has more than {MAX_ANSWER} bytes")
    return bytes(body)


def _decoded(response: Any, body: bytes) -> bytes:
    """The body decompressed; empty if it is damaged or in an encoding whose size cannot be bounded."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return b""
    try:
        decoded = zlib.decompressobj(_ANY_ZLIB).decompress(body, MAX_ANSWER + 1)
    except zlib.error:
        return b""
    if len(decoded) > MAX_ANSWER:
        raise AnswerTooLargeError(f"the decompressed answer has more than {MAX_ANSWER} bytes")
    return decoded
