"""Runs with probes: the table by hand from plain hooks, resumed runs, the twin, the report, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from transformers import AutoModelForCausalLM

import patchboard as pb
from patchboard.engine.local import LocalEngine
from patchboard.errors import SpecError
from patchboard.execution.planned import plan_study
from patchboard.execution.run import Options, run_study
from patchboard.measure.probing import folds_of
from patchboard.report.findings import findings
from patchboard.report.run_files import read_run
from patchboard.spec import study_of
from patchboard.store.schema import PROBED, TWIN
from patchboard.track.series import series
from patchboard.track.tables import tables
from patchboard.track.values import summary_values
from tests.contract.tiny import one_error, run, tiny_tree

PROBES = ["logistic", "mass_mean", "mlp", "knn"]
QUICK = ["knn"]


def tree(model: Path, twin: bool = True, probes: list[str] = PROBES, shots: tuple[int, ...] = (0, 2)) -> dict:
    section = {"k": 3, "prompts": 12, "shots": list(shots), "probes": probes, "twin": twin}
    return tiny_tree(model, interventions={}, controls=[], decodability=section)


@pytest.fixture(scope="module")
def run_of(llama_folder, tmp_path_factory) -> Callable[..., Path]:
    """run_of(*probes): the folder of an undisturbed run, made once."""

    @cache
    def made(*probes: str) -> Path:
        return run_study(
            study_of(tree(llama_folder, probes=[*probes])), Options(tmp_path_factory.mktemp("probes") / "run")
        )

    return made


@pytest.fixture(scope="module")
def finished(run_of) -> Path:
    return run_of(*PROBES)


@pytest.fixture(scope="module")
def table(finished) -> pl.DataFrame:
    return pl.read_parquet(finished / "probes.parquet")


def test_every_task_layer_probe_and_number_of_shots_has_a_row(table):
    assert table.columns == [*PROBED, *TWIN]
    assert table.height == len(PROBES) * 4 * 2 * 5  # layers, shots, three tasks with Null and ALL
    assert table["accuracy"].n_unique() > 10
    features = table.group_by("task", "probe", "shots").agg(pl.col("random_features").n_unique())
    assert (features["random_features"] == 1).all(), "of tokens alone, the same at every layer"


def test_it_is_the_cross_validation_that_one_writes_by_hand(llama_folder, table):
    """A forward pass a prompt, plain hooks, scikit-learn with no span: only the folds are the house's."""
    ((plan),) = plan_study(study_of(tree(llama_folder)))
    (decoding,) = plan.decodings
    prompts = [prompt for rows in decoding.prompts.values() for prompt in rows]
    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    seen, layer, shots = [], 2, 2
    hook = model.model.layers[layer].register_forward_hook(
        lambda module, given, out: seen.append((out[0] if isinstance(out, tuple) else out)[0, -1].numpy())
    )
    with torch.no_grad():
        for prompt in prompts:
            model(torch.tensor([prompt.token_ids]))
    hook.remove()
    states, texts = np.stack(seen).astype(float), [prompt.text.splitlines()[-1] for prompt in prompts]
    codes = np.array([list(decoding.prompts).index(prompt.task) for prompt in prompts])
    queries = np.unique(texts, return_inverse=True)[1]
    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    assert len(number) == queries.max() + 1
    right = np.zeros(len(codes))
    for train, test in folds_of(codes, np.array([number[text] for text in texts]), decoding.seed):
        scaler = StandardScaler().fit(states[train])
        probe = LogisticRegression(max_iter=200).fit(scaler.transform(states[train]), codes[train])
        right[test] = probe.predict(scaler.transform(states[test])) == codes[test]
    row = table.filter(task="ALL", probe="logistic", layer=layer, shots=shots).row(0, named=True)
    assert row["accuracy"] == pytest.approx(right.mean(), abs=2.1 / len(codes))  # two points near a boundary


def test_probes_change_no_number_of_cd(finished, llama_folder, tmp_path):
    plain = run_study(study_of(tree(llama_folder, probes=[])), Options(tmp_path / "run"))
    cd = pl.read_parquet(finished / "decodability.parquet")
    assert cd.equals(pl.read_parquet(plain / "decodability.parquet"))
    assert not (plain / "probes.parquet").exists()
    assert "probes" not in json.loads((plain / "summary.json").read_text())


@pytest.mark.parametrize("probes", [QUICK, pytest.param(PROBES, marks=pytest.mark.slow)], ids=["quick", "all"])
@pytest.mark.parametrize("stopped_at", [2, 6], ids=["in the model", "in the twin"])
def test_a_killed_run_goes_on_to_the_same_table_without_fitting_anew(
    stopped_at, probes, run_of, llama_folder, tmp_path, monkeypatch
):
    from patchboard.execution import probe_parts

    undisturbed = run_of(*probes)
    study, options, fitted = study_of(tree(llama_folder, probes=probes)), Options(tmp_path / "run"), []
    fit = probe_parts.cross_validated
    at_once = 2  # numbers of shots: calls a layer

    def counting(states, *given):
        if given[3:]:  # of states; random features report no steps
            if len(fitted) == stopped_at * at_once:
                raise KeyboardInterrupt
            fitted.append(1)
        return fit(states, *given)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(probe_parts, "cross_validated", counting)
        run_study(study, options)
    stopped_at = 10**6
    decoded, decode = [], LocalEngine.decode
    monkeypatch.setattr(LocalEngine, "decode", lambda *asked: decoded.append(1) or decode(*asked))
    monkeypatch.setattr(probe_parts, "cross_validated", counting)
    folder = run_study(study, options)
    assert len(fitted) == 8 * at_once, "four layers of the model and of the twin, each once"
    assert pl.read_parquet(folder / "probes.parquet").equals(pl.read_parquet(undisturbed / "probes.parquet"))
    assert (folder / "summary.json").read_bytes() == (undisturbed / "summary.json").read_bytes()


def test_a_finished_run_whose_table_is_gone_is_refused(finished, llama_folder, tmp_path, capsys):
    out = tmp_path / "run"
    assert run(tree(llama_folder, twin=False, probes=["knn"]), out) == 0
    (out / "probes.parquet").unlink()
    assert run(tree(llama_folder, twin=False, probes=["knn"]), out) == 2
    assert "probes.parquet" in one_error(capsys)


def test_page_findings_and_mirror_tell_of_each_probe(finished, table):
    of_run = read_run(finished)
    told, page = " ".join(findings(of_run.summary)), (finished / "report.html").read_text()
    values, logged = summary_values(of_run), series(of_run)
    for probe in PROBES:
        entry = of_run.summary["probes"][probe]
        own = table.filter(task="ALL", probe=probe, shots=2).sort("layer")
        assert entry["accuracy"] == own["accuracy"].max() == values[f"probe/accuracy/{probe}"]
        assert f"A {probe} probe finds the task in {entry['accuracy']:.2f}" in told
        assert f"<td>{probe}<td>{entry['layer']}" in page
        assert list(logged[f"probe/{probe}"].values()) == own["accuracy"].to_list()
        assert entry["agreement"] is None or -1 <= entry["agreement"]["spearman"] <= 1
    assert tables(of_run)["probes"].height == table.height
    assert {"probes.png", "probes-cd.png"} <= {file.name for file in (finished / "figures").iterdir()}
    opened = pb.open(finished)
    assert opened.probes.equals(table) and opened.plot("probes", number=2).axes


def test_a_swept_setting_without_probes_has_no_rows(llama_folder, tmp_path):
    tree_ = tree(llama_folder, twin=False, probes=["mass_mean"], shots=(1,))
    tree_["decodability"]["probes"] = {"sweep": [["mass_mean"], ["knn"]]}
    folder = run_study(study_of(tree_), Options(tmp_path / "run"))
    table = pl.read_parquet(folder / "probes.parquet")
    assert dict(table.select("decodability.probes", "probe").unique().iter_rows()) != {}
    assert table.group_by("probe").len()["len"].to_list() == [4 * 5] * 2
    assert set(json.loads((folder / "summary.json").read_text())["probes"]) == {"mass_mean", "knn"}


def test_too_few_queries_are_refused_before_the_model(llama_folder, tmp_path):
    (tmp_path / "few.json").write_text(json.dumps([{"input": f"{i:04b}", "output": "1100"} for i in range(8)]))
    section = {"k": 2, "prompts": 6, "shots": [0], "probes": ["knn"]}
    changed = {"tasks": {"family": "pairs", "files": [str(tmp_path / "few.json")]}, "interventions": {}}
    study = study_of(tiny_tree(llama_folder, decodability=section, controls=[], **changed))
    with pytest.raises(SpecError, match="4 different queries after 0 demonstrations") as raised:
        plan_study(study)
    assert raised.value.where == "decodability.probes"


def test_a_host_is_asked_for_no_probes(llama_folder, tmp_path, capsys):
    tree_ = tree(llama_folder, twin=False)
    tree_["model"] = {"name": "meta-llama/Llama-3.1-8B"}
    assert run(tree_, tmp_path / "run", "--remote", "http://127.0.0.1:1") == 2
    assert one_error(capsys).startswith("error: decodability.probes: found [")
