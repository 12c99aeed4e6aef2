"""One peer's work in a process of its own, started by circuits.py: ``python circuit_peer.py NAME WORK MODEL FOLDER``.

Reads the prompts of FOLDER, writes WORK-NAME.safetensors beside them, and prints the work's seconds of the processor.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import torch
from circuit_peers import read_pairs
from safetensors.torch import save_file


def main(name: str, work: str, model_folder: str, folder: Path) -> None:
    torch.set_num_threads(1)
    peer = importlib.import_module(f"circuit_peers.{name}")
    model = peer.load(model_folder)
    pairs = read_pairs(folder)
    start = time.process_time()
    found = peer.WORKS[work](model, pairs)
    seconds = time.process_time() - start
    save_file({"difference": found.contiguous()}, folder / f"{work}-{name}.safetensors")
    print(json.dumps({"sweep": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
