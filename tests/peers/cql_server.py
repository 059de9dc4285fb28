"""A server that speaks Cassandra's native protocol, version 4, for as much as a client needs to connect and to send statements."""

from __future__ import annotations

import socketserver
import struct
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

_HEADER = struct.Struct(">BBhBI")
_VERSION, _ANSWER = 4, 0x80
_ERROR, _STARTUP, _READY, _OPTIONS, _SUPPORTED, _QUERY, _RESULT, _REGISTER = 0, 1, 2, 5, 6, 7, 8, 11
_VOID, _ROWS = 1, 2
_GLOBAL_TABLE = 1
_PROTOCOL_ERROR, _SYNTAX_ERROR = 0x000A, 0x2000
# Types of columns as options (native protocol v4, section 6).
_INT, _UUID, _TEXT, _INET = b"\x00\x09", b"\x00\x0c", b"\x00\x0d", b"\x00\x10"
_TEXTS = b"\x00\x22" + _TEXT
_LOOPBACK = bytes([127, 0, 0, 1])
_ID = uuid.UUID(int=1).bytes


def _string(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def _bytes(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


# What the driver wants to know of the node that it is connected to.
_LOCAL: dict[str, tuple[bytes, bytes]] = {
    "key": (_TEXT, b"local"),
    "cluster_name": (_TEXT, b"test"),
    "data_center": (_TEXT, b"here"),
    "rack": (_TEXT, b"one"),
    "partitioner": (_TEXT, b"org.apache.cassandra.dht.Murmur3Partitioner"),
    "release_version": (_TEXT, b"3.11.0"),
    "cql_version": (_TEXT, b"3.4.4"),
    "host_id": (_UUID, _ID),
    "schema_version": (_UUID, _ID),
    "rpc_address": (_INET, _LOOPBACK),
    "listen_address": (_INET, _LOOPBACK),
    "broadcast_address": (_INET, _LOOPBACK),
    "tokens": (_TEXTS, struct.pack(">i", 1) + _bytes(b"0")),
}


def _rows(columns: dict[str, tuple[bytes, bytes]], number: int) -> bytes:
    """A result with so many equal rows."""
    head = struct.pack(">iii", _ROWS, _GLOBAL_TABLE, len(columns)) + _string("shop") + _string("items")
    names = b"".join(_string(name) + kind for name, (kind, _) in columns.items())
    row = b"".join(_bytes(value) for _, value in columns.values())
    return head + names + struct.pack(">i", number) + row * number


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while head := self.rfile.read(_HEADER.size):
            version, _, stream, code, length = _HEADER.unpack(head)
            body = self.rfile.read(length)
            answer, payload = _answer(version & 0x7F, code, body)
            self.wfile.write(_HEADER.pack(_ANSWER | _VERSION, 0, stream, answer, len(payload)) + payload)
            self.wfile.flush()


def _answer(version: int, code: int, body: bytes) -> tuple[int, bytes]:
    if version != _VERSION:
        return _ERROR, struct.pack(">i", _PROTOCOL_ERROR) + _string(
            f"Invalid or unsupported protocol version ({version})"
        )
    if code == _OPTIONS:
        options = {"CQL_VERSION": "3.4.4", "COMPRESSION": ""}
        pairs = b"".join(_string(key) + struct.pack(">H", 1) + _string(value) for key, value in options.items())
        return _SUPPORTED, struct.pack(">H", len(options)) + pairs
    if code in (_STARTUP, _REGISTER):
        return _READY, b""
    if code == _QUERY:
        (size,) = struct.unpack_from(">i", body)
        return _query(body[4 : 4 + size].decode())
    return _ERROR, struct.pack(">i", _PROTOCOL_ERROR) + _string(f"unknown opcode {code}")


def _query(statement: str) -> tuple[int, bytes]:
    words = statement.split()
    if "system.local" in statement:
        return _RESULT, _rows(_LOCAL, 1)
    if "system" in statement:
        # There are no other nodes and no tables.
        return _RESULT, _rows(_LOCAL, 0)
    if words[0] == "SELECT":
        return _RESULT, _rows({"value": (_INT, struct.pack(">i", 7))}, 1)
    if words[0] in ("INSERT", "UPDATE", "DELETE"):
        return _RESULT, struct.pack(">i", _VOID)
    return _ERROR, struct.pack(">i", _SYNTAX_ERROR) + _string(f"no viable alternative at input '{words[0]}'")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


@contextmanager
def cql_server() -> Iterator[int]:
    """A node on loopback; its port."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
