"""A server that speaks MongoDB's wire protocol (``OP_MSG``) and keeps documents in memory, for as much as a client needs to insert and find them."""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

# It comes with the client, without which there is nothing to serve.
with suppress(ImportError):
    import bson

_HEADER = struct.Struct("<iiii")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
# As of MongoDB 4.2 to 7.0.
_WIRE_VERSIONS = {"minWireVersion": 0, "maxWireVersion": 21}
_BAD_VALUE = 2


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        while head := self.rfile.read(_HEADER.size):
            length, request, _, code = _HEADER.unpack(head)
            body = self.rfile.read(length - _HEADER.size)
            if code == _OP_QUERY:
                # Flags, name and two numbers stand before the document; only greetings come this way.
                start = body.index(b"\0", 4) + 9
                payload = struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(self.server.answer(bson.decode(body[start:])))
                self._send(request, _OP_REPLY, payload)
            elif code == _OP_MSG:
                self._send(request, _OP_MSG, b"\0\0\0\0\0" + bson.encode(self.server.answer(_document(body))))

    def _send(self, request: int, code: int, payload: bytes) -> None:
        self.wfile.write(_HEADER.pack(_HEADER.size + len(payload), 0, request, code) + payload)
        self.wfile.flush()


def _document(body: bytes) -> dict[str, Any]:
    """The sections of a message as one document: that of kind 0, and sequences under their names."""
    document: dict[str, Any] = {}
    at = 4
    while at < len(body):
        kind, at = body[at], at + 1
        (size,) = struct.unpack_from("<i", body, at)
        if kind == 0:
            document = {**bson.decode(body[at : at + size]), **document}
        else:
            name, _, documents = body[at + 4 : at + size].partition(b"\0")
            document[name.decode()] = bson.decode_all(documents)
        at += size
    return document


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._documents: list[dict[str, Any]] = []

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        name = next(iter(command))
        if name.lower() in ("hello", "ismaster"):
            return {"ok": 1, "isWritablePrimary": True, "ismaster": True, "helloOk": True, **_WIRE_VERSIONS}
        if name == "insert":
            self._documents += command["documents"]
            return {"ok": 1, "n": len(command["documents"])}
        if name == "find":
            batch = {"id": 0, "ns": f"{command['$db']}.{command['find']}", "firstBatch": self._documents}
            return {"ok": 1, "cursor": batch}
        if name in ("ping", "endSessions"):
            return {"ok": 1}
        return {"ok": 0, "errmsg": f"no such command: {name}", "code": _BAD_VALUE, "codeName": "BadValue"}


@contextmanager
def mongo_server() -> Iterator[int]:
    """A server on loopback; its port."""
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
