"""The runs of the story: the user's own with its windows, the task alone, and paths to the movers that were found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from patchboard.engine.load import open_model
from patchboard.errors import SpecError
from patchboard.plan.facts import ModelFacts
from patchboard.spec import Study, study_of

Head = tuple[int, int]
"""(layer, head)."""

METRIC = "logit_difference"
SENTENCES = 160
"""On which the task alone is measured: a pass each, where the other runs take hundreds of cells of each."""

PARTS = {
    "places": ("patch", "resid_post"),
    "places_turned": ("patch", "resid_post"),
    "places_reordered": ("patch", "resid_post"),
    "heads": ("patch", "head"),
    "heads_reordered": ("patch", "head"),
    "to_logits": ("path", "head"),
    "to_logits_reordered": ("path", "head"),
    "cut": ("knock_out", ""),
}
"""Intervention -> its op, and the site that it edits (of path: its sender's)."""

MOVERS, OTHERS = "to_movers", "to_others"
"""Interventions of the last run: paths to the movers' queries, and to those of as many other heads."""
ATTENDING = {"queries": ("q", "last"), "keys": ("k", "all"), "values": ("v", "all")}
"""What else the last run puts into the movers, all of them together: its site and tokens."""
SCREENED = ("places", "heads")
SOURCES = {"turned": "s2_io_flip", "flip": "flip", "reordered": "s1_io_flip"}
"""Source of a state, as tables call it -> as the family does.

They tell apart what a head may go by when it looks for a name. A name's place turns in turned and reordered: the one
that stands once is first where it was second. The name itself is another one in turned and flip.
"""


def checked(study: Study, window: int, movers: int) -> Study:
    """The study with its windows of layers for ``cut``, unless it says them.

    Raises SpecError unless the study asks for what the story is made of: the family ioi, the interventions of PARTS,
    the metrics logit difference and accuracy, two queries, and no sweep but of interventions; and where the model has
    fewer than twice ``movers`` heads behind its first layer. ModelError for a model that cannot be opened.
    """
    for path in study.axes:
        if not path.startswith("interventions."):
            raise SpecError(path, "is swept, expected one setting", "run the script for each value")
    spec = study.points[0].spec
    if spec.tasks.family != "ioi":
        raise SpecError("tasks.family", f"is {spec.tasks.family}, expected ioi", "use patch_sweep.py for others")
    if spec.metrics[0] != METRIC or "accuracy" not in spec.metrics:
        what = f"are {', '.join(spec.metrics)}, expected {METRIC} first, and accuracy"
        raise SpecError("metrics", what, f"write [{METRIC}, accuracy]")
    if spec.prompts.queries < 2:
        raise SpecError("prompts.queries", "1 query cannot be halved", "use 2 or more: one half chooses")
    for name, (op, site) in PARTS.items():
        section = spec.interventions.get(name)
        edited = section and (section.sender.site if section.sender else "" if section.edges else section.site)
        if section is None or (section.op, edited) != (op, site):
            at = f" at site {site}" * bool(site)
            raise SpecError(f"interventions.{name}", f"is not there as a {op}{at}", "see experiments/specs/ioi.yaml")
    facts = facts_of(study)
    if "q" not in facts.sites:
        raise SpecError("model.name", f"family '{facts.family}' has no site q", "use another model")
    most = (facts.layers - 1) * facts.heads // 2
    if movers > most:
        what = f"asks for {movers} heads and as many others of {2 * most} behind the first layer"
        raise SpecError("--movers", what, f"ask for at most {most}")
    cut = study.tree["interventions"]["cut"]
    if cut["layers"] != "all":
        return study
    windows = [{"together": f"{first}:{last}"} for first, last in windows_of(facts.layers, window)]
    changed = {**cut, "layers": {"sweep": windows}}
    return study_of({**study.tree, "interventions": {**study.tree["interventions"], "cut": changed}})


def facts_of(study: Study) -> ModelFacts:
    """Raises ModelError for a model that cannot be opened."""
    return open_model(study.points[0].spec.model)[1]


def windows_of(layers: int, size: int) -> list[tuple[int, int]]:
    """[first, end) of windows that overlap by half, the last one at the end.

    >>> windows_of(8, 4), windows_of(3, 5)
    ([(0, 4), (2, 6), (4, 8)], [(0, 3)])
    """
    size = min(size, layers)
    starts = sorted({*range(0, layers - size + 1, max(1, size // 2)), layers - size})
    return [(start, start + size) for start in starts]


def task_study(study: Study) -> Study:
    """The task alone, on more sentences: one cell, which puts each prompt's own last state back."""
    whole = {"op": "patch", "source": "clean", "position": "last", "layers": [-1]}
    prompts = {**study.tree["prompts"], "queries": max(SENTENCES, study.tree["prompts"]["queries"])}
    return _followed(study, "task", {"whole": whole}, {"prompts": prompts, "controls": []})


def screened_study(study: Study) -> Study:
    """Places and heads estimated by gradients, all of a sentence in one pass. The first run has them exactly: here few
    of them run again."""
    kept = {name: study.tree["interventions"][name] for name in SCREENED}
    return _followed(study, "screen", kept, {"controls": [], "screen": {"keep": 5, "sample": 5}})


def movers_study(study: Study, movers: Sequence[Head]) -> Study:
    """Paths from each head to the movers' queries, and to those of as many other heads; and all of the movers' queries,
    keys and values at once, from each source."""
    tree, facts = study.tree["interventions"], facts_of(study)
    others = other_heads(movers, facts, study.points[0].spec.prompts.seed)
    interventions = {
        MOVERS: _to_queries(tree["to_logits"], "turned", movers),
        f"{MOVERS}_reordered": _to_queries(tree["to_logits"], "reordered", movers),
        OTHERS: _to_queries(tree["to_logits"], "turned", others),
    }
    for name in ATTENDING:
        interventions |= {
            whole_name(name, each): _whole(name, source, movers, facts) for each, source in SOURCES.items()
        }
    return _followed(study, "movers", interventions, {"controls": []})


def unranked_study(study: Study, count: int) -> Study:
    """``movers_study`` before the first run has told which heads are movers: the last heads of the last layers."""
    facts = facts_of(study)
    heads = [(layer, head) for layer in range(1, facts.layers) for head in range(facts.heads)]
    return movers_study(study, heads[-count:])


def other_heads(movers: Sequence[Head], facts: ModelFacts, seed: int) -> list[Head]:
    """As many heads that are no movers, drawn from the movers' own layers, where these have so many, else from all."""
    layers = {layer for layer, _ in movers}
    every = [(layer, head) for layer in range(1, facts.layers) for head in range(facts.heads)]
    left = [each for each in every if each not in movers]
    near = [each for each in left if each[0] in layers]
    drawn_from = near if len(near) >= len(movers) else left
    chosen = np.random.default_rng([seed, len(movers)]).choice(len(drawn_from), len(movers), replace=False)
    return [drawn_from[i] for i in sorted(chosen.tolist())]


def whole_name(part: str, source: str) -> str:
    """``keys_flip``"""
    return f"{part}_{source}"


def _whole(part: str, source: str, movers: Sequence[Head], facts: ModelFacts) -> dict[str, Any]:
    """One cell: of all movers. With grouped queries a head of keys or values is that of the whole group."""
    site, position = ATTENDING[part]
    of_group = 1 if site == "q" else facts.heads // facts.heads_at(site)
    places = dict.fromkeys((layer, head // of_group) for layer, head in movers)
    edit = {"op": "patch", "source": source, "site": site, "position": position}
    return {"edits": [{**edit, "layers": [layer], "heads": [head]} for layer, head in places]}


def _to_queries(section: Mapping[str, Any], source: str, heads: Sequence[Head]) -> dict[str, Any]:
    receiver = {"site": "q", "heads": [list(head) for head in heads], "position": "last"}
    return {**section, "source": SOURCES[source], "receivers": [receiver]}


def _followed(study: Study, name: str, interventions: Mapping[str, Any], changes: Mapping[str, Any]) -> Study:
    return study_of({**study.tree, "interventions": interventions, "name": f"{study.name}-{name}", **changes})
