"""A broker that speaks AMQP 0-9-1, for as much as clients need to publish to queues and consume from them."""

from __future__ import annotations

import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_GREETING = b"AMQP\x00\x00\x09\x01"
_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_END = b"\xce"
_FRAME = struct.Struct(">BHI")
_FRAME_MAX = 131_072

# Class and method of what is received or sent (AMQP 0-9-1, section 1).
_START, _START_OK, _TUNE, _TUNE_OK = (10, 10), (10, 11), (10, 30), (10, 31)
_OPEN, _OPEN_OK, _CLOSE, _CLOSE_OK = (10, 40), (10, 41), (10, 50), (10, 51)
_CHANNEL_OPEN, _CHANNEL_OPEN_OK, _CHANNEL_CLOSE, _CHANNEL_CLOSE_OK = (20, 10), (20, 11), (20, 40), (20, 41)
_EXCHANGE_DECLARE, _EXCHANGE_DECLARE_OK = (40, 10), (40, 11)
_QUEUE_DECLARE, _QUEUE_DECLARE_OK, _QUEUE_BIND, _QUEUE_BIND_OK = (50, 10), (50, 11), (50, 20), (50, 21)
_QOS, _QOS_OK, _CONSUME, _CONSUME_OK, _CANCEL, _CANCEL_OK = (60, 10), (60, 11), (60, 20), (60, 21), (60, 30), (60, 31)
_PUBLISH, _DELIVER, _GET, _GET_OK, _GET_EMPTY, _ACK = (60, 40), (60, 60), (60, 70), (60, 71), (60, 72), (60, 80)
_CONFIRM, _CONFIRM_OK = (85, 10), (85, 11)


def _short(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _read_short(data: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + data[at]
    return data[at + 1 : end].decode(), end


# What is always answered alike.
_ANSWERS: dict[tuple[int, ...], tuple[tuple[int, int], bytes]] = {
    _START_OK: (_TUNE, struct.pack(">HIH", 2047, _FRAME_MAX, 0)),
    _OPEN: (_OPEN_OK, _short("")),
    _CLOSE: (_CLOSE_OK, b""),
    _CHANNEL_OPEN: (_CHANNEL_OPEN_OK, _long(b"")),
    _CHANNEL_CLOSE: (_CHANNEL_CLOSE_OK, b""),
    _EXCHANGE_DECLARE: (_EXCHANGE_DECLARE_OK, b""),
    _QUEUE_BIND: (_QUEUE_BIND_OK, b""),
    _QOS: (_QOS_OK, b""),
    _CONFIRM: (_CONFIRM_OK, b""),
}


@dataclass
class _Message:
    exchange: str
    key: str
    size: int = 0
    # As it was received: properties are passed on and not looked at.
    properties: bytes = b""
    body: bytes = b""


@dataclass
class _Channel:
    confirms: bool = False
    published: int = 0
    delivered: int = 0
    coming: _Message | None = None
    consumers: dict[str, str] = field(default_factory=dict)


class _Connection:
    """One client: its channels, and the queues of the broker."""

    def __init__(self, connection: socket.socket, queues: dict[str, deque[_Message]]) -> None:
        self._socket = connection
        self._queues = queues
        self._channels: dict[int, _Channel] = {}
        self._acts: dict[tuple[int, ...], Callable[[int, _Channel, bytes], None]] = {
            _QUEUE_DECLARE: self._declare,
            _CONSUME: self._consume,
            _CANCEL: self._cancel,
            _PUBLISH: self._publish,
            _GET: self._get,
        }

    def serve(self) -> None:
        """Answers until the client goes."""
        assert self._exactly(len(_GREETING)) == _GREETING
        capabilities = _short("capabilities") + b"F" + _long(_short("publisher_confirms") + b"t\x01")
        capabilities += _short("basic.nack") + b"t\x01"
        self._send(0, _START, b"\x00\x09" + _long(capabilities) + _long(b"PLAIN") + _long(b"en_US"))
        while True:
            kind, number, size = _FRAME.unpack(self._exactly(_FRAME.size))
            payload = self._exactly(size)
            assert self._exactly(1) == _END
            if kind == _METHOD and not self._method(number, struct.unpack_from(">HH", payload), payload[4:]):
                return
            if kind == _HEADER:
                self._header(number, payload)
            elif kind == _BODY:
                self._body(number, payload)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            some = self._socket.recv(size - len(data))
            if not some:
                raise ConnectionError("the client has gone")
            data += some
        return data

    def _frame(self, kind: int, number: int, payload: bytes) -> None:
        self._socket.sendall(_FRAME.pack(kind, number, len(payload)) + payload + _END)

    def _send(self, number: int, method: tuple[int, int], arguments: bytes = b"") -> None:
        self._frame(_METHOD, number, struct.pack(">HH", *method) + arguments)

    def _method(self, number: int, method: tuple[int, ...], data: bytes) -> bool:
        """Does what a method asks for; false if the connection is over."""
        if method == _CHANNEL_OPEN:
            self._channels[number] = _Channel()
        elif method == _CHANNEL_CLOSE:
            self._channels.pop(number, None)
        channel = self._channels.get(number, _Channel())
        if method == _CONFIRM:
            channel.confirms = True
        if method in _ANSWERS:
            self._send(number, *_ANSWERS[method])
            return method != _CLOSE
        act = self._acts.get(method)
        if act is not None:
            act(number, channel, data)
        # Nothing is delivered twice here, so that acknowledging changes nothing.
        return act is not None or method in (_ACK, _TUNE_OK, _CHANNEL_CLOSE_OK)

    def _declare(self, number: int, channel: _Channel, data: bytes) -> None:
        del channel
        name = _read_short(data, 2)[0] or f"amq.gen-{len(self._queues)}"
        waiting = len(self._queues.setdefault(name, deque()))
        self._send(number, _QUEUE_DECLARE_OK, _short(name) + struct.pack(">II", waiting, 0))

    def _consume(self, number: int, channel: _Channel, data: bytes) -> None:
        queue, at = _read_short(data, 2)
        tag = _read_short(data, at)[0] or f"ctag-{len(channel.consumers)}"
        channel.consumers[tag] = queue
        self._send(number, _CONSUME_OK, _short(tag))
        self._deliver()

    def _cancel(self, number: int, channel: _Channel, data: bytes) -> None:
        tag = _read_short(data, 0)[0]
        channel.consumers.pop(tag, None)
        self._send(number, _CANCEL_OK, _short(tag))

    def _publish(self, number: int, channel: _Channel, data: bytes) -> None:
        del number
        exchange, at = _read_short(data, 2)
        channel.coming = _Message(exchange, _read_short(data, at)[0])

    def _get(self, number: int, channel: _Channel, data: bytes) -> None:
        queue = _read_short(data, 2)[0]
        if not self._queues.get(queue):
            self._send(number, _GET_EMPTY, _short(""))
            return
        message = self._queues[queue].popleft()
        channel.delivered += 1
        head = struct.pack(">QB", channel.delivered, 0) + _short(message.exchange) + _short(message.key)
        self._send(number, _GET_OK, head + struct.pack(">I", len(self._queues[queue])))
        self._content(number, message)

    def _header(self, number: int, payload: bytes) -> None:
        message = self._channels[number].coming
        assert message is not None
        # Class, weight, size of the body, then flags and properties.
        (message.size,) = struct.unpack_from(">Q", payload, 4)
        message.properties = payload[12:]
        self._body(number, b"")

    def _body(self, number: int, part: bytes) -> None:
        channel = self._channels[number]
        message = channel.coming
        assert message is not None
        message.body += part
        if len(message.body) < message.size:
            return
        channel.coming = None
        self._queues.setdefault(message.key, deque()).append(message)
        if channel.confirms:
            channel.published += 1
            self._send(number, _ACK, struct.pack(">QB", channel.published, 0))
        self._deliver()

    def _deliver(self) -> None:
        """Sends this client what is in the queues that it consumes."""
        for number, channel in self._channels.items():
            for tag, queue in channel.consumers.items():
                while self._queues.get(queue):
                    message = self._queues[queue].popleft()
                    channel.delivered += 1
                    head = _short(tag) + struct.pack(">QB", channel.delivered, 0)
                    self._send(number, _DELIVER, head + _short(message.exchange) + _short(message.key))
                    self._content(number, message)

    def _content(self, number: int, message: _Message) -> None:
        self._frame(_HEADER, number, struct.pack(">HHQ", 60, 0, message.size) + message.properties)
        for at in range(0, message.size, _FRAME_MAX - 8):
            self._frame(_BODY, number, message.body[at : at + _FRAME_MAX - 8])


@contextmanager
def amqp_server() -> Iterator[int]:
    """A broker on loopback with queues that all of its clients share, one after the other; its port."""
    queues: dict[str, deque[_Message]] = {}
    threads: list[tuple[threading.Thread, socket.socket]] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        # The client may go away at any time.
        with connection, suppress(OSError):
            _Connection(connection, queues).serve()

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                thread = threading.Thread(target=serve, args=(connection,))
                threads.append((thread, connection))
                thread.start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for thread, connection in threads:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()
