"""The fields of a multipart form, as httpx sends them."""

from __future__ import annotations


def parts(body: bytes, content_type: str) -> dict[str, bytes]:
    """name -> content. Raises KeyError, IndexError or ValueError for what is no such form."""
    boundary = b"--" + content_type.partition("boundary=")[2].strip('"').encode()
    found = {}
    for part in body.split(boundary)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        found[head.decode().split('name="')[1].split('"')[0]] = content.removesuffix(b"\r\n")
    return found
