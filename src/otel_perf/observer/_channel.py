"""What an application and its observer process say to each other: lines of JSON over a socket pair that only those two have.

| from the application | |
|---|---|
| `hello` | the first message: resource, exporters and working directory |
| `collected` | the callbacks of the collection with this number have reported |
| `ask` | a question with a number: `method` of the observer, `arguments` |
| `bye` | the application is about to end in the ordinary way |

| from the observer | |
|---|---|
| `attached` | it reads the segment; the application gives leadership up |
| `readers` | what its readers prefer |
| `collect` | the application is to run its callbacks now; the number comes back in `collected` |
| `log` | level and text of a log line |
| `answer` | to the question with this number: `error`, or a `piece` of the value's JSON and how many are `left` |

Each packet is a piece of a line, so that messages of several threads do not mix as long as they are short.
"""

from __future__ import annotations

import json
from _socket import AF_UNIX, MSG_DONTWAIT, SOCK_SEQPACKET, socketpair
from base64 import b64decode, b64encode
from collections.abc import Mapping
from select import POLLOUT, poll

# At import and not when it is used: gevent and eventlet replace the class, and a green socket belongs to the thread that made it.
from socket import socket
from typing import Any

_PACKET = 65_536
"""Bytes of a packet, far below what a socket buffer takes."""


class Channel:
    """One end of the connection. What is said never waits for the other side, unless told how long.

    Args:
        connection: A connected socket that keeps the boundaries of packets.
    """

    def __init__(self, connection: socket) -> None:
        self._connection = connection
        self._heard = b""

    @staticmethod
    def pair() -> tuple[Channel, Channel]:
        """Makes both ends; neither is inherited by a program that is executed.

        Raises:
            OSError: There are no descriptors left.
        """
        ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        return Channel(socket(fileno=ours.detach())), Channel(socket(fileno=theirs.detach()))

    def fileno(self) -> int:
        """Descriptor of the socket."""
        return self._connection.fileno()

    def say(self, *, wait_s: float = 0.0, **message: Any) -> bool:
        """Sends a message.

        Args:
            wait_s: Seconds to wait for room where the other side does not listen.
            **message: What to say; JSON.

        Returns:
            Whether it was sent. What the other side is too busy for, or has ended before, is lost.
        """
        line = json.dumps(message, default=str).encode() + b"\n"
        try:
            for at in range(0, len(line), _PACKET):
                self._send(line[at : at + _PACKET], wait_s)
        except OSError:
            return False
        return True

    def _send(self, packet: bytes, wait_s: float) -> None:
        try:
            self._connection.send(packet, MSG_DONTWAIT)
        except BlockingIOError:
            if wait_s <= 0:
                raise
            room = poll()
            room.register(self.fileno(), POLLOUT)
            room.poll(wait_s * 1000)
            self._connection.send(packet, MSG_DONTWAIT)

    def hear(self) -> dict[str, Any] | None:
        """Waits for the next message.

        Returns:
            The message; None when the other side has ended, however it did.
        """
        while True:
            try:
                packet = self._connection.recv(_PACKET)
            except OSError:
                return None
            if not packet:
                return None
            self._heard += packet
            if not packet.endswith(b"\n"):
                continue
            line, self._heard = self._heard, b""
            try:
                message = json.loads(line)
            except ValueError:
                # The rest of a message that could not be sent to its end.
                continue
            if isinstance(message, dict):
                return message

    def close(self) -> None:
        """Closes this end."""
        self._connection.close()


def written(value: Any) -> Any:
    """An attribute value as JSON: what JSON has not, bytes and mappings, is an object with the type's name."""
    if isinstance(value, bytes):
        return {"bytes": b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {"mapping": {key: written(item) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [written(item) for item in value]
    return value


def read(value: Any) -> Any:
    """The attribute value that `written` made JSON of; sequences are lists."""
    if isinstance(value, list):
        return [read(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "bytes" in value:
        return b64decode(value["bytes"])
    return {key: read(item) for key, item in value["mapping"].items()}
