"""A loopback stand-in of an NDIF server, in a process of its own: nnsight 0.8's protocol over HTTP and websocket.

    python tests/remote/server.py --model FOLDER [--as meta-llama/Llama-3.1-70B] [--dtype float32|bfloat16]
        [--port 0] [--autocast] [--separate] [--key KEY] [--with-parent]

Prints {"port": N} when ready. Jobs are executed for real, on the model in FOLDER, under the name that it is served as.
Beside NDIF's own addresses: POST /fault {"name", "times", …} (see faults.py), POST /clear, GET /log.
Modules of this folder import each other by their bare names: a host has none of the client's packages.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path

sys.path[:] = [p for p in sys.path if not (Path(p or ".") / "interventions").exists()]
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import anyio._backends._asyncio  # noqa: E402, F401  # before nnsight, which breaks its import

# isort: split
import torch  # noqa: E402
from execution import Host  # noqa: E402
from handler import Server  # noqa: E402


def _end_with_parent() -> None:
    """A test run that is killed leaves no server behind."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--as", dest="repo", default="meta-llama/Llama-3.1-70B")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key")
    for flag in ("autocast", "separate", "with-parent"):
        parser.add_argument(f"--{flag}", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    host = Host(args.model, args.repo, getattr(torch, args.dtype), args.autocast, args.separate)
    server = Server(args.port, host, args.key)
    if args.with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    print(json.dumps({"port": server.server_port}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
