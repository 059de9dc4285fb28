"""A small HTTP server for one resource: GET and HEAD, a request a connection, everything bounded.

That of the standard library loads `ssl`, which must not be loaded before gevent patches it, costs more to import than the rest of an endpoint, and
has no bound on time, size or number of requests.
"""

from __future__ import annotations

import logging
from _thread import start_new_thread
from socket import AI_PASSIVE, SHUT_RDWR, SHUT_WR, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, getaddrinfo, socket
from time import gmtime, monotonic, sleep
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_logger = logging.getLogger(__name__)

HEAD_MAX = 8192
"""Most bytes of a request before its body."""
HEADERS_MAX = 64
"""Most headers of a request."""
CONNECTIONS_MAX = 16
"""Connections that are answered at once; others wait until one of them ends."""
READ_S = 2.0
"""Seconds in which a request must have arrived."""
_SEND_S = 10.0
_LINGER_S = 1.0
_LINGER_MAX = 65_536
_TURN_S = 0.01
_LOCAL_NAMES = ("localhost", "host.docker.internal", "host.containers.internal")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_METHODS = ("GET", "HEAD")
_REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


class Answer(NamedTuple):
    """What a request is answered.

    Attributes:
        status: Status code.
        headers: Headers without those of every answer.
        body: Body; its length is sent also for HEAD.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class _RefusedError(Exception):
    """A request that is not answered.

    Args:
        status: Status code.
        text: What is wrong.
        *headers: Headers.
    """

    def __init__(self, status: int, text: str, *headers: tuple[str, str]) -> None:
        super().__init__(text)
        plain = ("Content-Type", "text/plain; charset=utf-8")
        self.answer = Answer(status, (plain, *headers), f"{text}\n".encode())


class Server:
    """Answers GET and HEAD on one address, from a thread of its own and one for each connection.

    Where the address is a loopback one, requests must name it in `Host`: a page whose name resolves to it is not read out (DNS rebinding).
    Accepted are ``localhost``, ``127.x.y.z``, ``[::1]``, the host that is bound, and the names that Docker and Podman give the host in containers, none
    of which is a name that anybody can own.

    Args:
        host: Name or address to bind.
        port: Port to bind; any free one if it is 0.
        paths: Paths that are there.
        answer: What answers a request, given its headers by lower-case name. It is called from several threads at once.

    Attributes:
        port: The port that is bound.

    Raises:
        OSError: The address cannot be had.
    """

    def __init__(
        self, host: str, port: int, paths: tuple[str, ...], answer: Callable[[Mapping[str, str]], Answer]
    ) -> None:
        self._paths = paths
        self._answer = answer
        self._connections: set[socket] = set()
        self._is_closed = False
        family, kind, protocol, _, address = getaddrinfo(host, port, type=SOCK_STREAM, flags=AI_PASSIVE)[0]
        self._names = (*_LOCAL_NAMES, host.lower()) if is_loopback(str(address[0])) else ()
        self._listener = socket(family, kind, protocol)
        try:
            self._listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            self._listener.bind(address)
            self._listener.listen(CONNECTIONS_MAX)
            self.port: int = self._listener.getsockname()[1]
            start_new_thread(self._accept, ())
        except BaseException:
            self._listener.close()
            raise

    def close(self) -> None:
        """Ends listening. Connections that are being answered are answered."""
        self._is_closed = True
        try:
            # Wakes the thread that waits for a connection, which closing alone does not.
            self._listener.shutdown(SHUT_RDWR)
        except OSError:
            _logger.debug("Listening had ended already", exc_info=True)
        self._listener.close()

    def after_fork_in_child(self) -> None:
        """Closes what is inherited: the threads live on in the parent only, and a port stays taken as long as any process has the socket."""
        self._is_closed = True
        self._listener.close()
        for connection in tuple(self._connections):
            connection.close()
        self._connections.clear()

    def _accept(self) -> None:
        while not self._is_closed:
            if len(self._connections) >= CONNECTIONS_MAX:
                sleep(_TURN_S)
                continue
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                # Closed, or no more files: neither is a reason to spin.
                sleep(_TURN_S)
                continue
            # Of the kind that the listener is. `socket.socket` is another one if gevent or eventlet have patched it since this was imported, and
            # a green socket belongs to the thread that made it. The thread is of the kind of this one for the same reason: a greenlet would never
            # run, because this thread waits in the kernel.
            connection = socket(fileno=accepted.detach())
            self._connections.add(connection)
            start_new_thread(self._serve, (connection,))

    def _serve(self, connection: socket) -> None:
        try:
            method, answer = self._answer_to(connection)
            connection.settimeout(_SEND_S)
            connection.sendall(_bytes_of(answer, with_body=method != "HEAD"))
            _linger(connection)
        except OSError:
            _logger.debug("A connection has ended early", exc_info=True)
        except Exception:
            _logger.exception("A request is not answered")
        finally:
            connection.close()
            self._connections.discard(connection)

    def _answer_to(self, connection: socket) -> tuple[str, Answer]:
        method = "GET"
        try:
            method, target, headers = _parsed(_head(connection))
            self._check_host(headers)
            self._check(method, target)
            return method, self._answer(headers)
        except _RefusedError as refused:
            return method, refused.answer

    def _check(self, method: str, target: str) -> None:
        if target.partition("?")[0] not in self._paths:
            raise _RefusedError(404, f"There is nothing here but {' and '.join(self._paths)}")
        if method not in _METHODS:
            raise _RefusedError(405, "Only GET and HEAD are answered", ("Allow", ", ".join(_METHODS)))

    def _check_host(self, headers: Mapping[str, str]) -> None:
        host = headers.get("host")
        # No browser speaks HTTP/1.0 without it; HTTP/1.1 without it was refused before.
        if not self._names or host is None:
            return
        name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
        if name.lower().rstrip(".") not in self._names and not is_loopback(name):
            raise _RefusedError(
                403,
                f"Host is {host!r}; this endpoint is bound to a loopback address and accepts {', '.join(self._names)}, 127.0.0.1 and [::1]. "
                "Bind it to another address to be reached under other names.",
            )


def is_loopback(address: str) -> bool:
    """Whether an address, not a name, is one of this machine only."""
    parts = address.split(".")
    is_ipv4 = len(parts) == 4 and all(part.isascii() and part.isdigit() for part in parts)  # noqa: PLR2004 - bytes of an address.
    return (is_ipv4 and parts[0] == "127") or address in ("::1", "0:0:0:0:0:0:0:1")


def _head(connection: socket) -> bytes:
    """Request line and headers, without the empty line that ends them."""
    deadline = monotonic() + READ_S
    received = b""
    while b"\r\n\r\n" not in received:
        remaining = deadline - monotonic()
        if remaining <= 0:
            raise _RefusedError(408, f"The request took longer than {READ_S:g} s")
        connection.settimeout(remaining)
        try:
            chunk = connection.recv(HEAD_MAX)
        except TimeoutError:
            continue
        if not chunk:
            raise ConnectionError("closed before a request was complete")
        received += chunk
        if len(received.partition(b"\r\n\r\n")[0]) > HEAD_MAX:
            raise _RefusedError(431, f"Request line and headers have more than {HEAD_MAX} bytes")
    return received.partition(b"\r\n\r\n")[0]


def _parsed(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Method, target and headers by lower-case name."""
    request, *lines = head.decode("latin-1").split("\r\n")
    parts = request.split(" ")
    if len(parts) != 3 or not parts[1].startswith("/"):  # noqa: PLR2004 - the parts of a request line.
        raise _RefusedError(400, "The request line is not: method, path, version")
    method, target, version = parts
    if version not in ("HTTP/1.0", "HTTP/1.1"):
        raise _RefusedError(505, "Only HTTP/1.0 and HTTP/1.1 are answered")
    if len(lines) > HEADERS_MAX:
        raise _RefusedError(431, f"There are more than {HEADERS_MAX} headers")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or "\n" in line:
            raise _RefusedError(400, "A header is not: name, colon, value")
        name, value = name.lower(), value.strip(" \t")
        if name == "host" and name in headers:
            raise _RefusedError(400, "There is more than one Host")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if version == "HTTP/1.1" and "host" not in headers:
        raise _RefusedError(400, "There is no Host")
    return method, target, headers


def _bytes_of(answer: Answer, *, with_body: bool) -> bytes:
    now = gmtime()
    date = f"{_DAYS[now.tm_wday]}, {now.tm_mday:02} {_MONTHS[now.tm_mon - 1]} {now.tm_year} {now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02} GMT"
    headers = (
        *answer.headers,
        ("Content-Length", str(len(answer.body))),
        ("Date", date),
        ("X-Content-Type-Options", "nosniff"),
        ("Connection", "close"),
    )
    lines = [
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}",
        *(f"{name}: {value}" for name, value in headers),
        "\r\n",
    ]
    head = "\r\n".join(lines).encode("latin-1")
    return head + answer.body if with_body else head


def _linger(connection: socket) -> None:
    """Waits for the client to close: closing while it still sends would take back the answer."""
    connection.shutdown(SHUT_WR)
    deadline = monotonic() + _LINGER_S
    received = 0
    while received < _LINGER_MAX and (remaining := deadline - monotonic()) > 0:
        connection.settimeout(remaining)
        try:
            chunk = connection.recv(HEAD_MAX)
        except TimeoutError:
            return
        if not chunk:
            return
        received += len(chunk)
