"""The server's side of a websocket (RFC 6455): handshake and frames, as far as nnsight's client needs them."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading
from typing import BinaryIO

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


def accept_of(key: str) -> str:
    """What the handshake's answer must carry for a client's Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()


def frame(opcode: int, payload: bytes) -> bytes:
    """One final frame; a server's frames are not masked."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 127, size)
    return head + payload


def read_frame(stream: BinaryIO) -> tuple[int, bytes] | None:
    """The next frame of a client, unmasked; None where the connection ended."""

    def take(count: int) -> bytes:
        data = stream.read(count)
        if len(data) < count:
            raise EOFError
        return data

    try:
        first, second = take(2)
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(take(2 if size == 126 else 8), "big")
        mask = take(4) if second & 0x80 else b"\0\0\0\0"
        payload = take(size)
    except (EOFError, OSError):
        return None
    return first & 0xF, bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


class Connection:
    """An open websocket. Several threads may send; one serves the client's frames."""

    def __init__(self, stream: BinaryIO, sock: socket.socket) -> None:
        self._stream, self._socket = stream, sock
        self._sending = threading.Lock()
        self.silent = False

    def send(self, message: str | bytes) -> None:
        """A text frame for str, a binary one for bytes. Nothing while silent, or once the client has gone."""
        if self.silent:
            return
        text = isinstance(message, str)
        self._send(TEXT if text else BINARY, message.encode() if isinstance(message, str) else message)

    def close(self, abrupt: bool = False) -> None:
        """Close from our side: with a closing frame, or (abrupt) as a cut line would."""
        if not abrupt:
            self._send(CLOSE, struct.pack("!H", 1000))
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client was quicker

    def serve(self) -> None:
        """Answer pings until the client closes or goes away."""
        while (found := read_frame(self._stream)) is not None:
            opcode, payload = found
            if opcode == CLOSE:
                self._send(CLOSE, payload)
                return
            if opcode == PING:
                self._send(PONG, payload)

    def _send(self, opcode: int, payload: bytes) -> None:
        with self._sending:
            try:
                self._socket.sendall(frame(opcode, payload))
            except OSError:
                pass  # a client that went away is no fault of the job
