"""A gate before a receiver: a TCP port on loopback that passes bytes on, or spoils the connection in the way a network or a broken host does.

It knows nothing of the protocol, so that it does the same to HTTP and to gRPC.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal, get_args

State = Literal["open", "refused", "silent", "reset", "cut", "drip", "garbage"]
"""What a connection meets: passed on; nobody listens; accepted and never answered; reset in the middle of the request; reset in the middle of the answer;
the answer comes one byte a second; bytes of no protocol come back."""

STATES: tuple[State, ...] = get_args(State)
_PART = 30
"""Bytes after which a connection is reset: inside of the head of a request or an answer."""


class Gate:
    """The port.

    Attributes:
        port: Its number, which stays the same whether anybody listens or not.
        state: What connections meet now.
        connections: How many were accepted in this state.
    """

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self.state: State = "open"
        self._turned = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._connected = threading.Condition()
        self.connections = 0
        self.port = 0
        self._listener: socket.socket | None = None
        self._listen()

    def turn(self, state: State) -> None:
        """Changes what connections meet; those that are open end, without an answer."""
        self._end()
        self.state, self.connections = state, 0
        if state != "refused":
            self._listen()

    def wait_for_connection(self, timeout: float = 10) -> None:
        """Waits until somebody has connected since the state was turned; fails after so many seconds."""
        with self._connected:
            assert self._connected.wait_for(lambda: self.connections, timeout), "nobody connects"

    def close(self) -> None:
        """Ends it and all its threads."""
        self._end()

    def _listen(self) -> None:
        self._turned = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener, self._turned)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _end(self) -> None:
        self._turned.set()
        if self._listener is not None:
            # Closing alone would not wake the thread that waits in accept.
            self._listener.shutdown(socket.SHUT_RDWR)
        while self._threads:
            with self._lock:
                for one in self._open:
                    _reset(one, socket.SHUT_RDWR)
                self._open.clear()
                thread = self._threads.pop()
            thread.join(10)
            assert not thread.is_alive()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket, turned: threading.Event) -> None:
        while not turned.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._start(self._serve, client, turned)

    @contextmanager
    def _held(self, one: socket.socket) -> Iterator[None]:
        """Has a connection ended when the state is turned, or at the end of the block."""
        with self._lock:
            self._open.add(one)
        try:
            with one, suppress(OSError):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    yield
                finally:
                    # Wakes the thread that passes on what comes from it, which closing would not.
                    one.shutdown(socket.SHUT_RD)
        finally:
            with self._lock:
                self._open.discard(one)

    def _serve(self, client: socket.socket, turned: threading.Event) -> None:
        with self._connected:
            self.connections += 1
            self._connected.notify_all()
        state = self.state
        with self._held(client):
            if turned.is_set():
                return
            if state == "silent":
                turned.wait()
            elif state == "garbage":
                client.recv(65536)
                client.sendall(os.urandom(512))
            elif state == "reset":
                _receive(client, _PART)
                _reset(client)
            else:
                self._pass(client, state, turned)

    def _pass(self, client: socket.socket, state: State, turned: threading.Event) -> None:
        server = socket.create_connection(("127.0.0.1", self._behind), 10)
        server.settimeout(None)
        with self._held(server):
            if turned.is_set():
                return
            self._start(_forward, client, server)
            while data := server.recv(65536):
                if state == "drip":
                    for byte in data:
                        client.sendall(bytes([byte]))
                        if turned.wait(1):
                            return
                elif state == "cut":
                    client.sendall(data[:_PART])
                    _reset(client)
                    return
                else:
                    client.sendall(data)
            client.shutdown(socket.SHUT_WR)


def _forward(source: socket.socket, sink: socket.socket) -> None:
    """Passes bytes on until one side ends."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _receive(one: socket.socket, count: int) -> None:
    """Waits for so many bytes, or the end."""
    while count > 0 and (data := one.recv(count)):
        count -= len(data)


def _reset(one: socket.socket, wake: int = socket.SHUT_RD) -> None:
    """Has a connection end as that of a crashed host does: closing it will send a reset. Threads that wait for it wake now."""
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.shutdown(wake)


@contextmanager
def gate(behind: int) -> Iterator[Gate]:
    """A gate before a port of loopback."""
    found = Gate(behind)
    try:
        yield found
    finally:
        found.close()
