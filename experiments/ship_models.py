"""Training checkpoints of the embedded vocabulary as small folders that load by themselves: bfloat16, with tokenizer.

python experiments/ship_models.py experiments/models/checkpoints runs/training/step128 runs/training/step5000

The other steps from the training to the pages: CONTRIBUTING.md.
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from patchboard.embedded.tokenizer import build


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for the folders")
    parser.add_argument("folders", type=Path, nargs="+", help="as train_embedded.py --checkpoints leaves them")
    args = parser.parse_args()
    for folder in args.folders:
        # half the size; weights rounded to 8 bits of mantissa move accuracies by far less than their intervals
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        model.save_pretrained(args.out / folder.name)
        build().save_pretrained(args.out / folder.name)


if __name__ == "__main__":
    main()
