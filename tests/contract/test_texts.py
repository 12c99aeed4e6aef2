"""Texts written under edits: what a run keeps of them, that they are what was asked for, and what is refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from transformers import AutoModelForCausalLM

import patchboard as pb
from patchboard.commands.main import main
from patchboard.engine import memory
from patchboard.engine.generation import generated
from patchboard.engine.load import load_weights, open_model
from patchboard.engine.local import LocalEngine
from patchboard.engine.pack_scores import pack_layout
from patchboard.execution import texts as stage
from patchboard.execution.planned import plan_study
from patchboard.execution.run import Options, run_study
from patchboard.measure.texts import repetition, text_means
from patchboard.plan.model import Pack
from patchboard.report.page import write_report
from patchboard.report.run_files import read_run
from patchboard.spec import study_of
from patchboard.store.schema import TEXTS
from patchboard.track.tables import MOST_ROWS, tables
from tests.contract.cases import case_tree, write_cases
from tests.contract.tiny import VECTOR, one_error, run, tiny_tree, write

NEW = 6
SECTION = {"tokens": NEW, "prompts": 2, "controls": True}
SECTIONS = {
    "added": {"op": "add", "vector": VECTOR, "layers": [1, 2], "strength": 30},
    "nothing": {"op": "add", "vector": VECTOR, "layers": [1], "strength": 0},
    "scaled": {"op": "scale", "site": "mlp_out", "layers": [2], "strength": 40},
}
FEW = {"controls": ["self", "random"], "decodability": None, "interventions": SECTIONS}


def tree_of(folder: Path, **changes: Any) -> dict[str, Any]:
    return tiny_tree(folder, **{**FEW, "generate": SECTION, **changes})


@pytest.fixture(scope="module")
def ran(llama_folder, tmp_path_factory) -> Path:
    return run_study(study_of(tree_of(llama_folder)), Options(tmp_path_factory.mktemp("texts") / "run"))


@pytest.fixture(autouse=True)
def no_page(monkeypatch) -> None:
    """Of the tests' own runs; ``ran`` is made before, with its page."""
    monkeypatch.setattr("patchboard.execution.run._report", lambda folder: None)


def texts_of(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "texts.parquet")


def test_one_row_a_cell_query_and_sample(ran):
    table = texts_of(ran)
    assert dict(table.schema) == TEXTS
    # 3 tasks, 2 of 3 queries; 4 cells, and a random control beside each that has a vector; `self` edits nothing
    assert len(table) == 3 * 2 * (4 + 3) and set(table["control"]) == {"", "random"}
    assert set(table["when"]) == {"both"} and set(table["sample"]) == {0} and set(table["query"]) == {0, 1}
    keys = ["task", "query", "intervention", "control", "layer"]
    assert len(table.select(keys).unique()) == len(table)
    prompts = pl.read_parquet(ran / "prompts.parquet").filter(role="evaluate").select("task", "query", "text")
    joined = table.join(prompts, on=["task", "query"])
    assert (joined["prompt"] == joined["text"]).all()
    assert pb.open(ran).texts.equals(table)


def test_edits_that_change_nothing_leave_the_text(ran):
    same = texts_of(ran).filter(intervention="nothing")
    assert (same["clean_text"] == same["edited_text"]).all() and (
        same["clean_perplexity"] == same["edited_perplexity"]
    ).all()
    changed = texts_of(ran).filter(pl.col("intervention") != "nothing", control="")
    assert (changed["clean_text"] != changed["edited_text"]).mean() > 0.5


def test_texts_are_those_of_generate_with_plain_hooks(ran, llama_folder):
    """``patchboard.intervene`` edits the last token and each new one of transformers' own generation."""
    opened, model = pb.open(ran), AutoModelForCausalLM.from_pretrained(llama_folder)
    prompts = {(r["task"], r["query"]): r["token_ids"] for r in opened.prompts.filter(role="evaluate").to_dicts()}
    how = {"added": ("add", 30), "scaled": ("scale", 40), "nothing": ("add", 0)}
    for row in opened.texts.filter(control="").to_dicts():
        op, strength = how[row["intervention"]]
        vector = opened.vectors[row["intervention"], row["layer"], row["task"]] if op == "add" else None
        tokens = torch.tensor([prompts[row["task"], row["query"]]])
        given = dict(attention_mask=torch.ones_like(tokens), max_new_tokens=NEW, do_sample=False)
        own = model.generate(tokens, **given)[0, tokens.shape[1] :].tolist()
        with pb.intervene(model, vector, op, row["layer"], strength, site=row["site"], position="from_last"):
            edited = model.generate(tokens, **given)[0, tokens.shape[1] :].tolist()
        assert (own, edited) == (row["clean_token_ids"], row["edited_token_ids"])
        for side, ids in (("clean", own), ("edited", edited)):
            assert row[f"{side}_perplexity"] == pytest.approx(perplexity(model, tokens[0].tolist(), ids), rel=1e-4)
            assert row[f"{side}_repetition"] == pytest.approx(repetition(ids))


@torch.no_grad()
def perplexity(model: Any, before: list[int], ids: list[int]) -> float:
    logits = model(torch.tensor([[*before, *ids]])).logits[0].log_softmax(-1)
    return math.exp(-sum(float(logits[len(before) - 1 + i, token]) for i, token in enumerate(ids)) / len(ids))


def test_where_edits_are_made_changes_the_text(ran, llama_folder, tmp_path):
    """At the prompt alone the first token is that of both; at new tokens alone it is the clean run's."""
    both = texts_of(ran).filter(control="", intervention="added")
    found = {"both": both}
    for when in ("prompt", "decode"):
        tree = tree_of(llama_folder, generate={**SECTION, "when": when, "interventions": ["added"], "controls": False})
        found[when] = texts_of(run_study(study_of(tree), Options(tmp_path / when)))
    ids = {when: table["edited_token_ids"].to_list() for when, table in found.items()}
    clean = both["clean_token_ids"].to_list()
    assert [row[0] for row in ids["prompt"]] == [row[0] for row in ids["both"]] != [row[0] for row in clean]
    assert [row[0] for row in ids["decode"]] == [row[0] for row in clean]
    assert len({str(ids[when]) for when in ids} | {str(clean)}) == 4


class Stopped(KeyboardInterrupt):
    pass


def test_a_killed_run_goes_on_and_gives_the_same(ran, llama_folder, tmp_path, monkeypatch):
    """A few texts a batch; stopped in the middle. What is there is not written again."""
    calls = {"made": 0, "stop": 2}

    def watched(*arguments: Any) -> Any:
        if calls["made"] == calls["stop"]:
            raise Stopped
        calls["made"] += 1
        return generated(*arguments)

    monkeypatch.setattr(stage, "generated", watched)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 8 << 20)
    study, out = study_of(tree_of(llama_folder)), Options(tmp_path / "run")
    with pytest.raises(Stopped):
        run_study(study, out)
    begun, calls["stop"] = len(list((tmp_path / "run" / "parts").glob("texts-[0-9]*"))), -1
    assert begun == 2
    run_study(study, out)
    assert_frame_equal(texts_of(tmp_path / "run"), texts_of(ran), rel_tol=1e-4)
    whole = calls["made"]
    calls["made"] = 0
    run_study(study, Options(tmp_path / "whole"))
    assert whole == calls["made"] > 4, "nothing was written twice"
    assert_frame_equal(texts_of(tmp_path / "run"), texts_of(tmp_path / "whole"))


def test_a_batch_that_does_not_fit_is_halved(ran, llama_folder, tmp_path, monkeypatch):
    sizes = []

    def little(engine: Any, texts: Any, *more: Any) -> Any:
        sizes.append(len(texts))
        if len(texts) > 3:
            raise MemoryError
        return generated(engine, texts, *more)

    monkeypatch.setattr(stage, "generated", little)
    tree = tree_of(llama_folder, generate={**SECTION, "interventions": ["nothing"]})
    run_study(study_of(tree), Options(tmp_path / "run"))
    assert sizes == [6, 3, 3] * 3, sizes
    assert_frame_equal(texts_of(tmp_path / "run"), texts_of(ran).filter(intervention="nothing"), rel_tol=1e-4)


def test_one_text_that_does_not_fit_is_told(llama_folder, tmp_path, monkeypatch):
    def none(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(stage, "generated", none)
    tree = tree_of(llama_folder, generate={**SECTION, "prompts": 1, "interventions": ["nothing"]})
    with pytest.raises(pb.EngineError, match="one text behind a prompt of AND does not fit"):
        run_study(study_of(tree), Options(tmp_path / "run"))


def test_the_plan_counts_what_is_computed(llama_folder, tmp_path, monkeypatch):
    seen = []
    original = stage.TextParts.write

    def counted(parts: Any, take: Any) -> None:
        engine = parts.engine
        before = engine.token_layers
        engine.module.generation_config.eos_token_id = engine.module.config.eos_token_id = None  # no text ends before
        original(parts, take)
        seen.append(engine.token_layers - before)

    monkeypatch.setattr(stage.TextParts, "write", counted)
    study = study_of(tree_of(llama_folder))
    folder = run_study(study, Options(tmp_path / "run"))
    cost = json.loads((folder / "plan.json").read_text())["models"][0]["cost"]
    assert cost["texts"] == 3 * 2 * 8 and [cost["text_token_layers"]] == seen and cost["text_passes"] == 3 * (NEW + 1)
    without = study_of(tree_of(llama_folder, generate=None))
    assert "generate" not in without.tree and without.digest != study.digest
    assert "texts" not in pb.load(tree_of(llama_folder, generate=None)).plan().as_dict()["models"][0]["cost"]


def test_drawn_texts_of_a_pair_share_their_numbers(llama_folder, tmp_path):
    section = {**SECTION, "temperature": 1.5, "samples": 3, "controls": False}
    table = texts_of(run_study(study_of(tree_of(llama_folder, generate=section)), Options(tmp_path / "run")))
    assert set(table["sample"]) == {0, 1, 2} and len(table) == 3 * 2 * 4 * 3
    same = table.filter(intervention="nothing")
    assert (same["clean_text"] == same["edited_text"]).all() and same["clean_text"].n_unique() > 6
    own = table.filter(intervention="added", layer=1).select("task", "query", "sample", "clean_text")
    other = table.filter(intervention="scaled").select("task", "query", "sample", "clean_text")
    assert_frame_equal(own, other)


def test_states_of_sources_are_put_in_at_the_prompt(llama_folder, tmp_path):
    """A source's whole state behind the last block gives the source's own next token."""
    cases = write_cases(tmp_path / "cases.jsonl")
    sections = {
        "swap": {"op": "patch", "source": "flip", "layers": [3]},
        "self": {"op": "patch", "source": "clean", "layers": [1]},
    }
    section = {"tokens": 4, "when": "prompt", "prompts": 3}
    tree = tiny_tree(llama_folder, **case_tree(cases, interventions=sections, controls=[], generate=section))
    folder = run_study(study_of(tree), Options(tmp_path / "run"))
    table, model = texts_of(folder), AutoModelForCausalLM.from_pretrained(llama_folder)
    assert (table.filter(intervention="self")["clean_text"] == table.filter(intervention="self")["edited_text"]).all()
    (plan,) = pb.open(folder).model_plans
    for row in table.filter(intervention="swap").to_dicts():
        group = next(g for g in plan.groups if g.task == row["task"])
        source = group.donors["flip"][row["query"]]
        with torch.no_grad():
            assert row["edited_token_ids"][0] == int(model(torch.tensor([source.token_ids])).logits[0, -1].argmax())


SOURCED = {"swap": {"op": "resample", "source": "other_task", "layers": [1]}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"interventions": SOURCED}, "generate.when: found both, and swap puts in states of a prompt"),
        ({"interventions": {"n": {"op": "noise", "layers": [0]}}}, "generate.when: found both, and n adds noise"),
        (
            {"interventions": {"cut": {"op": "knock_out", "edges": {"from": "query", "to": "last"}, "layers": [1]}}},
            "generate: cut is of op knock_out, which is told by tokens of a given sequence",
        ),
        (
            {"interventions": {"p": {"op": "path", "source": "other_task", "sender": {"site": "head", "layers": [1]}}}},
            "generate: p is of op path",
        ),
        (
            {"interventions": {"w": {"op": "patch", "site": "pattern", "source": "clean", "layers": [1]}}},
            "generate: w is of site pattern",
        ),
        (
            {"generate": {"when": "prompt"}, "interventions": {"a": {"op": "zero", "position": "answer"}}},
            "generate: finds no prompt in which position answer names a token before the answer",
        ),
        ({"generate": {"interventions": ["ad"]}}, "generate.interventions[0]: there is no intervention 'ad'"),
        ({"generate": {"layers": [3]}}, "generate: finds no cell at layers [3], there are some at 1, 2"),
        ({"generate": {"samples": 2}}, "generate.samples: found 2 at temperature 0"),
        ({"generate": {"tokens": 10**6}}, "generate.tokens: found 1000000, and a prompt of AND has"),
        ({"generate": {"tokens": {"sweep": [1, 2]}}}, "generate.tokens: cannot be swept"),
        ({"generate": {"tokens": 4}, "interventions": {}}, "generate: finds no intervention"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused_before_a_weight_is_loaded(llama_folder, tmp_path, capsys, changes, said):
    spec = write(tree_of(llama_folder, **{"controls": [], **changes}), tmp_path / "spec.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("patchboard.execution.local.load_weights", lambda *_: pytest.fail("weights were asked for"))
        assert main(["run", spec, "--out", str(tmp_path / "run"), "--quiet"]) == 2
    assert said in one_error(capsys)


def test_a_host_is_asked_for_no_texts(llama_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NDIF_API_KEY", "none")
    assert run(tree_of("org/name"), tmp_path / "run", "--remote", "http://127.0.0.1:9") == 2
    assert "generate: writes token by token on a cache" in one_error(capsys)


def test_interventions_that_are_not_named_stay_out(llama_folder, tmp_path):
    """And so they may be of kinds that texts cannot have."""
    section = {"interventions": ["added"], "layers": 2, "tokens": 3, "prompts": 1}
    tree = tree_of(llama_folder, generate=section, interventions={**SECTIONS, **SOURCED})
    table = texts_of(run_study(study_of(tree), Options(tmp_path / "run")))
    assert len(table) == 3 and set(table["intervention"]) == {"added"} and set(table["layer"]) == {2}


def test_the_page_shows_texts_as_text(ran, tmp_path):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(ran, folder)
    evil = "<script>alert(1)</script> & <b>"
    texts_of(folder).with_columns(
        prompt=pl.lit(evil), clean_text=pl.lit(evil), edited_text=pl.lit("</pre>" + evil)
    ).write_parquet(folder / "texts.parquet")
    page, own = write_report(folder).read_text(), (ran / "report.html").read_text()
    assert evil not in page and page.count("<script") == own.count("<script")
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &lt;b&gt;") > 3
    shown = own[own.index("<h2>Texts</h2>") : own.index("<h2>Tables</h2>")]
    assert shown.count("<h3>") == 3 and "added: layer" in shown and "random" in shown
    first = texts_of(ran).filter(control="").row(0, named=True)
    assert first["clean_text"] in shown and "at each new one as it is fed in" in shown


def test_means_are_of_the_table(ran):
    means = json.loads((ran / "summary.json").read_text())["texts"]
    assert len(means) == 4 + 3
    one = next(m for m in means if (m["intervention"], m["control"], m["layer"]) == ("added", "", 1))
    own = texts_of(ran).filter(intervention="added", control="", layer=1)
    logs = [float(own[f"{side}_perplexity"].log().to_numpy().mean()) for side in ("clean", "edited")]
    told = one["perplexity"]
    assert told["clean"] == pytest.approx(math.exp(logs[0])) and told["edited"] == pytest.approx(math.exp(logs[1]))
    assert (
        told["effect"] == pytest.approx(math.exp(logs[1] - logs[0]))
        and told["ci_low"] <= told["effect"] <= told["ci_high"]
    )
    assert one["n"] == 6 and one["changed"] == (own["clean_text"] != own["edited_text"]).mean()
    nothing = next(m for m in means if m["intervention"] == "nothing" and not m["control"])
    assert nothing["changed"] == 0 and nothing["perplexity"]["effect"] == 1 and nothing["repetition"]["effect"] == 0
    # samples are averaged before queries are resampled
    from patchboard.measure.statistics import Bootstrap

    other = own.with_columns(pl.col("edited_perplexity") * math.exp(2), sample=pl.lit(1, pl.Int32))
    (both,) = text_means(pl.concat([own, other]), Bootstrap(100, 0.95, 0))
    (single,) = text_means(own, Bootstrap(100, 0.95, 0))
    for field in ("effect", "ci_low", "ci_high"):
        assert both["perplexity"][field] == pytest.approx(single["perplexity"][field] * math.e)
    assert both["n"] == single["n"] == 6
    (few,) = text_means(own.filter(query=0), Bootstrap(100, 0.95, 0))  # one of each task: no interval
    assert few["n"] == 3 and few["perplexity"]["effect"] > 0 and math.isnan(few["perplexity"]["ci_low"])


def test_repetition_is_the_share_of_grams_that_came_before():
    assert repetition([1, 2, 3]) != repetition([1, 2, 3]) and repetition(range(9)) == 0
    assert repetition([1] * 9) == pytest.approx(5 / 6) and repetition([1, 2, 3, 4, 9, 1, 2, 3, 4]) == pytest.approx(
        1 / 6
    )


def test_texts_go_to_wandb_in_bounds(ran, monkeypatch):
    table = tables(read_run(ran))["texts"]
    assert len(table) <= MOST_ROWS and "clean_token_ids" not in table.columns and table["control"][0] == ""
    monkeypatch.setattr("patchboard.track.tables.MOST_ROWS", 5)
    assert len(tables(read_run(ran))["texts"]) == 5


def test_a_lost_table_is_told(ran, tmp_path, llama_folder, capsys):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(ran, folder)
    (folder / "texts.parquet").unlink()
    assert run(tree_of(llama_folder), folder) == 2
    assert "texts.parquet" in one_error(capsys)


STEERED = """
import sys
import patchboard.execution.run
from patchboard.commands.main import main
patchboard.execution.run._report = lambda folder: None  # figures take longer than all else
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow  # test_vector_files has files of other runs, in this process
def test_a_vector_that_one_run_wrote_steers_texts_in_another_process(tmp_path):
    """Fitted and exported by one process; another adds it while the trained model goes on from a query without
    demonstrations, and the text turns to the vector's task."""
    difference = {"difference": ["OR", "AND"], "shots": 8, "prompts": 40}
    tree = {
        "name": "fitted",
        "tasks": {"family": "bitwise", "bits": 4, "only": ["AND", "OR"]},
        "prompts": {"shots": 0, "queries": 8},
        "interventions": {"v": {"op": "add", "vector": difference, "layers": [3]}},
        "controls": [], "decodability": None, "statistics": {"bootstrap": 100},
    }  # fmt: skip
    run_study(study_of(tree), Options(tmp_path / "fitted"))
    assert main(["vectors", "export", str(tmp_path / "fitted"), "--to", str(tmp_path / "vectors")]) == 0
    given = {"file": str(tmp_path / "vectors" / "vectors.safetensors"), "key": "v/OR-AND/3"}
    steered = {**tree, "interventions": {"v": {"op": "add", "vector": given, "layers": [3]}}}
    spec = write({**steered, "generate": {"tokens": 4, "when": "prompt"}}, tmp_path / "spec.yaml")
    arguments = ["run", spec, "--out", str(tmp_path / "steered"), "--quiet"]
    done = subprocess.run([sys.executable, "-c", STEERED, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    right = {"clean": [0, 0], "edited": [0, 0]}
    for row in texts_of(tmp_path / "steered").to_dicts():
        pair = row["prompt"].removesuffix(" ->").split()
        for side, counts in right.items():
            for i, op in enumerate((all, any)):
                goal = "".join(str(int(op(digit == "1" for digit in digits))) for digits in zip(*pair, strict=True))
                counts[i] += sum(a == b for a, b in zip(row[f"{side}_text"], goal, strict=False))
    (_, before), (of_other, after) = right["clean"], right["edited"]
    assert after > 2 * before and after > 2 * of_other, right  # 44 of 64 digits, before 16; of the other task 16


def test_noise_of_a_prompt_is_that_of_its_outcome(llama_folder, tmp_path):
    """The first new token is the likeliest where the run measures the same cell."""
    noisy = {"n": {"op": "noise", "strength": 20, "site": "resid_pre", "position": "all", "layers": [0, 2]}}
    section = {"tokens": 1, "when": "prompt", "prompts": 3}
    tree = tree_of(llama_folder, interventions=noisy, controls=[], generate=section)
    folder = run_study(study_of(tree), Options(tmp_path / "run"))
    (plan,) = plan_study(study_of(tree))
    tokenizer, _ = open_model(plan.section)
    engine = LocalEngine(load_weights(plan.section, "cpu", "float32"), tokenizer)
    table, moved = texts_of(folder), 0
    for group in plan.groups:
        pack = Pack(group.id, range(3), tuple(range(len(group.copies))), "rows")
        layout = pack_layout(group, pack)
        _, result = engine.forward(layout, {}, {"logits": lambda logits, *_: logits})
        likeliest = result["scores"]["logits"].argmax(-1).tolist()
        first = {(r.prompt, r.copy): token for r, token in zip(layout.reads, likeliest, strict=True) if r.token == 0}
        for use in group.uses:
            own = table.filter(task=group.task, layer=use.cell.layer).sort("query")
            assert own["edited_token_ids"].list.first().to_list() == [first[q, use.patched] for q in range(3)]
            moved += sum(first[q, use.patched] != first[q, 0] for q in range(3))
    assert moved > 6


def test_texts_of_a_screened_run_are_of_the_cells_that_it_runs(llama_folder, tmp_path):
    cases = write_cases(tmp_path / "cases.jsonl")
    heads = {"heads": {"op": "patch", "source": "flip", "site": "head", "position": "last", "layers": "all"}}
    section = {"tokens": 2, "when": "prompt", "prompts": 1}
    screen = {"keep": 2, "sample": 1}
    metrics = ["logit_difference", "logprob"]
    changes = case_tree(cases, interventions=heads, controls=[], generate=section, screen=screen, metrics=metrics)
    folder = run_study(study_of(tiny_tree(llama_folder, **changes)), Options(tmp_path / "run"))
    ran = pl.read_parquet(folder / "outcomes.parquet").select("layer", "head").unique()
    texts = texts_of(folder)
    assert len(texts) == len(ran) == 3 and len(texts.join(ran, on=["layer", "head"])) == 3


def test_texts_of_several_models_stand_in_one_table(llama_folder, gpt2_folder, tmp_path):
    section = {"tokens": 3, "prompts": 1, "interventions": ["scaled"]}
    tree = tree_of(llama_folder, generate=section, controls=[])
    tree["model"] = {"name": {"sweep": [str(llama_folder), str(gpt2_folder)]}}
    folder = run_study(study_of(tree), Options(tmp_path / "run"))
    table = texts_of(folder)
    assert len(table) == 2 * 3 and set(table["model.name"]) == {str(llama_folder), str(gpt2_folder)}
    page = write_report(folder).read_text()
    assert page[page.index("<h2>Texts</h2>") : page.index("<h2>Tables</h2>")].count("<h3>") == 2
