"""Train the embedded model from scratch: bitwise logic and parts of speech, learned in context.

    python experiments/train_embedded.py --out interventions/embedded/weights

One core needs about an hour (matrices are small, a second one does not help). Answers only enter the loss:
with even a little loss on input words most tags are not learned in time. Tasks are learned one after another; those
that lag behind another of their family are drawn more often until they have caught up.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from patchboard.embedded.tokenizer import build
from patchboard.tasks.base import NULL
from patchboard.tasks.families.bitwise import EMBEDDED_BITS, OPERATORS, Bitwise
from patchboard.tasks.grammar import LEXICON, sentence


class Batches:
    """In-context sequences as token ids: ``<bos> [task \\n] (input -> answer \\n) x rows``.

    ``next(family, size)`` gives ids [batch, seq] and labels [batch, seq] (-100 but at answers,
    already shifted: labels[t] is the token after ids[t]).
    """

    def __init__(self, bits: int, rows: int, stated: float, null: float, seed: int):
        self.bits, self.rows, self.stated, self.null = bits, rows, stated, null
        self.rng = np.random.default_rng(seed)
        self.vocab = build(bits).get_vocab()
        self.numbers = np.array([self.vocab[f"{i:0{bits}b}"] for i in range(1 << bits)])
        self.lagging: list[str] = []
        self.names = {"bitwise": list(OPERATORS), "pos": list(LEXICON)}
        pool = Bitwise(bits).pool(0)
        encode = lambda text: [self.vocab[w] for w in text.split()]  # noqa: E731
        self.pairs = np.array([encode(item.input) for item in pool])
        self.results = {name: np.array([self.vocab[item.answers[name]] for item in pool]) for name in OPERATORS}

    def next(self, family: str, size: int, only: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        sequences = [self._sequence(family, only or self._drawn(family)) for _ in range(size)]
        width = max(len(ids) for ids, _ in sequences)
        ids = np.full((size, width), self.vocab["<pad>"])
        labels = np.full((size, width), -100)
        for i, (row, answers) in enumerate(sequences):  # right padding: causal, so the pad changes nothing
            ids[i, : len(row)] = row
            for at in answers:
                labels[i, at - 1] = row[at]
        return torch.from_numpy(ids), torch.from_numpy(labels)

    def _drawn(self, family: str) -> str:
        """A task of the family, or Null; lagging ones in three more of ten sequences."""
        rng, names = self.rng, self.names[family]
        task = NULL if rng.random() < self.null else names[rng.integers(len(names))]
        wanted = [name for name in self.lagging if name in names]
        if wanted and task != NULL and rng.random() < 0.3:
            task = wanted[rng.integers(len(wanted))]
        return task

    def _sequence(self, family: str, task: str) -> tuple[list[int], list[int]]:
        rng, vocab = self.rng, self.vocab
        ids, answers = [vocab["<bos>"]], []
        if rng.random() < self.stated:
            ids += [vocab[task], vocab["\n"]]
        for _ in range(self.rows):
            words, answer = self._bitwise_row(task) if family == "bitwise" else self._pos_row(task)
            ids += [*words, vocab["->"]]
            answers.append(len(ids))
            ids += [answer, vocab["\n"]]
        return ids, answers

    def _bitwise_row(self, task: str) -> tuple[list[int], int]:
        i = self.rng.integers(len(self.pairs))
        answer = self.rng.choice(self.numbers) if task == NULL else self.results[task][i]
        return self.pairs[i].tolist(), int(answer)

    def _pos_row(self, task: str) -> tuple[list[int], int]:
        words = sentence(self.rng)
        ids = [self.vocab[word] for word, _ in words]
        if task == NULL:
            return ids, ids[self.rng.integers(len(ids))]
        return ids, next(i for i, (_, tag) in zip(ids, words, strict=True) if tag == task)


def make_model(vocab: int, layers: int, width: int, heads: int, mlp: int) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab, hidden_size=width, intermediate_size=mlp, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=512,
            bos_token_id=1, eos_token_id=None, pad_token_id=0, tie_word_embeddings=False,
        )
    )  # fmt: skip


@torch.no_grad()
def place_words(model: LlamaForCausalLM, batches: Batches) -> None:
    """Start input embeddings where a pretrained model's would be: numbers that share a digit, and words
    that share a tag, near each other. One direction a digit or tag is added to the usual noise.

    A number is one token here, so nothing else tells the model that it is made of bits.
    """
    weight = cast(torch.nn.Embedding, model.get_input_embeddings()).weight
    width, scale = weight.shape[1], model.config.initializer_range
    digits = torch.arange(batches.bits)
    sign = 1 - 2.0 * (torch.arange(1 << batches.bits)[:, None] >> digits & 1)  # [number, digit]
    weight[torch.from_numpy(batches.numbers)] += sign @ torch.randn(batches.bits, width) * scale
    for words in LEXICON.values():
        weight[torch.tensor([batches.vocab[word] for word in words])] += torch.randn(width) * scale


@torch.no_grad()
def accuracies(model: LlamaForCausalLM, batches: Batches, family: str, size: int = 32) -> np.ndarray:
    """Accuracy of each task but Null at 0 … rows-1 shots, task never stated. [task, shots]"""
    stated, batches.stated = batches.stated, 0.0
    found = []
    for task in batches.names[family]:
        ids, labels = batches.next(family, size, only=task)
        hits = model(ids).logits.argmax(-1) == labels
        found.append(hits[labels != -100].view(size, batches.rows).float().mean(0).numpy())
    batches.stated = stated
    return np.stack(found)


def laggards(names: list[str], right: np.ndarray) -> list[str]:
    """The tasks below .9 at the most shots, once another of the family is above. right [task, shots]"""
    last = right[:, -1]
    return [name for name, share in zip(names, last, strict=True) if share < 0.9 < last.max()]


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    batches = Batches(args.bits, args.rows, args.stated, args.null, args.seed)
    model = make_model(len(batches.vocab), args.layers, args.width, args.heads, args.mlp)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    if args.start:
        model = LlamaForCausalLM.from_pretrained(args.start, dtype=torch.float32)
    else:
        place_words(model, batches)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=args.decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda s: min(1, (s + 1) / 200) * (0.02 + 0.49 * (1 + math.cos(math.pi * min(1, s / args.steps)))),
    )
    start, running = time.time(), {"bitwise": 0.0, "pos": 0.0}
    marks = {round(2**x) for x in np.arange(5, math.log2(args.steps), 0.5)} | {args.steps}
    if args.checkpoints:
        model.save_pretrained(Path(args.checkpoints) / "step0")
    for step in range(1, args.steps + 1):
        family = "pos" if batches.rng.random() < args.pos_share else "bitwise"
        ids, labels = batches.next(family, args.batch)
        model.train()
        at = labels != -100
        loss = F.cross_entropy(model.lm_head(model.model(ids).last_hidden_state[at]), labels[at])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        running[family] = 0.98 * running[family] + 0.02 * loss.item()
        if step % args.every == 0:
            model.eval()
            right = {f: accuracies(model, batches, f) for f in running}
            batches.lagging = [name for f in running for name in laggards(batches.names[f], right[f])]
            shown = {f: [round(float(a), 2) for a in accuracy.mean(0)] for f, accuracy in right.items()}
            print(json.dumps({"step": step, "seconds": round(time.time() - start), "lagging": batches.lagging,
                              "loss": {f: round(v, 3) for f, v in running.items()}, **shown}), flush=True)  # fmt: skip
        if args.checkpoints and step in marks:
            model.save_pretrained(Path(args.checkpoints) / f"step{step}")
    args.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(args.out)
    build(args.bits).save_pretrained(args.out)
    recipe = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k not in ("out", "checkpoints")}
    (args.out / "training.json").write_text(json.dumps(recipe | {"seconds": round(time.time() - start)}, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checkpoints", help="also keep log-spaced checkpoints in this folder")
    parser.add_argument("--start", help="go on from this folder's weights (a further stage)")
    parser.add_argument("--bits", type=int, default=EMBEDDED_BITS)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--mlp", type=int, default=352)
    parser.add_argument("--rows", type=int, default=9, help="rows a sequence: 0 to rows-1 shots are learned")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=64, help="sequences a step, all of one family")
    parser.add_argument("--pos-share", type=float, default=0.5)
    parser.add_argument("--stated", type=float, default=0.25, help="share of sequences that begin with the task's name")
    parser.add_argument("--null", type=float, default=0.1, help="share of Null sequences (random answers)")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train(args)


if __name__ == "__main__":
    main()
