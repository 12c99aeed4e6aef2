"""The identity of a run: a hash of what its resolved spec says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def digest_of(tree: Mapping[str, Any]) -> str:
    """sha256 hex of the resolved tree's canonical JSON (sorted keys, lists in order), without ``name`` and ``plugins``.

    Where plug-ins lie says nothing of what they hold: that is told by their sources' own digests, in the manifest.

    Resolved trees spell a meaning in one way, so specs that mean the same have the same digest.
    """
    science = {key: value for key, value in tree.items() if key not in ("name", "plugins")}
    text = json.dumps(science, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # a lone surrogate can come from a YAML escape; it has no UTF-8, but must not stop the run
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
