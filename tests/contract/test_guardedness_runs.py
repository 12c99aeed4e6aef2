"""Fresh probes after ablation: what LEACE promises and what it does not, by hand from plain hooks, resumed runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from transformers import AutoModelForCausalLM

import patchboard as pb
from patchboard.engine.erased import states_of_copies
from patchboard.engine.load import load_weights, open_model
from patchboard.engine.local import LocalEngine
from patchboard.errors import SpecError
from patchboard.execution import guardedness
from patchboard.execution.planned import plan_study
from patchboard.execution.run import Options, run_study
from patchboard.measure.decodability import ALL
from patchboard.measure.probing import folds_of
from patchboard.ops import SubspaceTensors
from patchboard.plan.cost import cost_of
from patchboard.plan.guardedness import group_of, usable
from patchboard.plan.packs import Budget
from patchboard.report.findings import findings
from patchboard.report.guarded_findings import sentences_of_guardedness
from patchboard.report.run_files import read_run
from patchboard.spec import study_of
from patchboard.store.schema import GUARDED
from patchboard.track.tables import tables
from patchboard.track.values import summary_values
from tests.contract.tiny import one_error, run, tiny_tree
from tests.unit.test_twin import DEFAULT_DIGEST

LEACE = {"subspace": "tasks", "method": "leace", "shots": 1, "prompts": 12}
PCA = {**LEACE, "method": "pca", "rank": 1}
LAYERS = [1, 2]
PROBES = ["logistic", "mass_mean", "knn"]


def tree(model: Path, interventions: dict[str, Any] | None = None, **section: Any) -> dict[str, Any]:
    erased = {"op": "ablate", "layers": LAYERS}
    named = {"leace": {**erased, "vector": LEACE}, "pca": {**erased, "vector": PCA}}
    asked = {"probes": PROBES, "k": 3, "prompts": 12, **section}
    return tiny_tree(
        model, interventions=interventions or named, controls=["self", "random"], decodability=None, guardedness=asked
    )


@pytest.fixture(scope="module")
def finished(llama_folder, tmp_path_factory) -> Path:
    return run_study(study_of(tree(llama_folder)), Options(tmp_path_factory.mktemp("guarded") / "run"))


@pytest.fixture(scope="module")
def table(finished) -> pl.DataFrame:
    return pl.read_parquet(finished / "guardedness.parquet")


def rows(table: pl.DataFrame, **fields: Any) -> pl.DataFrame:
    return table.filter(*(pl.col(name) == value for name, value in {"task": ALL, "control": "", **fields}.items()))


def test_every_edited_and_later_layer_has_rows_of_both_halves(table):
    assert table.columns == [*GUARDED]
    of_cell = [(edited, probed) for edited in LAYERS for probed in range(edited, 4)]
    for control in ("", "random_subspace"):
        for half in ("fit", "held_out"):
            crossed = rows(table, half=half, tested="cross_validated", probe="knn", control=control, intervention="pca")
            assert sorted(crossed.select("layer", "probed_layer").iter_rows()) == of_cell
        sampled = rows(table, tested="in_sample", intervention="leace", control=control)
        assert set(sampled["probe"]) == {"logistic", "mass_mean"} and set(sampled["half"]) == {"fit"}
        assert (sampled["layer"] == sampled["probed_layer"]).all()
    assert set(table["control"]) == {"", "random_subspace"}, "nothing is erased by patching a state with itself"


def test_leace_leaves_linear_probes_the_best_constant_on_the_prompts_of_its_fit(table):
    sampled = rows(table, tested="in_sample", probe="logistic")
    leace, pca = (sampled.filter(intervention=name) for name in ("leace", "pca"))
    assert (leace["unablated"] > leace["constant"] + 0.3).all(), "or there was nothing to erase"
    assert (leace["accuracy"] == leace["constant"]).all()
    assert (pca["accuracy"] > pca["constant"] + 0.2).all(), "one direction is not all"
    random = rows(table, tested="in_sample", probe="logistic", control="random_subspace", intervention="leace")
    assert (random["accuracy"] > random["constant"] + 0.3).all()


def test_cross_validated_on_the_prompts_of_the_fit_linear_probes_lie_below_chance(table):
    """Means are equal over all of them, so that what a label's training prompts lack its tested ones have."""
    crossed = rows(table, tested="cross_validated", half="fit", probe="logistic", intervention="leace")
    edited = crossed.filter(pl.col("layer") == pl.col("probed_layer"))
    assert (edited["accuracy"] < edited["chance"]).all()


def by_hand(model: Any, subspace: Any, layer: int, probed: int, prompts: list[Any]) -> np.ndarray:
    """[prompt, d_model] a forward pass a prompt: the formula of ablate at the last token of a block's output."""
    right, left, center = subspace
    seen: list[np.ndarray] = []

    def edit(module: Any, given: Any, out: Any) -> Any:
        states = (out[0] if isinstance(out, tuple) else out).clone()
        states[0, -1] = states[0, -1] - (states[0, -1] - center) @ right.T @ left.T
        return (states, *out[1:]) if isinstance(out, tuple) else states

    def look(module: Any, given: Any, out: Any) -> None:
        seen.append((out[0] if isinstance(out, tuple) else out)[0, -1].numpy())

    blocks = model.model.layers
    hooks = [blocks[layer].register_forward_hook(edit), blocks[probed].register_forward_hook(look)]
    with torch.no_grad():
        for prompt in prompts:
            model(torch.tensor([prompt.token_ids]))
    for hook in hooks:
        hook.remove()
    return np.stack(seen)


@pytest.mark.parametrize("probed", [1, 3], ids=["at the edited layer", "two later"])
def test_it_is_what_plain_hooks_and_scikit_learn_find(finished, table, llama_folder, probed):
    ((plan),) = plan_study(study_of(tree(llama_folder)))
    (guarding,) = [each for each in plan.guardings if each.half == "held_out"]
    prompts = [prompt for each in guarding.prompts.values() for prompt in each]
    tensors = load_file(finished / "vectors.safetensors")
    subspace = tuple(tensors[f"leace/tasks/1{part}"] for part in ("", "/left", "/center"))
    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    states = by_hand(model, subspace, 1, probed, prompts).astype(float)
    codes = np.array([list(guarding.prompts).index(prompt.task) for prompt in prompts])
    texts = [prompt.text.splitlines()[-1] for prompt in prompts]
    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    right = np.zeros(len(codes))
    for train, test in folds_of(codes, np.array([number[text] for text in texts]), guarding.seed):
        scaler = StandardScaler().fit(states[train])
        probe = LogisticRegression(max_iter=200).fit(scaler.transform(states[train]), codes[train])
        right[test] = probe.predict(scaler.transform(states[test])) == codes[test]
    row = rows(
        table, half="held_out", probe="logistic", layer=1, probed_layer=probed, intervention="leace"
    ).row(0, named=True)  # fmt: skip
    assert row["accuracy"] == pytest.approx(right.mean(), abs=2.1 / len(codes))  # two points near a boundary
    assert row["n"] == len(codes)


@pytest.mark.parametrize("way", ["wavefront", "rows"])
@pytest.mark.parametrize("site", ["resid_post", "mlp_out"])
def test_states_after_edits_are_those_of_whole_passes(way, site, finished, llama_folder):
    """Every copy of every pack, in both ways, against an engine that is given one edit at a time as a row."""
    named = {"p": {"op": "ablate", "vector": PCA, "layers": [0, 1, 2], "site": site, "position": ["query", "last"]}}
    ((plan),) = plan_study(study_of(tree(llama_folder, named)))
    guarding = plan.guardings[-1]
    tokenizer, _ = open_model(plan.section)
    engine = LocalEngine(load_weights(plan.section, "cpu", "float32"), tokenizer, Budget(tokens=600))
    generator = torch.Generator().manual_seed(0)
    width = plan.facts.width
    drawn = {key: torch.randn(1, width, generator=generator) for key in plan.recipes}
    operands = {key: SubspaceTensors(d.T / d.norm() ** 2, d, torch.zeros(width)) for key, d in drawn.items()}
    prompts = usable(guarding.prompts["AND"])[:5]
    group = group_of(guarding, "AND", prompts, guarding.cells)
    first = [0, *(cell.cell.layer for cell in guarding.cells)]
    found = states_of_copies(engine, group, first, plan.facts, way, operands)
    for number, cell in enumerate(guarding.cells, start=1):
        for i, prompt in enumerate(prompts):
            alone = group_of(guarding, "AND", [prompt], [cell])
            (_, states) = states_of_copies(engine, alone, [0, first[number]], plan.facts, "rows", operands)
            assert np.allclose(found[number][i], states[0], atol=2e-5)
        assert np.abs(found[number] - found[0][:, first[number] :]).max() > 1e-2, "an edit that moves nothing"


def test_an_edit_of_no_strength_leaves_what_the_unedited_run_has(llama_folder, tmp_path):
    named = {"idle": {"op": "ablate", "vector": LEACE, "layers": [1], "strength": 0}}
    folder = run_study(study_of(tree(llama_folder, named, probes=["mass_mean", "knn"])), Options(tmp_path / "run"))
    table = pl.read_parquet(folder / "guardedness.parquet")
    apart = (table["accuracy"] - table["unablated"]).abs()  # a copy's states round otherwise than the clean run's
    assert (apart < 1e-9).sum() > 0.95 * len(apart) and apart.sum() < 0.005 * len(apart)
    assert table["accuracy"].n_unique() > 3


def test_the_points_of_the_fit_half_are_those_that_the_subspace_was_fitted_on(tmp_path):
    """The embedded model answers some prompts rightly and some not: `only: correct` leaves the latter out."""
    named = {"leace": {"op": "ablate", "vector": {**LEACE, "shots": 2, "prompts": 25}, "layers": [3]}}
    spec = {**tree(Path("embedded"), named, probes=["logistic"]), "model": {"name": "embedded"}}
    folder = run_study(study_of(spec), Options(tmp_path / "run"))
    table = pl.read_parquet(folder / "guardedness.parquet")
    sampled = rows(table, tested="in_sample").row(0, named=True)
    assert 25 < sampled["n"] < 4 * 25, "else all or none were right"
    assert sampled["accuracy"] == sampled["constant"] < sampled["unablated"]


FEWER = {"pca": {"op": "ablate", "layers": [2], "vector": PCA}}


@pytest.mark.parametrize(
    ("named", "whole"),
    [
        (FEWER, 2 * (2 + 2 * 2)),  # halves: layers of the unedited run, and of a cell and its control
        pytest.param(None, 2 * (3 + 2 * 2 * (3 + 2)), marks=pytest.mark.slow),  # and of two cells at two layers
    ],
    ids=["a cell", "four"],
)
def test_a_killed_run_goes_on_to_the_same_table_without_fitting_anew(named, whole, llama_folder, tmp_path, monkeypatch):
    study, options = study_of(tree(llama_folder, named)), Options(tmp_path / "run")
    undisturbed = run_study(study, Options(tmp_path / "undisturbed"))
    fitted, cross_validated = [], guardedness.cross_validated
    left = 20 if named is None else 8

    def counting(*asked: Any) -> Any:
        if len(fitted) == left:
            raise KeyboardInterrupt
        fitted.append(1)
        return cross_validated(*asked)

    monkeypatch.setattr(guardedness, "cross_validated", counting)
    with pytest.raises(KeyboardInterrupt):
        run_study(study, options)
    parts = list((tmp_path / "run" / "parts").glob("guard0-*.npz"))
    left = 10**6
    folder = run_study(study, options)
    assert pl.read_parquet(folder / "guardedness.parquet").equals(pl.read_parquet(undisturbed / "guardedness.parquet"))
    assert whole <= len(fitted) <= whole + 3 and len(parts) > (3 if named is None else 1), (
        "at most a cell's layers twice"
    )
    assert (folder / "summary.json").read_bytes() == (undisturbed / "summary.json").read_bytes()


def test_states_too_many_to_hold_at_once_change_nothing(table, llama_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(guardedness, "_BYTES_AT_ONCE", 1)
    folder = run_study(study_of(tree(llama_folder, probes=["knn"])), Options(tmp_path / "run"))
    again, table = pl.read_parquet(folder / "guardedness.parquet"), table.filter(probe="knn")
    near = pl.col("accuracy") - table["accuracy"]
    assert again.drop("accuracy", "ci_low", "ci_high", "unablated").equals(
        table.drop("accuracy", "ci_low", "ci_high", "unablated")
    )
    assert again.select(near.abs().max()).item() <= 2 / 12  # other packs round otherwise; points near a boundary


def test_page_findings_and_mirror_tell_of_it(finished, table):
    of_run = read_run(finished)
    told, page = " ".join(findings(of_run.summary)), (finished / "report.html").read_text()
    assert len(of_run.summary["guardedness"]) == 6
    entry = of_run.summary["guardedness"][0]
    assert f"After leace at layer {entry['layer']} a fresh logistic probe still finds the task in" in told
    assert "no more than the best constant" in told and "What fresh probes find after the edit" in page
    assert {"guardedness.png", "guardedness-edited.png"} <= {file.name for file in (finished / "figures").iterdir()}
    assert summary_values(of_run)["guardedness/after/leace/logistic"] == entry["held_out"]["accuracy"]
    assert tables(of_run)["guardedness"].height == table.height
    assert pb.open(finished).guardedness.equals(table)
    roles = pl.read_parquet(finished / "prompts.parquet")
    assert roles.filter(role="guardedness").height == 4 * 12


def test_the_plan_counts_the_tokens(finished, llama_folder):
    ((plan),) = plan_study(study_of(tree(llama_folder)))
    cost = cost_of(plan, "auto", Budget())
    manifest = json.loads((finished / "manifest.json").read_text())
    assert cost.token_layers == manifest["models"][0]["token_layers"]["computed"]
    assert cost.guarded_tokens > 0 and cost.bound <= cost.token_layers
    told = json.loads((finished / "plan.json").read_text())["models"][0]["guardings"]
    assert [each["half"] for each in told] == ["fit", "held_out"]


def test_the_plan_counts_the_fits(llama_folder, tmp_path, monkeypatch):
    from patchboard.measure import probing

    fitted, fit = [], probing.fitted_probe
    monkeypatch.setattr(probing, "fitted_probe", lambda *asked: fitted.append(asked[0]) or fit(*asked))
    spec = tree(llama_folder, FEWER, probes=["mass_mean", "knn"])
    spec["decodability"] = {"k": 2, "prompts": 6, "shots": [0], "probes": ["knn"], "twin": True}
    folder = run_study(study_of(spec), Options(tmp_path / "run"))
    cost = json.loads((folder / "plan.json").read_text())["models"][0]["cost"]
    assert cost["probe_fits"] == len(fitted) and {"knn", "mass_mean"} == set(fitted)


def test_too_few_prompts_of_the_fit_to_part_are_tested_in_sample_alone(llama_folder, tmp_path):
    named = {"leace": {"op": "ablate", "vector": {**LEACE, "prompts": 4}, "layers": [2]}}
    folder = run_study(study_of(tree(llama_folder, named)), Options(tmp_path / "run"))
    notes = json.loads((folder / "manifest.json").read_text())["fallbacks"]
    assert any("too few to part into 5 folds" in note for note in notes)
    table = pl.read_parquet(folder / "guardedness.parquet")
    assert set(table.filter(half="fit")["tested"]) == {"in_sample"}
    assert rows(table, half="held_out").height


def test_a_swept_rank_has_its_column_and_another_tasks_pca_no_null(llama_folder, tmp_path):
    swept = {"op": "ablate", "vector": {**PCA, "rank": {"sweep": [1, 2]}}, "layers": [2]}
    own = {"op": "ablate", "vector": {"pca": "same_task", "shots": 1, "prompts": 12}, "layers": [2]}
    spec = tree(llama_folder, {"swept": swept, "own": own}, probes=["mass_mean"])
    folder = run_study(study_of(spec), Options(tmp_path / "run"))
    table = pl.read_parquet(folder / "guardedness.parquet")
    ranks = rows(table, intervention="swept")["interventions.swept.vector.rank"]
    assert set(ranks) == {1, 2}
    assert set(table.filter(intervention="own")["task"]) == {"AND", "OR", "XOR", ALL}
    assert "Null" in set(table.filter(intervention="swept")["task"])
    told = {entry["intervention"]: entry for entry in json.loads((folder / "summary.json").read_text())["guardedness"]}
    warned = "lose a subspace of their own"
    assert warned in sentences_of_guardedness([told["own"]])[0]
    assert warned not in sentences_of_guardedness([told["swept"]])[0]


def test_specs_without_it_keep_their_digests(llama_folder):
    assert study_of({"guardedness": None}).digest == DEFAULT_DIGEST
    asked = study_of(tree(llama_folder))
    assert asked.digest == study_of(asked.tree).digest


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        ({"interventions": {"p": {"op": "zero", "layers": [1]}}}, "guardedness", "finds no intervention that erases"),
        ({"guardedness": {"probes": ["lda"]}}, "guardedness.probes[0]", "unknown probe 'lda'"),
        ({"guardedness": {"prompts": 3}}, "guardedness.prompts", "in 5 folds"),
        ({"guardedness": {"prompts": {"sweep": [12, 13]}}}, "guardedness.prompts", "cannot be swept"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes, where, what, llama_folder, tmp_path, capsys):
    assert run({**tree(llama_folder), **changes}, tmp_path / "run") == 2
    line = one_error(capsys)
    assert line.startswith(f"error: {where}: ") and what in line


def test_an_edit_at_no_token_of_a_held_out_prompt_is_refused(llama_folder):
    named = {"late": {"op": "ablate", "vector": PCA, "layers": [1], "position": "demo_outputs"}}
    with pytest.raises(SpecError, match="names no token before the answer") as raised:
        plan_study(study_of(tree(llama_folder, named, shots=0)))
    assert raised.value.where == "interventions.late.position"


def test_a_host_is_not_asked_for_it(llama_folder, tmp_path, capsys):
    spec = {**tree(llama_folder), "model": {"name": "meta-llama/Llama-3.1-8B"}}
    assert run(spec, tmp_path / "run", "--remote", "http://127.0.0.1:1") == 2
    assert one_error(capsys).startswith("error: guardedness: cannot be on a host")
