"""Our reading of forms is the inverse of httpx's writing."""

from __future__ import annotations

import httpx
from hypothesis import given
from hypothesis import strategies as st

from tests.remote.forms import parts


@given(st.binary(max_size=300), st.text(max_size=50))
def test_form(blob, text):
    files = {"blob": ("request", blob, "application/octet-stream")}
    request = httpx.Request("POST", "http://host/request", data={"data": text}, files=files)
    assert parts(request.read(), request.headers["Content-Type"]) == {"data": text.encode(), "blob": blob}
