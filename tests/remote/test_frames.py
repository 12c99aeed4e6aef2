"""Our frames are websocket-client's, both ways, and our forms are httpx's."""

from __future__ import annotations

import io

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websocket._abnf import ABNF, frame_buffer

from tests.remote.forms import parts
from tests.remote.frames import BINARY, TEXT, accept_of, frame, read_frame

SIZES = (0, 1, 125, 126, 127, 65535, 65536, 70000)
"""On both sides of where the length takes another form."""


@pytest.mark.parametrize("size", SIZES)
def test_lengths(size):
    check(bytes(range(256)) * (size // 256) + bytes(size % 256))


@given(st.binary(max_size=300))
def test_contents(payload):
    check(payload)


def check(payload: bytes) -> None:
    stream = io.BytesIO(frame(BINARY, payload))
    read = frame_buffer(stream.read, skip_utf8_validation=True).recv_frame()
    assert (read.fin, read.opcode, read.data) == (1, BINARY, payload)
    masked = ABNF.create_frame(payload, ABNF.OPCODE_BINARY).format()
    assert read_frame(io.BytesIO(masked)) == (BINARY, payload)
    assert read_frame(io.BytesIO(masked[:-1])) is None  # a connection that ended in mid-frame


def test_handshake():
    assert accept_of("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, section 1.3
    assert frame(TEXT, b"Hello") == bytes([0x81, 0x05]) + b"Hello"  # section 5.7


@given(st.binary(max_size=300), st.text(max_size=50))
def test_form(blob, text):
    files = {"blob": ("request", blob, "application/octet-stream")}
    request = httpx.Request("POST", "http://host/request", data={"data": text}, files=files)
    assert parts(request.read(), request.headers["Content-Type"]) == {"data": text.encode(), "blob": blob}
