"""Inputs with sources, foils and spans: from a user's file to the run's tables, as identities between runs."""

from __future__ import annotations

import json
import re

import polars as pl
import pytest
import torch
from transformers import LlamaForCausalLM

import patchboard as pb
from patchboard.embedded.tokenizer import build
from patchboard.engine import memory
from patchboard.engine.local import LocalEngine
from patchboard.execution.run import Options, run_study
from patchboard.plan.packs import Budget
from patchboard.spec import study_of
from tests.contract.cases import case_tree, write_cases
from tests.contract.tiny import manifest_of, one_error, run, tiny_tree

pytestmark = pytest.mark.drawn


def outcomes(folder, out, cases, interventions, **changes) -> pl.DataFrame:
    tree = tiny_tree(folder, **case_tree(cases, interventions=interventions, **changes))
    assert run(tree, out) == 0
    return pl.read_parquet(out / "outcomes.parquet").sort("query")


def of(rows: pl.DataFrame, name: str, column: str = "patched", metric: str = "logit_difference", control: str = ""):
    wanted = rows.filter(intervention=name, metric=metric, control=control).sort("query")
    assert len(wanted) == 6 and wanted[column].is_finite().all()
    return wanted[column].to_numpy()


def corrupted(name: str | None) -> dict:
    return {"prompts": {**case_tree(None)["prompts"], **({"corrupted": name} if name else {})}}


def test_the_last_state_of_a_source_is_the_sources_run(llama_folder, cases, tmp_path):
    """Noising, base with the source's last state, ends at the corrupted run; denoising ends at the base's own."""
    at_last = {"op": "patch", "layers": 3, "position": "last"}
    noised = outcomes(llama_folder, tmp_path / "a", cases, {"p": {**at_last, "source": "flip"}})
    denoised = outcomes(llama_folder, tmp_path / "b", cases, {"p": {**at_last, "source": "base"}}, **corrupted("flip"))
    for metric in ("logprob", "logit_difference"):
        assert abs(of(noised, "p", "clean", metric) - of(denoised, "p", "clean", metric)).min() > 1e-3
        assert abs(of(noised, "p", metric=metric) - of(denoised, "p", "clean", metric)).max() < 1e-4
        assert abs(of(denoised, "p", metric=metric) - of(noised, "p", "clean", metric)).max() < 1e-4


def test_interchange_accuracy_of_the_whole_source_is_the_sources_accuracy(llama_folder, tmp_path):
    """Half of the answers to flip are what the model says there; third has no answer but the base's."""
    cases, said = write_cases(tmp_path / "cases.jsonl"), LlamaForCausalLM.from_pretrained(llama_folder)
    lines = [json.loads(line) for line in cases.read_text().splitlines()]
    for line in lines[::2]:
        text = re.sub(r"\{\w+: (\w+)\}", r"\1", line["source_flip"])
        word = build().decode(said(torch.tensor([build()(text)["input_ids"]])).logits[0, -1].argmax())
        line["source_flip_answer"] = word.strip()
    cases.write_text("\n".join(map(json.dumps, lines)))
    edit = {"op": "patch", "source": "flip", "layers": 3, "position": "last"}
    sections = {
        "whole": edit,
        "blocked": {"edits": [
            {**edit, "layers": 1, "position": "S2"},
            {"op": "patch", "source": "clean", "site": "resid_post", "layers": 3},
        ]},
        "third": {**edit, "source": "third"},
    }  # fmt: skip
    rows = outcomes(llama_folder, tmp_path / "run", cases, sections, metrics=["accuracy"])
    asked = [{**line, "answer": line["source_flip_answer"], "foils": ""} for line in lines]
    cases.write_text("\n".join(map(json.dumps, asked)))
    nothing = {"n": {"op": "zero", "layers": 1}}
    own = outcomes(llama_folder, tmp_path / "own", cases, nothing, metrics=["accuracy"], **corrupted("flip"))
    accuracy = of(own, "n", "clean", "accuracy")
    assert 0 < accuracy.sum() < 6
    assert of(rows, "whole", metric="conversion").tolist() == accuracy.tolist()
    unedited = of(rows, "whole", "clean", "conversion").tolist()
    assert unedited != accuracy.tolist(), "the base's own run says something else"
    assert of(rows, "blocked", metric="conversion").tolist() == unedited
    assert set(rows.filter(metric="conversion")["intervention"]) == {"whole", "blocked"}
    effects = pl.read_parquet(tmp_path / "run" / "effects.parquet").filter(intervention="whole", metric="conversion")
    assert (effects["patched"][0], effects["n"][0]) == (accuracy.mean(), 6)


def test_every_token_where_they_differ_is_the_sources_run(llama_folder, cases, tmp_path):
    """All that differs between base and flip, exchanged in the embeddings, is flip; what does not differ, nothing."""
    sections = {
        "all": {"op": "patch", "source": "flip", "site": "resid_pre", "layers": 0, "position": ["IO", "S1", "S2"]},
        "same": {"op": "patch", "source": "third", "site": "resid_pre", "layers": 0, "position": ["IO", "S1"]},
        "again": {"op": "patch", "source": "third", "site": "resid_pre", "layers": 0, "position": "S2"},
        "resampled": {"op": "resample", "source": "third", "site": "resid_pre", "layers": 0, "position": "S2"},
        "elsewhere": {"op": "patch", "source": {"name": "clean", "position": "IO"}, "site": "resid_pre", "layers": 0,
                      "position": "S2"},
    }  # fmt: skip
    rows = outcomes(llama_folder, tmp_path / "a", cases, sections)
    flip = outcomes(llama_folder, tmp_path / "b", cases, {"n": {"op": "zero", "layers": 1}}, **corrupted("flip"))
    third = outcomes(llama_folder, tmp_path / "c", cases, {"n": {"op": "zero", "layers": 1}}, **corrupted("third"))
    assert abs(of(rows, "all") - of(flip, "n", "clean")).max() < 1e-4
    assert abs(of(rows, "same") - of(rows, "same", "clean")).max() < 1e-5
    assert abs(of(rows, "again") - of(third, "n", "clean")).max() < 1e-4
    assert abs(of(rows, "again") - of(rows, "resampled")).max() < 1e-5, "two spellings of one edit"
    assert abs(of(rows, "elsewhere") - of(rows, "elsewhere", "clean")).min() > 1e-4
    assert set(rows.filter(intervention="all", control="")["vector_task"]) == {"flip"}


def test_a_frozen_block_does_not_see_the_edit(llama_folder, cases, tmp_path):
    """Attention and MLP of all later blocks put back: only the edited state itself goes through, with its own norm."""
    edit = {"op": "patch", "source": "flip", "layers": 1, "position": "S2"}
    frozen = [{"op": "patch", "source": "clean", "site": site, "layers": {"together": [2, 3]}, "position": "last"}
              for site in ("attn_out", "mlp_out")]  # fmt: skip
    rows = outcomes(llama_folder, tmp_path / "a", cases, {"edit": edit, "blocked": {"edits": [edit, *frozen]}})
    assert abs(of(rows, "edit") - of(rows, "edit", "clean")).max() > 1e-3
    assert abs(of(rows, "blocked") - of(rows, "blocked", "clean")).max() < 1e-4, "no way is left from S2 to the end"


def test_the_foil_is_the_rows_own(llama_folder, cases, tmp_path):
    rows = outcomes(llama_folder, tmp_path / "a", cases, {"n": {"op": "zero", "layers": 1}})
    flipped = {"columns": {"answer": "foils", "foils": "answer"}}
    tasks = {**case_tree(cases)["tasks"], **flipped}
    other = outcomes(llama_folder, tmp_path / "b", cases, {"n": {"op": "zero", "layers": 1}}, tasks=tasks)
    assert abs(of(rows, "n", "clean") + of(other, "n", "clean")).max() < 1e-5, "answer and foil exchanged"


def test_the_map_of_positions_is_the_table(llama_folder, cases, tmp_path):
    swept = {"op": "patch", "source": "flip", "position": {"sweep": ["S2", "IO", "last"]}, "layers": "all"}
    outcomes(llama_folder, tmp_path / "run", cases, {"p": swept, "one": {"op": "zero", "layers": "all"}})
    assert (tmp_path / "run" / "figures" / "positions-logprob-p.png").is_file()
    figure = pb.open(tmp_path / "run").plot(by="position", metric="logit_difference")
    panel = figure.axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["last", "IO", "S2"], "from below"
    curves = pl.read_parquet(tmp_path / "run" / "curves.parquet")
    for row, position in enumerate(["last", "IO", "S2"]):
        mine = curves.filter(intervention="p", control="", metric="logit_difference", position=position).sort("layer")
        assert panel.images[0].get_array()[row].tolist() == mine["effect"].to_list() and len(mine) == 4


def test_unequal_spans_are_refused_unless_told(llama_folder, tmp_path, capsys):
    cases = write_cases(tmp_path / "cases.jsonl", longer=True)
    edit = {"op": "patch", "source": {"name": "flip"}, "layers": 1, "position": "S1"}
    tree = tiny_tree(llama_folder, **case_tree(cases, interventions={"p": edit}))
    assert run(tree, tmp_path / "run") == 2
    assert one_error(capsys) == (
        "error: interventions.p.source: position S1 has 1 tokens in query 0 and 2 in its source flip (so do 6 of 6"
        " queries); write source: {name: flip, align: last}, or first, or all"
    )
    assert not (tmp_path / "run").exists()
    found = {}
    for align in ("first", "last", "all"):
        sections = {"p": {**edit, "source": {"name": "flip", "align": align}}}
        found[align] = of(outcomes(llama_folder, tmp_path / align, cases, sections), "p")
    sections = {"p": {**edit, "source": {"name": "flip", "position": "S1.last"}}}
    assert abs(of(outcomes(llama_folder, tmp_path / "own", cases, sections), "p") - found["last"]).max() < 1e-5
    assert abs(found["first"] - found["last"]).max() > 1e-5 and abs(found["all"] - found["first"]).max() < 1e-5


LATER = {"op": "patch", "source": {"name": "flip", "layer": 3}, "position": "S2", "layers": [0, 1]}


def test_a_state_of_a_later_layer_takes_a_pass_before(llama_folder, cases, tmp_path):
    """It is counted with the plan, and the same in both ways."""
    found = {}
    for way in ("wavefront", "rows"):
        out = tmp_path / way
        tree = tiny_tree(llama_folder, **case_tree(cases, interventions={"p": LATER}))
        assert run(tree, out, "--engine", way) == 0
        found[way] = pl.read_parquet(out / "outcomes.parquet").sort("control", "layer", "query", "metric")
        cost = json.loads((out / "plan.json").read_text())["models"][0]["cost"]
        assert manifest_of(out)["models"][0]["token_layers"]["computed"] == cost["token_layers"]
        assert cost["forwards"] == 2 * cost["packs"]
    assert abs(found["rows"]["patched"] - found["wavefront"]["patched"]).max() < 1e-4
    moved = found["rows"].filter(control="", metric="logprob")
    assert abs(moved["patched"] - moved["clean"]).min() > 1e-5


def test_a_stopped_run_goes_on_with_the_same_noise_and_states(llama_folder, cases, tmp_path, monkeypatch):
    noise = {"op": "noise", "site": "resid_pre", "layers": 0, "position": {"sweep": ["S1", "S2", "IO"]}}
    study = study_of(tiny_tree(llama_folder, **case_tree(cases, interventions={"later": LATER, "noise": noise})))
    monkeypatch.setattr(memory, "default_budget", lambda facts, on_cpu: Budget(100, sparse=facts.sparse, streamed=True))
    whole = pl.read_parquet(run_study(study, Options(out=tmp_path / "whole")) / "outcomes.parquet")
    score, calls = LocalEngine.score_pack, []

    def stopped(*arguments):
        if len(calls) == 3:  # two samples, and a pack
            raise KeyboardInterrupt
        calls.append(arguments)
        return score(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(LocalEngine, "score_pack", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_study(study, Options(out=tmp_path / "stopped"))
    resumed = run_study(study, Options(out=tmp_path / "stopped"))
    assert pl.read_parquet(resumed / "outcomes.parquet").equals(whole)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"name": "flip", "layer": 9}, "p.source.layer: found 9, the model has 4 layers; use a lower one"),
        ({"name": "flip", "site": "head"}, "p.source.site: head and resid_post hold different parts of a block, "),
        ({"name": "flop"}, "p.source: unknown task 'flop'; did you mean 'flip'?"),
        ({"name": "flip", "position": "S3"}, "p.source.position: unknown position 'S3'; choose one of IO, S1, S2, all"),
    ],
)
def test_what_cannot_be_taken_is_one_line(llama_folder, cases, tmp_path, capsys, source, says):
    sections = {"p": {"op": "patch", "source": source, "layers": 1}}
    assert run(tiny_tree(llama_folder, **case_tree(cases, interventions=sections)), tmp_path / "run") == 2
    assert one_error(capsys).startswith(f"error: interventions.{says}")
    assert not (tmp_path / "run").exists()
