"""Does the W&B host answer at all? Asked before wandb is, which would wait for minutes."""

from __future__ import annotations

from threading import Thread
from urllib.parse import urlsplit

CONNECT, ANSWER, ALL = 2.0, 3.0, 6.0
"""Seconds: to connect, to the first byte of an answer, and to give up whatever it hangs in (a name server, say)."""


def unreachable(url: str) -> str:
    """Why nothing answers at the URL, in some words; empty where something does, whatever its answer is.

    By ``requests``, as wandb itself, so that proxies and certificates count as they do there. Takes ALL at most.
    """
    reasons: list[str] = []
    asking = Thread(target=lambda: reasons.append(_why_unreachable(url)), daemon=True)
    asking.start()
    asking.join(ALL)
    host = urlsplit(url).hostname or url
    if not reasons:
        return f"{host} did not answer within {ALL:g} s"
    return f"{host} {reasons[0]}" if reasons[0] else ""


def _why_unreachable(url: str) -> str:
    import requests

    try:
        requests.get(url, timeout=(CONNECT, ANSWER), allow_redirects=False, stream=True).close()
    except requests.exceptions.SSLError:
        return "has a certificate that is not trusted here"
    except requests.exceptions.ProxyError:
        return "is not reached through the proxy"
    except requests.exceptions.Timeout:
        return "did not answer in time"
    except requests.exceptions.ConnectionError:
        return "cannot be reached"
    except (requests.exceptions.RequestException, ValueError):
        return "is no address that can be asked"
    return ""
