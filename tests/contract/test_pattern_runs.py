"""Attention weights of a source, from a spec to the run's tables."""

from __future__ import annotations

import polars as pl
import pytest

import patchboard as pb
from patchboard.commands.main import main
from patchboard.errors import SpecError
from patchboard.execution.run import open_model
from patchboard.plan.build import build_plans
from patchboard.plan.cost import cost_of
from patchboard.plan.packs import Budget
from patchboard.spec import study_of
from tests.contract.cases import case_tree, write_cases
from tests.contract.tiny import one_error, run, tiny_tree, write
from tests.models import random_model, save

THIRD = {"op": "patch", "source": "third", "site": "pattern", "position": "S2.first", "layers": [1, 3], "heads": "all"}
MOVED = {"op": "patch", "source": {"name": "flip", "align": "last"}, "layers": 0, "position": "S2"}


def held(layers) -> dict:
    return {"op": "patch", "source": "clean", "site": "pattern", "layers": layers, "position": "last"}


SECTIONS = {
    "third": THIRD,
    "resampled": {**THIRD, "op": "resample"},
    "half": {**THIRD, "strength": 0.5},
    "clean": held([2]),
    "moved": MOVED,
    "looking": {"edits": [MOVED, held({"together": "all"})]},
}


@pytest.fixture(scope="module")
def made(llama_folder, cases, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "run"
    assert run(tiny_tree(llama_folder, **case_tree(cases, interventions=SECTIONS)), out) == 0
    return out


def changed(rows: pl.DataFrame, name: str, control: str = "") -> pl.DataFrame:
    wanted = rows.filter(intervention=name, metric="logprob", control=control).sort("layer", "head", "query")
    assert len(wanted) and wanted["patched"].is_finite().all()
    return wanted.with_columns(change=(pl.col("patched") - pl.col("clean")).abs())


def largest(values: pl.Series) -> float:
    return float(abs(values.to_numpy()).max())


def test_one_cell_a_block_and_head(made):
    rows = pl.read_parquet(made / "outcomes.parquet")
    third = changed(rows, "third")
    assert set(third.select("layer", "head").rows()) == {(layer, head) for layer in (1, 3) for head in range(4)}
    assert largest(third.filter(layer=1)["change"]) > 1e-4
    assert largest(third.filter(layer=3)["change"]) < 1e-5, "no later block reads it"
    assert largest(changed(rows, "third", "self")["change"]) < 1e-5, "a run's own weights"
    assert largest(changed(rows, "resampled")["patched"] - third["patched"]) < 1e-5, "two spellings"
    assert largest(changed(rows, "half")["change"]) < largest(third["change"])


def test_clean_weights_are_frozen_ones(made):
    rows = pl.read_parquet(made / "outcomes.parquet")
    assert largest(changed(rows, "clean")["change"]) < 1e-5
    moved, looking = changed(rows, "moved"), changed(rows, "looking")
    assert largest(moved["patched"] - looking["patched"]) > 1e-4
    page = (made / "report.html").read_text()
    assert "the attention weights of every head (one at a time)" in page


def test_both_ways_and_what_is_counted(llama_folder, cases, tmp_path, made):
    tree = tiny_tree(llama_folder, **case_tree(cases, interventions=SECTIONS))
    assert run(tree, tmp_path / "rows", "--engine", "rows") == 0
    packed, rows = (pl.read_parquet(folder / "outcomes.parquet") for folder in (made, tmp_path / "rows"))
    for name in SECTIONS:
        assert largest(changed(packed, name)["patched"] - changed(rows, name)["patched"]) < 1e-5
    (plan,) = build_plans(study_of(tree), open_model)
    cost = cost_of(plan, "wavefront", Budget())
    longest = max(len(p.token_ids) for group in plan.groups for p in group.prompts)
    assert cost.forwards == cost.packs * (2 + -(-longest // plan.facts.head_dim))


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"op": "zero"}, "i.op: zero changes states, and at site pattern there are attention weights; write patch"),
        ({"op": "add", "source": "third"}, "interventions.i.op: add changes states"),
        ({"op": "patch", "vector": {"mean": "same_task"}}, "interventions.i.vector: found one at site pattern"),
        ({"op": "patch"}, "interventions.i.source: is missing, site pattern takes the weights of a run; add clean"),
        ({"op": "patch", "source": {"name": "third", "layer": 0}}, "interventions.i.source.layer: found 0, and"),
        ({"op": "patch", "source": {"name": "third", "align": "all"}}, "i.source.align: found all, and attention"),
        ({"op": "patch", "source": {"name": "third", "site": "pattern"}, "site": "head"},
         "interventions.i.source.site: found pattern, and attention weights are no state to put in at head"),
        ({"op": "path", "source": "third", "sender": {"site": "pattern"}, "site": "resid_post"},
         "interventions.i.sender.site: found pattern, and attention weights are no state that sends"),
        ({"op": "path", "source": "third", "sender": {}, "site": "resid_post",
          "receivers": [{"site": "pattern", "heads": [[1, 0]]}]},
         "interventions.i.receivers[0].site: found pattern, and attention weights are no state that receives"),
        ({"op": "patch", "source": "flip", "heads": 4}, "i.heads: there is no head 4, the model has 4"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_refused(llama_folder, cases, tmp_path, capsys, section, says):
    section = {"site": "pattern", **section}
    if section["op"] == "path":
        del section["site"]
    assert run(tiny_tree(llama_folder, **case_tree(cases, interventions={"i": section})), tmp_path / "run") == 2
    assert says in one_error(capsys)
    assert not (tmp_path / "run").exists()


def test_a_source_of_other_places_is_refused(llama_folder, tmp_path, capsys):
    """``flip`` has a word more, before S2 and before the end."""
    longer = write_cases(tmp_path / "longer.jsonl", longer=True)
    for position in ("last", "S2.first"):
        section = {"op": "patch", "source": "flip", "site": "pattern", "position": position}
        assert run(tiny_tree(llama_folder, **case_tree(longer, interventions={"i": section})), tmp_path / "run") == 2
        error = one_error(capsys)
        assert f"interventions.i.source: position {position} is token " in error
        assert "and attention weights go by places; use a source of as many tokens up to there" in error


def test_a_screen_runs_them_all(llama_folder, cases, tmp_path):
    states = {"op": "patch", "source": "third", "position": "S2", "layers": "all"}
    sections = {"states": states, "third": THIRD}
    tree = tiny_tree(llama_folder, **case_tree(cases, interventions=sections, screen={"keep": 1, "sample": 1}))
    assert run(tree, tmp_path / "run") == 0
    assert set(pl.read_parquet(tmp_path / "run" / "screen.parquet")["intervention"]) == {"states"}
    rows = pl.read_parquet(tmp_path / "run" / "outcomes.parquet")
    assert len(changed(rows, "third").select("layer", "head").unique()) == 8


def test_a_script_leaves_them_out(llama_folder, cases, tmp_path, capsys):
    tree = tiny_tree(llama_folder, **case_tree(cases, interventions={"third": THIRD}))
    assert main(["emit", write(tree, tmp_path / "spec.yaml")]) == 2
    assert "third sets attention weights, which a script cannot" in one_error(capsys)


def test_where_values_are_clipped_there_is_no_such_site(cases, tmp_path, capsys):
    folder = save(random_model("olmo"), tmp_path / "olmo")
    assert run(tiny_tree(folder, **case_tree(cases, interventions={"third": THIRD})), tmp_path / "run") == 2
    assert "interventions.third.site: there is no site 'pattern' in family 'olmo'; choose one" in one_error(capsys)


def test_intervene_has_no_other_run():
    with pytest.raises(SpecError, match="pattern takes the attention weights of another run"):
        with pb.intervene(random_model("llama"), op="zero", layer=1, site="pattern", head=0):
            pass
