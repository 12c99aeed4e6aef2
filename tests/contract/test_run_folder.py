"""A run's folder against its contract: columns, identities, and numbers recomputed by hand."""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from patchboard.errors import RunFolderError, SpecError
from patchboard.execution.run import Options, run_study
from patchboard.report.page import drawings
from patchboard.spec import load_study, study_of
from patchboard.store import schema
from tests.conftest import small_tree_of


@pytest.fixture(scope="module")
def finished(llama_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "small"
    with pytest.MonkeyPatch.context() as patch:  # ten figures, a second each, of which nothing here is asked
        patch.setattr("patchboard.report.page.drawings", lambda run: islice(drawings(run), 1))
        return run_study(study_of(small_tree_of(llama_folder)), Options(out=out))


@pytest.fixture(scope="module")
def outcomes(finished) -> pl.DataFrame:
    return pl.read_parquet(finished / "outcomes.parquet")


def test_files_and_columns(finished, outcomes):
    assert {p.name for p in finished.iterdir()} == {
        "spec.yaml", "plan.json", "manifest.json", "outcomes.parquet", "effects.parquet", "curves.parquet",
        "decodability.parquet", "prompts.parquet", "summary.json", "vectors.safetensors", "figures", "report.html",
    }  # fmt: skip
    swept = ["prompts.shots", "interventions.added.strength"]
    assert outcomes.columns == [*schema.OUTCOMES, *swept]
    for name, table in (("effects", schema.EFFECTS), ("curves", schema.CURVES)):
        found = pl.read_parquet(finished / f"{name}.parquet")
        assert found.columns == [*table, *swept]
        assert all(found.schema[column] == kind for column, kind in table.items())
    assert pl.read_parquet(finished / "prompts.parquet").columns == list(schema.PROMPTS)
    decodability = pl.read_parquet(finished / "decodability.parquet")
    assert decodability.columns == list(schema.DECODABILITY)
    assert set(decodability["task"]) == {"AND", "OR", "XOR", "Null", "ALL"}
    page = (finished / "report.html").read_text()
    assert "http://" not in page and "https://" not in page.replace("https://arxiv.org", "")


def test_every_cell_has_every_query_and_metric(outcomes):
    keys = [c for c in outcomes.columns if c not in ("query", "clean", "patched")]
    assert set(outcomes.group_by(keys).len()["len"]) == {5}
    own = outcomes.filter((pl.col("control") == "") & (pl.col("intervention") == "positive"))
    assert len(own) == 3 * 5 * 4 * 2 * 6  # tasks, queries, layers, shots, metrics
    added = outcomes.filter((pl.col("control") == "") & (pl.col("intervention") == "added"))
    assert set(added["interventions.added.strength"]) == {0.0, 1.5}
    assert outcomes.filter(pl.col("intervention") == "positive")["interventions.added.strength"].null_count() == len(
        outcomes.filter(pl.col("intervention") == "positive")
    ), "a sweep of one intervention must not repeat the others"


def test_controls_stand_under_their_intervention(outcomes):
    found = {
        name: set(outcomes.filter(pl.col("intervention") == name)["control"]) - {""}
        for name in outcomes["intervention"].unique()
    }
    assert found["positive"] == found["added"] == {"self", "random", "other_task"}
    assert found["negative"] == {"self", "random"}
    assert found["erased"] == found["leace"] == {"self", "random_subspace"}
    assert found["zeroed"] == {"self"}


def test_self_and_strength_zero_change_nothing(outcomes):
    """Identities. The tolerance is float32's rounding over four layers."""
    neutral = outcomes.filter((pl.col("control") == "self") | (pl.col("strength") == 0) & (pl.col("control") != "self"))
    neutral = neutral.filter(~pl.col("metric").is_in(["rank"]))
    assert len(neutral) > 500
    np.testing.assert_allclose(neutral["patched"], neutral["clean"], atol=2e-5)


def test_edits_do_change_something(outcomes):
    moved = outcomes.filter((pl.col("metric") == "kl") & (pl.col("control") == "") & (pl.col("strength") != 0))
    for (name,), rows in moved.group_by("intervention"):
        assert (rows["patched"] > 1e-6).all() or name == "leace", name  # finds nothing to erase in a random model


def test_effects_are_the_means_of_outcomes(finished, outcomes):
    effects = pl.read_parquet(finished / "effects.parquet")
    keys = [c for c in outcomes.columns if c not in ("query", "clean", "patched")]
    by_hand = (
        outcomes.filter(~pl.col("patched").is_nan())
        .group_by(keys)
        .agg((pl.col("patched") - pl.col("clean")).mean().alias("mine"))
    )
    joined = effects.filter(pl.col("n") > 0).join(by_hand, on=keys, nulls_equal=True)
    assert len(joined) == len(effects.filter(pl.col("n") > 0)) > 400
    np.testing.assert_allclose(joined["effect"], joined["mine"], atol=1e-12)
    assert ((joined["ci_low"] <= joined["effect"] + 1e-12) & (joined["effect"] - 1e-12 <= joined["ci_high"])).all()


def prompt_row(finished: Path, row: dict) -> dict:
    prompts = pl.read_parquet(finished / "prompts.parquet")
    found = prompts.filter(
        (pl.col("role") == "evaluate") & (pl.col("task") == row["task"]) & (pl.col("query") == row["query"])
        & (pl.col("shots") == row["shots"])
    )  # fmt: skip
    assert len(found) == 1
    return found.row(0, named=True)


@pytest.mark.parametrize("intervention", ["positive", "negative", "added", "erased", "leace"])
@pytest.mark.parametrize("control", ["", "random", "other_task", "random_subspace"])
def test_an_outcome_recomputed_by_hand(finished, outcomes, llama_folder, intervention, control):
    """From prompts.parquet, vectors.safetensors and the model alone, in plain PyTorch."""
    rows = outcomes.filter(
        (pl.col("intervention") == intervention) & (pl.col("control") == control) & (pl.col("metric") == "logprob")
    )
    if rows.is_empty():
        pytest.skip("this control has no meaning for this intervention")
    model = AutoModelForCausalLM.from_pretrained(llama_folder).eval()
    vectors = load_file(finished / "vectors.safetensors")
    for row in rows.sample(6, seed=1).iter_rows(named=True):
        prompt = prompt_row(finished, row)
        key = f"{row['intervention']}/{row['vector_task']}/{row['layer']}"
        strength, at = row["strength"], prompt["position"]

        def edit(module, inputs, output, key=key, strength=strength, at=at, op=row["op"]):
            h = output[0] if isinstance(output, tuple) else output
            state = h[0, at]
            if op == "patch":
                h[0, at] = (1 - strength) * state + strength * vectors[key]
            elif op == "add":
                h[0, at] = state + strength * vectors[key]
            else:
                centred = state - vectors[f"{key}/center"]
                h[0, at] = state - strength * (vectors[f"{key}/left"] @ (vectors[key] @ centred))
            return output

        values = []
        for edited in (False, True):
            hook = model.model.layers[row["layer"]].register_forward_hook(edit) if edited else None
            ids = prompt["token_ids"] + prompt["answer_ids"]
            with torch.no_grad():
                logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            if hook:
                hook.remove()
            values.append(sum(float(logprobs[at + j, t]) for j, t in enumerate(prompt["answer_ids"])))
        np.testing.assert_allclose([row["clean"], row["patched"]], values, atol=2e-5)


def test_a_mean_vector_recomputed_by_hand(finished, llama_folder):
    """`only: correct` finds no correct prompt of a random model: all are used, and the manifest says so."""
    prompts = pl.read_parquet(finished / "prompts.parquet").filter((pl.col("role") == "fit") & (pl.col("task") == "OR"))
    prompts = prompts.filter(pl.col("set") == "fit0")
    model = AutoModelForCausalLM.from_pretrained(llama_folder).eval()
    states, right = [], []
    for row in prompts.iter_rows(named=True):
        with torch.no_grad():
            found = model(torch.tensor([row["token_ids"]]), output_hidden_states=True)
        states.append(found.hidden_states[3][0, -1])  # behind block 2; the last entry would be normed
        right.append(int(found.logits[0, -1].argmax()) == row["answer_ids"][0])
    chosen = [s for s, r in zip(states, right, strict=True) if r] or states
    mean = load_file(finished / "vectors.safetensors")["positive/OR/2"]
    torch.testing.assert_close(mean, torch.stack(chosen).mean(0), atol=2e-5, rtol=1e-4)
    noted = json.loads((finished / "manifest.json").read_text())["fallbacks"]
    assert any("OR" in note for note in noted) == (not any(right))


def test_fit_and_evaluation_rows_are_disjoint(finished):
    prompts = pl.read_parquet(finished / "prompts.parquet")

    def inputs(role: str) -> set[str]:
        texts = prompts.filter(pl.col("role") == role)["text"]
        return {line.split(" ->")[0] for text in texts for line in text.split("\n")}

    assert inputs("fit") and not inputs("fit") & inputs("evaluate")
    assert not inputs("fit") & inputs("decodability")


def test_the_same_command_again_does_no_work(finished, monkeypatch):
    import patchboard.engine.load

    def refuse(*args):
        raise AssertionError("a finished run was computed again")

    monkeypatch.setattr(patchboard.engine.load, "load_weights", refuse)
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    assert run_study(load_study(finished / "spec.yaml"), Options(out=finished)) == finished
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()} == before


def test_another_runs_folder_is_refused_and_left_alone(finished):
    tree = load_study(finished / "spec.yaml").tree | {"metrics": ["accuracy"]}
    before = (finished / "manifest.json").read_bytes()
    with pytest.raises(RunFolderError, match="holds a run of another spec .*; give another --out, or --fresh"):
        run_study(study_of(tree), Options(out=finished))
    assert (finished / "manifest.json").read_bytes() == before


def test_a_folder_of_other_things_is_refused(tmp_path, small_tree):
    (tmp_path / "thesis.tex").write_text("years of work")
    for fresh in (False, True):
        with pytest.raises(RunFolderError, match="holds other things than a run"):
            run_study(study_of(small_tree), Options(out=tmp_path, fresh=fresh))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_rows_and_packed_give_the_same_outcomes(finished, outcomes, tmp_path):
    study = load_study(finished / "spec.yaml")
    again = run_study(study, Options(out=tmp_path / "rows", engine="rows"))
    rows = pl.read_parquet(again / "outcomes.parquet")
    keys = [c for c in outcomes.columns if c not in ("clean", "patched")]
    assert rows.select(keys).equals(outcomes.select(keys))
    smooth = outcomes["metric"].is_in(["logprob", "kl", "logit_difference"])
    for column in ("clean", "patched"):
        np.testing.assert_allclose(rows.filter(smooth)[column], outcomes.filter(smooth)[column], atol=3e-5)
    shutil.rmtree(again)


def test_a_run_is_bound_to_its_data(tmp_path, llama_folder):
    """Other contents under the same path are another run, finished or not."""

    words = "baker river garden letter boat child mountain teacher".split()
    file = tmp_path / "twins.json"
    file.write_text(json.dumps([{"input": w, "output": w} for w in words]))
    tree = {
        "model": {"name": str(llama_folder)}, "tasks": {"family": "pairs", "files": [str(file)], "include_null": False},
        "prompts": {"shots": 1, "queries": 2}, "interventions": {"zeroed": {"op": "zero", "layers": [1]}},
        "decodability": None,
    }  # fmt: skip
    options = Options(out=tmp_path / "run")
    run_study(study_of(tree), options)
    file.write_text(json.dumps([{"input": w, "output": w} for w in reversed(words)]))
    with pytest.raises(RunFolderError, match="was run on other contents of .*twins.json .was .*, now .*; use --fresh"):
        run_study(study_of(tree), options)
    run_study(study_of(tree), Options(out=tmp_path / "run", fresh=True))


def small(llama_folder, **changes) -> dict:
    vector = {"mean": "same_task", "shots": 1, "prompts": 3}
    return {
        "model": {"name": str(llama_folder)},
        "tasks": {"family": "bitwise", "bits": 4, "only": ["AND", "OR"], "include_null": False},
        "prompts": {"shots": 1, "queries": 3},
        "interventions": {"positive": {"op": "patch", "vector": vector, "layers": 1}},
        "decodability": None,
        **changes,
    }  # fmt: skip


@pytest.mark.slow
def test_sweeping_a_section_gives_each_setting_vectors_of_its_own(llama_folder, tmp_path):
    swept = small(llama_folder, prompts={"sweep": [{"shots": 1, "queries": 3, "seed": seed} for seed in (0, 1)]})
    vectors = load_file(run_study(study_of(swept), Options(out=tmp_path / "swept")) / "vectors.safetensors")
    for seed in (0, 1):
        alone = small(llama_folder, prompts={"shots": 1, "queries": 3, "seed": seed})
        found = load_file(run_study(study_of(alone), Options(out=tmp_path / str(seed))) / "vectors.safetensors")
        matching = [
            v for key, v in vectors.items() if key.endswith("/AND/1") and torch.equal(v, found["positive/AND/1"])
        ]
        assert len(matching) == 1


def test_swept_models_each_have_their_vectors_cd_and_rows(llama_folder, tmp_path):
    """The same model under two names: everything measured must agree, and be told apart."""
    other = tmp_path / "other"
    shutil.copytree(llama_folder, other)
    names = [str(llama_folder), str(other)]
    tree = small(llama_folder, model={"name": {"sweep": names}}, decodability={"k": 2, "prompts": 4, "shots": [1]})
    folder = run_study(study_of(tree), Options(out=tmp_path / "run"))
    for table, columns in (("outcomes", ["clean", "patched"]), ("decodability", ["cd"])):
        found = pl.read_parquet(folder / f"{table}.parquet").filter(pl.col("model.name") == names[0])
        twin = pl.read_parquet(folder / f"{table}.parquet").filter(pl.col("model.name") == names[1])
        assert len(found) == len(twin) > 0
        assert found.select(columns).equals(twin.select(columns))
    assert {p.name for p in folder.glob("*vectors.safetensors")} == {"m0-vectors.safetensors", "m1-vectors.safetensors"}


def test_both_names_of_the_random_control_give_one(llama_folder, tmp_path):
    erased = {"op": "ablate", "vector": {"subspace": "tasks", "shots": 1, "prompts": 3}, "layers": 1}
    tree = small(llama_folder, controls=["random", "random_subspace"], interventions={"erased": erased})
    outcomes = pl.read_parquet(run_study(study_of(tree), Options(out=tmp_path / "run")) / "outcomes.parquet")
    keys = [c for c in outcomes.columns if c not in ("clean", "patched")]
    assert outcomes.select(keys).is_unique().all()
    assert set(outcomes["control"]) == {"", "random_subspace"}


def test_a_fit_position_without_tokens_is_refused(llama_folder, tmp_path):
    vector = {"mean": "same_task", "shots": 0, "prompts": 3}
    tree = small(llama_folder, interventions={"p": {"op": "patch", "vector": vector, "position": "demo_inputs"}})
    with pytest.raises(SpecError, match=r"position demo_inputs names no token in any fit prompt of AND \(0 shots\)"):
        run_study(study_of(tree), Options(out=tmp_path / "runs" / "run"))
    assert not (tmp_path / "runs").exists(), "bad input leaves nothing behind"


def test_statistics_cannot_be_swept(llama_folder, tmp_path):
    tree = small(llama_folder, statistics={"level": {"sweep": [0.9, 0.95]}})
    with pytest.raises(SpecError, match=r"statistics.level: cannot be swept"):
        run_study(study_of(tree), Options(out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_difference_from_another_tasks_side_keeps_each_tasks_vector(llama_folder, tmp_path):
    """[a, same_task] at strength 1 is [same_task, a] at strength -1, for every task."""
    common = {"shots": 1, "prompts": 3}
    tree = small(
        llama_folder,
        interventions={
            "there": {"op": "add", "vector": {"difference": ["same_task", "all_tasks"], **common}, "strength": -1},
            "back": {"op": "add", "vector": {"difference": ["all_tasks", "same_task"], **common}},
        },
    )
    outcomes = pl.read_parquet(run_study(study_of(tree), Options(out=tmp_path / "run")) / "outcomes.parquet")
    by_name = {name: rows["patched"] for (name,), rows in outcomes.group_by("intervention", maintain_order=True)}
    np.testing.assert_allclose(by_name["there"], by_name["back"], atol=1e-5)
    assert outcomes.filter(pl.col("metric") == "kl")["patched"].max() > 1e-6


def test_a_typo_beside_fresh_costs_nothing(llama_folder, tmp_path):
    folder = run_study(study_of(small(llama_folder)), Options(out=tmp_path / "run"))
    before = (folder / "outcomes.parquet").read_bytes()
    wrong = study_of(small(llama_folder), {"interventions.positive.layers": 9})
    with pytest.raises(SpecError, match="no layer 9"):
        run_study(wrong, Options(out=folder, fresh=True))
    assert (folder / "outcomes.parquet").read_bytes() == before
