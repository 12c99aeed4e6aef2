"""On paper: what a study of a 70B model takes as a loop written by hand, and what it takes here.

    python benchmarks/scale.py
    python benchmarks/scale.py --tokens 512 --tflops 200 --json

Nothing is run and no weights are needed: the library's own plan counts packs, tokens and token-layers, and
floating-point operations follow from the configuration. Two for each multiply and add: per token and
block 2 x (the block's matrices), plus 4 x heads x head_dim x keys for attention, plus 2 x width x vocab for
each distribution read. keys: half the sequence for a clean pass, whose kernel skips what is masked, and
all of it for packed sequences, whose mask is explicit.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import workload

from patchboard.plan.cost import cost_of
from patchboard.plan.facts import ModelFacts
from patchboard.plan.model import Group
from patchboard.plan.packing import lay_out
from patchboard.plan.packs import Budget, packs_of

LLAMA_3_1_70B = {
    # config.json of meta-llama/Llama-3.1-70B on the Hub
    "num_hidden_layers": 80,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
CONDITIONS, TASKS, QUERIES = 7, 7, 100
WAYS = ("loop", "wavefront")


@dataclass(frozen=True)
class Shape:
    """A configuration's sizes, and the operations that follow from them."""

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    vocab: int

    @property
    def block(self) -> int:
        """Parameters of one block's matrices: query and output, key and value, the gated MLP's three."""
        return self.width * (2 * self.width + 2 * self.width * self.kv_heads // self.heads + 3 * self.inner)

    @property
    def parameters(self) -> int:
        """All of them: blocks, their two norms, embedding, head, final norm."""
        return self.layers * (self.block + 2 * self.width) + 2 * self.width * self.vocab + self.width

    def flops(self, token_layers: float, pairs: float, reads: int) -> float:
        """pairs: (token, key) pairs over all blocks, those that the kernel computes."""
        return 2 * self.block * token_layers + 4 * self.width * pairs + 2 * self.width * self.vocab * reads


def shape_of(config: dict[str, int]) -> Shape:
    return Shape(
        config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"],
        config["num_attention_heads"], config["num_key_value_heads"], config["vocab_size"],
    )  # fmt: skip


def counted(group: Group, facts: ModelFacts, way: str, budget: Budget) -> dict[str, float]:
    """Forwards, tokens, token-layers, attention pairs and reads of one group.

    Its prompts have one shape, so one row of each kind of pack is laid out and multiplied.
    """
    prompts, cells = len(group.prompts), len(group.copies)
    length = len(group.prompts[0].token_ids)
    if way == "loop":  # the clean run is a cell as well
        tokens = prompts * cells * length
        pairs = tokens * facts.layers * (length + 1) / 2
        return {
            "forwards": prompts * cells, "tokens": tokens, "token_layers": tokens * facts.layers, "pairs": pairs,
            "reads": prompts * cells,
        }  # fmt: skip
    total: Counter[str] = Counter()
    rows: Counter[tuple[int, ...]] = Counter()
    for pack in packs_of(group, facts, way, budget):
        rows[pack.copies] += len(pack.prompts)
        total["forwards"] += 1
    for copies, count in rows.items():
        layout = lay_out(group.prompts[:1], [-1], [group.copies[c] for c in copies], way)  # type: ignore[arg-type]
        widths = [layout.first_width] * facts.layers
        for join in layout.joins:
            widths[join.layer :] = [join.stop] * (facts.layers - join.layer)
        total["tokens"] += count * layout.computed_tokens
        total["token_layers"] += count * layout.token_layers(facts.layers)
        total["pairs"] += count * sum(width**2 for width in widths)
        total["reads"] += count * (len(copies) + 1)
    return dict(total)


def compared(shape: Shape, args: argparse.Namespace) -> dict[str, Any]:
    """EngineKind -> its counts over all tasks, operations, hours."""
    prompts = workload.random_prompts(1, args.tokens, shape.vocab) * args.queries
    cells = [(layer, c) for layer in range(shape.layers) for c in range(args.conditions)]
    group = workload.group_of(prompts, cells)
    facts = ModelFacts("llama", shape.layers, shape.width, shape.vocab, shape.inner)
    budget = Budget()
    found: dict[str, Any] = {}
    for way in WAYS:
        one = counted(group, facts, way, budget)
        total = {name: value * args.tasks for name, value in one.items()}
        flops = shape.flops(total["token_layers"], total.pop("pairs"), int(total.pop("reads")))
        found[way] = total | {"flops": flops, "hours": flops / (args.tflops * 1e12) / 3600}
    bound = cost_of(workload.plan_of(group, facts), "wavefront", budget).bound * args.tasks
    for way in WAYS:
        found[way]["of_bound"] = found[way]["token_layers"] / bound
        found[way]["loop_over"] = found["loop"]["flops"] / found[way]["flops"]
    # a loop sends a request a layer and condition if its queries share a batch, else one a pass
    requests = {
        "loop, a batch of queries each": args.tasks * (len(cells) + 1),
        "loop, a query each": int(found["loop"]["forwards"]),
        "packs": int(found["wavefront"]["forwards"]),
    }
    return {"ways": found, "bound_token_layers": bound, "requests": requests}


def duration(hours: float) -> str:
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"


def table(result: dict[str, Any]) -> str:
    lines = ["way           forwards         tokens    token-layers     PFLOP  loop over  of bound  time"]
    for way, row in result["ways"].items():
        lines.append(
            f"{way:<10} {int(row['forwards']):>11,} {int(row['tokens']):>14,} {int(row['token_layers']):>15,}"
            f" {row['flops'] / 1e15:>9,.0f} {row['loop_over']:>9.1f}x {row['of_bound']:>9.2f}  {duration(row['hours'])}"
        )
    lines.append("requests to a host: " + "; ".join(f"{name}: {n:,}" for name, n in result["requests"].items()))
    return "\n".join(lines)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=128, help="tokens a prompt")
    parser.add_argument("--conditions", type=int, default=CONDITIONS, help="cells a layer")
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--queries", type=int, default=QUERIES, help="prompts a task")
    parser.add_argument("--tflops", type=float, default=400.0, help="effective: 40 %% of one H100 in bfloat16")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser.parse_args(argv)


def main() -> None:
    args = arguments()
    shape = shape_of(LLAMA_3_1_70B)
    result = compared(shape, args)
    if args.json:
        asked = {name: value for name, value in vars(args).items() if name != "json"}
        print(json.dumps({"benchmark": "scale", "config": LLAMA_3_1_70B, **asked, **result}))
        return
    print(
        f"{shape.parameters / 1e9:.1f}B parameters, {shape.layers} layers x {args.conditions} conditions x {args.tasks}"
        f" tasks x {args.queries} queries of {args.tokens} tokens, {args.tflops:g} TFLOP/s effective\n{table(result)}"
    )


if __name__ == "__main__":
    main()
