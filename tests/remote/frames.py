"""The server's side of a websocket, for nnsight's blocking client: its handshake, and frames by websocket-client."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
from typing import BinaryIO

from websocket import ABNF
from websocket._abnf import frame_buffer

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


def accept_of(key: str) -> str:
    """What the handshake's answer must carry for a client's Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()


class Connection:
    """An open websocket. Several threads may send; one serves the client's frames."""

    def __init__(self, stream: BinaryIO, sock: socket.socket) -> None:
        self._stream, self._socket = stream, sock
        self._sending = threading.Lock()

    def send(self, message: str) -> None:
        """A text frame; nothing once the client has gone."""
        self._send(ABNF.OPCODE_TEXT, message.encode())

    def cut(self) -> None:
        """End it as a cut line would, without a closing frame."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client was quicker

    def serve(self) -> None:
        """Answer pings until the client closes or goes away."""
        frames = frame_buffer(self._read, skip_utf8_validation=True)
        try:
            while (found := frames.recv_frame()).opcode != ABNF.OPCODE_CLOSE:
                if found.opcode == ABNF.OPCODE_PING:
                    self._send(ABNF.OPCODE_PONG, found.data)
            self._send(ABNF.OPCODE_CLOSE, found.data)
        except (EOFError, OSError):
            pass

    def _read(self, count: int) -> bytes:
        data = self._stream.read(count)
        if not data:
            raise EOFError
        return data

    def _send(self, opcode: int, payload: bytes) -> None:
        with self._sending:
            try:
                self._socket.sendall(ABNF(fin=1, opcode=opcode, mask_value=0, data=payload).format())
            except OSError:
                pass  # a client that went away is no fault of the job
