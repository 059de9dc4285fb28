"""Receivers on loopback that do not do what a receiver should, each a context manager that yields the URL to export to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from functools import partial

DRIP_S = 1.0
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


def _listener(backlog: int | None = 16) -> socket.socket:
    found = socket.socket()
    found.bind(("127.0.0.1", 0))
    if backlog is not None:
        found.listen(backlog)
    return found


def _url(listener: socket.socket, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def closed() -> Iterator[str]:
    """A port that refuses: it is taken, so that nobody else listens there, but not listened on."""
    with closing(_listener(None)) as listener:
        yield _url(listener)


@contextmanager
def black_hole() -> Iterator[str]:
    """A listener that never accepts and whose queue is full, so that the kernel drops who wants to connect."""
    with ExitStack() as stack:
        listener = stack.enter_context(closing(_listener(0)))
        for _ in range(4):
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield _url(listener)


@contextmanager
def _answering(answer: Callable[[socket.socket, threading.Event], None], scheme: str = "http") -> Iterator[str]:
    """A listener that accepts everybody and does with each connection what is stated, until it is told to stop."""
    stop = threading.Event()
    listener = _listener()
    listener.settimeout(0.1)
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        # The program may end at any time.
        with closing(connection), suppress(OSError):
            answer(connection, stop)
            stop.wait()

    def accept() -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(connection,)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield _url(listener, scheme)
    finally:
        stop.set()
        accepting.join()
        for thread in threads:
            thread.join()
        listener.close()


def _drip(connection: socket.socket, stop: threading.Event) -> None:
    for byte in _ANSWER:
        connection.send(bytes([byte]))
        if stop.wait(DRIP_S):
            return


@contextmanager
def stuck() -> Iterator[tuple[str, threading.Event]]:
    """A receiver that is silent, and an event that tells that somebody has said something to it."""
    heard = threading.Event()

    def hear(connection: socket.socket, stop: threading.Event) -> None:
        connection.settimeout(0.1)
        while not stop.is_set():
            with suppress(TimeoutError):
                if not connection.recv(1):
                    return
                heard.set()

    with _answering(hear) as endpoint:
        yield endpoint, heard


@contextmanager
def nameless() -> Iterator[str]:
    """A name that does not resolve."""
    yield "http://collector.invalid:4317"


SICK: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "closed port": closed,
    "never accepts": black_hole,
    "silent after accept": partial(_answering, lambda _connection, _stop: None),
    "a byte a second": partial(_answering, _drip),
    "garbage for TLS": partial(_answering, lambda connection, _: connection.sendall(b"garbage\r\n" * 100), "https"),
    "no such name": nameless,
}
