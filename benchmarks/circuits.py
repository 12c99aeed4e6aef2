"""Activation and path patching: this library beside plain hooks, pyvene and TransformerLens.

    pip install pyvene transformer-lens                # peers; those that are absent are left out
    python benchmarks/circuits.py --every 10           # peers on every 10th layer: a quarter of an hour of one core
    python benchmarks/circuits.py --works heads        # peers on every layer, one work alone

The prompts are circuits.yaml's (indirect object identification), the source of each is the prompt with its two names
exchanged. The works: ``positions``, the source's state of one token before one block; ``heads``, its output of one head
at all tokens; ``logits``, paths from a head's last token to the last block's output; ``movers``, such paths to the
queries of --receivers. Everybody runs in processes of its own on one thread, in turn in each round. Seconds are the
processor's: of the whole process, imports and loading included, and of the sweep alone (ours: packs and measuring). The
largest difference is of the logit differences of all queries and cells that the peers run, from plain hooks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timing
import torch
from circuit_peers import Pairs, write_pairs
from real_model import Taken, child, run_ours
from safetensors.torch import load_file
from torch import Tensor

import patchboard as pb
from patchboard.engine.load import open_model
from patchboard.engine.source import source_of
from patchboard.plan.build import build_plans
from patchboard.spec import Study, load_study, study_of
from patchboard.spec.yaml_text import dump_yaml

HERE = Path(__file__).parent
SPEC = HERE / "circuits.yaml"
HOOKS = "hooks"
"""By hand; what all are held against."""
PEERS = {HOOKS: "torch", "pyvene": "pyvene", "transformer_lens": "transformer_lens"}
"""Module in circuit_peers -> what must be installed for it."""
WORKS = {
    "positions": (HOOKS, "pyvene", "transformer_lens"),
    "heads": (HOOKS, "pyvene", "transformer_lens"),
    "logits": (HOOKS,),
    "movers": (HOOKS,),
}
"""Work -> who does it."""


def intervention_of(work: str, tokens: int, receivers: list[list[int]]) -> dict[str, Any]:
    """The work as a section of ``interventions``. tokens: of each prompt."""
    if work == "positions":
        every = {"sweep": list(range(tokens))}
        return {"op": "patch", "source": "flip", "site": "resid_pre", "layers": "all", "position": every}
    if work == "heads":
        return {"op": "patch", "source": "flip", "site": "head", "layers": "all", "heads": "all", "position": "all"}
    sender = {"site": "head", "layers": "all", "heads": "all", "position": "last"}
    to = {"site": "resid_post", "position": "last"}
    if work == "movers":
        sender["layers"] = f"0:{max(layer for layer, _ in receivers)}"
        to = {"site": "q", "heads": receivers, "position": "last"}
    return {"op": "path", "source": "flip", "sender": sender, "receivers": [to], "frozen": "heads"}


def pairs_of(study: Study, every: int, receivers: list[list[int]]) -> Pairs:
    """The study's prompts as the peers are given them; exits where they have unequal numbers of tokens."""
    probe = {"probe": {"op": "patch", "source": "flip", "layers": [0]}}
    (plan,) = build_plans(study_of({**study.tree, "interventions": probe}), open_model)
    (group,) = plan.groups
    base = [list(prompt.token_ids) for prompt in group.prompts]
    source = [list(prompt.sources["flip"].token_ids) for prompt in group.prompts]
    if len({len(ids) for ids in (*base, *source)}) > 1:
        sys.exit("error: prompts of unequal numbers of tokens in this model's vocabulary, which the peers do not pad")
    layers = list(range(0, plan.facts.layers, every))
    answers = [prompt.answer_ids[0] for prompt in group.prompts]
    return Pairs(base, source, answers, list(group.foils), layers, plan.facts.heads, receivers)


def our_differences(run: pb.Run, work: str, pairs: Pairs) -> Tensor:
    """[cell, query] of the cells that the peers run, in their order."""
    place = "interventions.positions.position" if work == "positions" else "head"
    rows = run.outcomes.filter(metric="logit_difference", control="").select("layer", place, "query", "patched")
    values = {(layer, int(n), query): value for layer, n, query, value in rows.iter_rows()}
    queries = sorted({query for *_, query in values})
    return torch.tensor([[values[layer, n, q] for q in queries] for layer, n in pairs.cells(work)])


def measured(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Each work's seconds over the rounds, their medians, ratios over ours, passes, and differences from hooks."""
    study = load_study(SPEC, {"model.name": args.model, "prompts.queries": args.queries})
    pairs = pairs_of(study, args.every, args.receivers)
    model, _ = source_of(study.points[0].spec.model)
    write_pairs(pairs, folder)
    works = {}
    for work in args.works:
        section = intervention_of(work, len(pairs.base[0]), args.receivers)
        spec = folder / f"{work}.yaml"
        tree = {**study.tree, "interventions": {work: section}}
        spec.write_text(dump_yaml(tree), encoding="utf-8")
        names = ["patchboard", *(name for name in WORKS[work] if find_spec(PEERS[name]))]
        works[work] = _of_work(args, work, names, spec, str(model), folder, pairs)
    return {
        "benchmark": "circuits", "machine": timing.machine(torch.device("cpu")), "repeats": args.repeats,
        "model": args.model, "every": args.every, "queries": len(pairs.base), "tokens": len(pairs.base[0]),
        "works": works,
    }  # fmt: skip


def _of_work(
    args: argparse.Namespace, work: str, names: list[str], spec: Path, model: str, folder: Path, pairs: Pairs
) -> dict[str, Any]:
    taken: dict[str, list[Taken]] = {name: [] for name in names}
    out, scale = folder / work, 1.0
    for _ in range(args.repeats):
        for name in names:
            if name == "patchboard":
                taken[name].append(run_ours(spec, out, []))
                cells = pb.open(out).manifest["cost"][0]["cells"]
                scale = cells / len(pairs.cells(work))
            else:
                command = [sys.executable, str(HERE / "circuit_peer.py"), name, work, model, str(folder)]
                printed, worked, clock = child(command)
                sweep = json.loads(printed.splitlines()[-1])["sweep"]
                taken[name].append(Taken(worked, sweep, clock).scaled(scale))
            print(f"{work}, {name}: {taken[name][-1]}", file=sys.stderr, flush=True)
    run = pb.open(out)
    found = {"patchboard": our_differences(run, work, pairs)}
    for name in names[1:]:
        found[name] = load_file(folder / f"{work}-{name}.safetensors")["difference"].double()
    medians = {
        name: {part: statistics.median(getattr(one, part) for one in all_) for part in ("whole", "sweep")}
        for name, all_ in taken.items()
    }
    ours = medians["patchboard"]
    return {
        "seconds": medians, "cost": run.manifest["cost"][0],
        "over_ours": {name: {part: timing.ratio(of[part], ours[part]) for part in of} for name, of in medians.items()},
        "difference": {name: (values - found[HOOKS]).abs().max().item() for name, values in found.items()},
        "literal_passes": literal_passes(work, run.manifest["cost"][0]["cells"]),
    }  # fmt: skip


def literal_passes(work: str, cells: int) -> int:
    """Of hooks, a batch: the source once and one a cell; of paths both prompts once and two a cell."""
    return 1 + cells if work in ("positions", "heads") else 2 + 2 * cells


def table(result: dict[str, Any]) -> str:
    """Medians and ratios, a line each."""
    lines = [f"{'':30}{'process':>9}{'ours=1':>8}{'sweep':>9}{'ours=1':>8}{'logits':>9}{'passes':>8}"]
    for work, of in result["works"].items():
        for name, seconds in of["seconds"].items():
            over = of["over_ours"][name]
            passes = of["cost"]["forwards"] if name == "patchboard" else of["literal_passes"] if name == HOOKS else ""
            lines.append(
                f"{work + ', ' + name:30}{seconds['whole']:8.1f}s{over['whole']:8.2f}{seconds['sweep']:8.1f}s"
                f"{over['sweep']:8.2f}{of['difference'][name]:9.1e}{passes:>8}"
            )
    return "\n".join(lines)


def pairs_of_numbers(text: str) -> list[list[int]]:
    """``23.3,29.1`` -> [[23, 3], [29, 1]]"""
    return [[int(number) for number in each.split(".")] for each in text.split(",")]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="a packaged model, or a folder; of the Llama family")
    parser.add_argument("--queries", type=int, default=16)
    parser.add_argument("--every", type=int, default=1, help="peers run every so many layers, and are scaled up")
    parser.add_argument("--receivers", type=pairs_of_numbers, default=[[23, 3], [29, 1]], metavar="L.H,L.H")
    parser.add_argument("--works", nargs="*", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--repeats", type=int, default=1, help="rounds; the median counts")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser.parse_args(argv)


def main() -> None:
    args = arguments()
    with tempfile.TemporaryDirectory() as folder:
        result = measured(args, Path(folder))
    print(json.dumps(result) if args.json else table(result))


if __name__ == "__main__":
    main()
