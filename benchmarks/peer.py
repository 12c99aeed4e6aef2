"""One peer's sweep in a process of its own, started by real_model.py: ``python peer.py NAME MODEL FOLDER``.

Reads the batches of FOLDER, writes NAME.safetensors beside them, and prints the sweep's seconds of the processor.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import peers
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer


def main(name: str, model_folder: str, folder: Path) -> None:
    torch.set_num_threads(1)
    peer = importlib.import_module(f"peers.{name}")
    tokenizer = AutoTokenizer.from_pretrained(model_folder, padding_side="left")
    model = peer.load(model_folder)
    batches = peers.read_batches(folder)
    start = time.process_time()
    found = {}
    for batch in batches:
        logprobs, right = peers.outcomes(peer.last_logits(model, tokenizer, batch), tokenizer, batch)
        found |= {f"{batch.task}/logprob": logprobs, f"{batch.task}/right": right}
    seconds = time.process_time() - start
    save_file(found, folder / f"{name}.safetensors")
    print(json.dumps({"sweep": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
