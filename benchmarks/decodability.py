"""States for all numbers of shots and all layers: one pass a prompt, against one pass a number of shots.

    python benchmarks/decodability.py
    python benchmarks/decodability.py --json --shots 8

In one prompt of K demonstrations the state before the i-th demonstration's answer is the state of the prompt of
i demonstrations, so ``LocalEngine.decode`` reads all K + 1 from one pass. By hand it is K + 1 passes of
prompts that grow. Those are shorter, so the passes' number, K + 1, is out of reach: ``bound`` is the
quotient of their token-layers, about K / 2 + 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import timing
import torch
import workload
from torch import Tensor

from patchboard.engine.local import LocalEngine
from patchboard.plan.model import Decoding
from patchboard.spec.sections import DecodabilitySection
from patchboard.tasks.prompt import Prompt

SHOTS = (4, 8, 16)
LABEL = "random"


def demonstrations(count: int, shots: int, row: int, vocab: int, seed: int = 0) -> tuple[Prompt, ...]:
    """Prompts of random ids: ``shots`` rows of ``row`` tokens, each its input, an answer of one token and a
    separator, and then the query's input."""
    assert row >= 3, "a row is an input, an answer and a separator"
    generator = torch.Generator().manual_seed(seed)
    length = (shots + 1) * row - 2  # the query ends before its answer
    before = tuple(i * row + row - 3 for i in range(shots))
    positions = {"last": (length - 1,), "before_answers": before, "all": tuple(range(length))}
    answers = tuple((at + 1,) for at in before)
    ids = torch.randint(2, vocab, (count, length + 1), generator=generator).tolist()
    return tuple(Prompt(LABEL, "", "", tuple(r[:-1]), (r[-1],), positions, answers) for r in ids)


def lengths(prompt: Prompt) -> list[int]:
    """Tokens of the prompt of 0, 1, … demonstrations."""
    return [at + 1 for at in (*prompt.positions["before_answers"], prompt.last)]


@dataclass(frozen=True)
class Found:
    """states [prompt, layer, shots, d_model], float32; right [prompt, shots]: is the argmax the answer?"""

    states: Tensor
    right: np.ndarray


@torch.no_grad()
def by_hand(model: Any, prompts: tuple[Prompt, ...]) -> Found:
    """One pass a number of shots, all prompts in its batch; transformers' own hidden states.

    Its last entry is behind the final norm, so the last block's output is hooked.
    """
    ids = torch.tensor([p.token_ids + p.answer_ids for p in prompts], device=model.device)
    kept: list[Tensor] = []
    last = model.model.layers[-1]
    handle = last.register_forward_hook(lambda _, __, out: kept.append(out[0] if isinstance(out, tuple) else out))
    states, right = [], []
    try:
        for length in lengths(prompts[0]):
            output = model(ids[:, :length], use_cache=False, output_hidden_states=True, logits_to_keep=1)
            hidden = (*output.hidden_states[1:-1], kept.pop())
            states.append(torch.stack([h[:, -1].float() for h in hidden], 1).cpu())
            right.append((output.logits[:, -1].argmax(-1) == ids[:, length]).cpu())
    finally:
        handle.remove()
    return Found(torch.stack(states, 2), torch.stack(right, 1).numpy().astype(float))


def ours(engine: LocalEngine, prompts: tuple[Prompt, ...]) -> Found:
    """The library's way: one pass a prompt."""
    shots = list(range(len(prompts[0].demo_answers) + 1))
    decoding = Decoding("random", DecodabilitySection(k=1, prompts=len(prompts), shots=shots), {LABEL: prompts}, ())
    kept: list[torch.Tensor] = []
    right, _ = engine.decode(decoding, kept.append)
    return Found(torch.cat(kept), right)


def measure(engine: LocalEngine, shots: int, args: argparse.Namespace) -> dict[str, Any]:
    """One row of the result."""
    prompts = demonstrations(args.prompts, shots, args.row, args.vocab)
    one, loop = ours(engine, prompts), by_hand(engine.module, prompts)
    rivals = {"one_pass": lambda: ours(engine, prompts), "pass_a_shot": lambda: by_hand(engine.module, prompts)}
    seconds = timing.medians(rivals, args.repeats, engine.device)
    return {
        "shots": shots,
        "ratio": timing.ratio(seconds["pass_a_shot"], seconds["one_pass"]),
        "bound": round(sum(lengths(prompts[0])) / len(prompts[0].token_ids), 3),
        "passes": shots + 1,
        "largest_difference": (one.states - loop.states).abs().max().item(),
        "largest_state": loop.states.abs().max().item(),
        "accuracy_differs": int((one.right != loop.right).sum()),
        "tokens": len(prompts[0].token_ids),
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
    }


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shots", type=int, help="only this number of demonstrations")
    parser.add_argument("--row", type=int, default=8, help="tokens a demonstration")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--vocab", type=int, default=1000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--repeats", type=int, default=3, help="rounds; the median counts")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser.parse_args(argv)


def main() -> None:
    args = arguments()
    timing.one_thread()
    device = torch.device(args.device)
    with contextlib.redirect_stdout(sys.stderr):  # libraries print; standard output is the result's
        model = workload.random_llama(args.layers, args.width, args.vocab, device, getattr(torch, args.dtype))
        engine = LocalEngine(model, workload.tokenizer())
        points = [measure(engine, shots, args) for shots in ((args.shots,) if args.shots else SHOTS)]
    if args.json:
        result = {"benchmark": "decodability", "machine": timing.machine(device), "repeats": args.repeats}
        print(json.dumps(result | {"points": points} | (points[0] if len(points) == 1 else {})))
        return
    print("shots  tokens  ratio  bound  of bound   differ")
    for p in points:
        print(
            f"{p['shots']:>5}  {p['tokens']:>6}  {p['ratio']:>5.2f}  {p['bound']:>5.2f}"
            f"  {p['ratio'] / p['bound']:>8.2f}  {p['largest_difference']:.1e}"
        )


if __name__ == "__main__":
    main()
