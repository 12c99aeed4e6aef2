"""Checkpoints of one training: their steps, what is measured of each, and the script, against literal formulas."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, spearmanr

from patchboard.errors import SpecError
from patchboard.experiment.emergence import half_risen, share_interval
from patchboard.experiment.revisions import folders, in_order, listed_of, step_of
from patchboard.experiments.checkpoints.study import swept_over
from patchboard.measure.statistics import Bootstrap
from patchboard.spec import load_study
from tests.conftest import ROOT
from tests.scripts import SMALL_STUDY, ran


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step1000-tokens4B", 1000), ("stage1-step140000-tokens294B", 140000), ("checkpoint-500", 500),
        ("runs/7/Step_32", 32), ("step-8/", 8), ("gpt2-step3", 3), ("step0", 0), ("main", None), ("run3/last", None),
    ],
)  # fmt: skip
def test_the_step_is_read_from_the_last_name(name, step):
    assert step_of(name) == step


@given(st.lists(st.integers(0, 10**7), min_size=2, max_size=20, unique=True))
def test_checkpoints_come_by_number_and_not_by_letter(steps):
    assert [each.step for each in in_order([f"ck/step{s}-tokens4B" for s in steps], "x")] == sorted(steps)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["step1", "last"], "'last' has no number"),
        (["step10-a", "step10-b"], "'step10-a' and 'step10-b' are both of step 10"),
        (["step1"], "gives 1 checkpoint, expected at least 2"),
    ],
)
def test_names_that_make_no_training_are_refused(names, told):
    with pytest.raises(SpecError, match=told):
        in_order(names, "--folders")


def test_a_pattern_without_a_match_tells_what_there_is(tmp_path):
    for name in ("step1", "step2"):
        (tmp_path / name).mkdir()
    (tmp_path / "step3.txt").touch()
    assert [each.step for each in folders(f"{tmp_path}/step*")] == [1, 2]
    with pytest.raises(SpecError, match="no folder matches .*epoch.*holds step1, step2$"):
        folders(f"{tmp_path}/epoch*")


def test_half_of_a_rise_is_the_first_step_that_reaches_it():
    steps = [1, 2, 4, 8, 16]

    def around(values: list[float], width: float) -> list[tuple[float, float, float]]:
        return [(value, value - width, value + width) for value in values]

    values = [0.2, 0.1, 0.55, 0.4, 0.8]  # half the way from .2 to .8 is .5, reached at 4 and left again
    assert half_risen(steps, around(values, 0.1)) == 4
    assert half_risen(steps, around(values, 0.31)) is None, "intervals that overlap: no rise to halve"
    assert half_risen(steps, around(values[::-1], 0.01)) is None


@pytest.mark.parametrize(("n", "right"), [(100, 37), (12, 12), (40, 1)])
def test_the_interval_of_a_share_is_the_binomial_one(n, right):
    """A resample of n answers, of which a share p is right, has Binomial(n, p) right ones."""
    rows = pl.DataFrame({"task": ["AND"], "n": [n], "accuracy": [right / n]})
    low, high = share_interval(rows, Bootstrap(20_000, 0.95, 0))
    wanted = binom.ppf([0.025, 0.975], n, right / n) / n
    assert [low, high] == pytest.approx(wanted, abs=1.01 / n), "a step of 1/n is as close as 20,000 draws come"


def test_shares_of_several_tasks_are_resampled_within_each():
    """Two tasks that are all right and all wrong: every resample within them is half right."""
    rows = pl.DataFrame({"task": ["AND", "OR"], "n": [30, 30], "accuracy": [1.0, 0.0]})
    assert share_interval(rows, Bootstrap(200, 0.95, 0)) == (0.5, 0.5)
    assert all(np.isnan(share_interval(rows.clear(), Bootstrap(200, 0.95, 0))))


def script(*arguments: object) -> tuple[int, str, str]:
    return ran("checkpoints.py", *map(str, arguments))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Three random GPT-2s under the names of checkpoints, of which the last has another best layer than the others."""
    from tests.models import random_model, save

    parent = tmp_path_factory.mktemp("training")
    for seed, step in zip((2, 1, 0), (2, 10, 100), strict=True):
        save(random_model("gpt2", seed), parent / f"step{step}")
    return parent


def state_of(folder: Path) -> dict[Path, int]:
    return {each: each.stat().st_mtime_ns for each in folder.rglob("*") if each.is_file()}


@pytest.mark.slow
def test_a_training_of_another_family_resumes_and_tells_the_runs_own_numbers(trained, tmp_path, monkeypatch):
    out = tmp_path / "run"
    asked = ("--folders", f"{trained}/step*", *SMALL_STUDY, "--out", out)
    from patchboard.execution import local as local_run

    loaded: list[str] = []

    def interrupted(section, *rest):
        loaded.append(section.name)
        if len(loaded) == 2:
            raise KeyboardInterrupt
        return load(section, *rest)

    load = local_run.load_weights
    with monkeypatch.context() as patched:
        patched.setattr(local_run, "load_weights", interrupted)
        status, _, error = script(*asked)
    assert status == 130 and "resumes" in error and [Path(name).name for name in loaded] == ["step2", "step10"]
    status, told, error = script(*asked)
    assert (status, error) == (0, "") and str(out / "experiment" / "report.html") in told
    models = json.loads((out / "manifest.json").read_text())["models"]
    assert [each["token_layers"]["computed"] for each in models][0] == 0, "the first checkpoint was done"
    assert all(each["token_layers"]["computed"] for each in models[1:])
    check_numbers(out, trained)
    before = state_of(out)
    assert script(*asked)[1] == told and state_of(out) == before


@pytest.mark.slow  # some 10 s: everything twice
def test_fresh_starts_over(trained, tmp_path):
    out = tmp_path / "run"
    asked = ("--folders", f"{trained}/step*", *SMALL_STUDY, "--out", out)
    _, told, _ = script(*asked)
    before = state_of(out)
    assert script(*asked, "--fresh")[1] == told
    after = state_of(out)
    assert set(after) == set(before) and all(after[each] != before[each] for each in after)


def check_numbers(out: Path, trained: Path) -> None:
    """Each number of the experiment from the run's own tables, in loops."""
    table = pl.read_parquet(out / "decodability.parquet").filter(shots=2)
    effects, curves = (pl.read_parquet(out / f"{name}.parquet") for name in ("effects", "curves"))
    learned, caused = (pl.read_parquet(out / "experiment" / f"{name}.parquet") for name in ("learned", "caused"))
    summary = json.loads((out / "experiment" / "summary.json").read_text())
    names = [str(trained / f"step{step}") for step in (2, 10, 100)]

    def cd(name: str, task: str, layer: int) -> dict:
        return table.filter(pl.col("model.name") == name, task=task, layer=layer).row(0, named=True)

    layer = max(range(4), key=lambda layer: (cd(names[-1], "ALL", layer)["cd"], -layer))
    assert summary["layer"] == layer and summary["steps"] == [2, 10, 100]
    pooled = table.filter(task="ALL").group_by("layer").agg(pl.col("cd").mean()).sort("cd")["layer"][-1]
    assert pooled != layer, "the best layer of all checkpoints would prove nothing of the last one's"
    for row in learned.iter_rows(named=True):
        name = str(trained / f"step{row['step']}")
        here = cd(name, row["task"], layer)
        assert (row["checkpoint"], row["cd"], row["n"]) == (name, here["cd"], here["n"])
        assert row["accuracy"] == here["accuracy"] or row["task"] == "Null"
        own = max(range(4), key=lambda layer: (cd(name, "ALL", layer)["cd"], -layer))
        assert (row["own_layer"], row["own_cd"]) == (own, cd(name, row["task"], own)["cd"])
        assert row["cd_low"] <= row["cd"] <= row["cd_high"]
    assert learned.height == 3 * 5
    for row in caused.filter(control="").iter_rows(named=True):
        source = curves if row["task"] == "ALL" else effects.filter(task=row["task"])
        name = str(trained / f"step{row['step']}")
        there = source.filter(pl.col("model.name") == name, layer=layer, metric="logprob", control="")
        assert [row[c] for c in ("effect", "ci_low", "n")] == list(there.select("effect", "ci_low", "n").row(0))
    assert caused.filter(control="random").height == 3 and caused["effect"].abs().max() > 1e-3
    overall, effect = learned.filter(task="ALL"), caused.filter(task="ALL", control="")
    for what, values in (("accuracy", overall["accuracy"]), ("added", effect["effect"])):
        wanted = spearmanr(overall["cd"], values).statistic if values.n_unique() > 1 else None
        assert summary["with_cd"][what] == {"spearman": wanted and pytest.approx(wanted), "n": 3}
    spread = {row["step"]: row for row in summary["over_tasks"]}
    for step in (2, 10, 100):
        own = [cd(str(trained / f"step{step}"), task, layer)["cd"] for task in ("AND", "OR", "XOR")]
        assert spread[step]["cd_mean"] == pytest.approx(np.mean(own))
        assert spread[step]["cd_sd"] == pytest.approx(np.std(own, ddof=1))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--folders", "nowhere/at/all*"), "--folders: no folder matches 'nowhere/at/all*'"),
        (("--folders", "{trained}/step*", "--revisions", "*"), "--folders: and --revisions are both given"),
        (("--folders", "{trained}/step*", "--model.revision={sweep: [a1, a2]}"), "--folders: is given, and model.rev"),
        (("--folders", "{trained}/step*", "--model", "some/name"), "--folders: 'some/name' is one checkpoint"),
        (("--model", "{trained}/step2"), "step2' is one checkpoint, expected several; give --folders"),
        (("--revisions", "step*"), "--revisions: 'embedded' has none; name a model of the Hub"),
        (("--revisions", "step*", "--model", "no/such"), "no revision of 'no/such' in the local cache (the Hub was"),
        (("--folders", "{trained}/step*", "--prompts.shots={sweep: [0, 4]}"), "prompts.shots: is swept, expected the"),
        (("--folders", "{trained}/step*", "--decodability=null"), "decodability: is null"),
        (("--folders", "{trained}/step*", "--interventions.added.site=head"), "interventions.added: edits several"),
        (("--folders", "{trained}/step*", "--folder", "x"), "--folder"),
        (("--model.name={sweep: [a/last, a/step2]}",), "model.name: 'a/last' has no number"),
    ],
)
def test_what_is_no_training_is_one_line_and_nothing_is_written(arguments, told, trained, tmp_path):
    given = [each.replace("{trained}", str(trained)) for each in arguments]
    status, output, error = script(*given, "--out", tmp_path / "run")
    assert status == 2 and not output and error.count("\n") == 1, error
    assert told in error
    assert not (tmp_path / "run").exists()


def test_the_embedded_model_stands_for_its_own_training(trained, monkeypatch):
    """By paths from here, which do not tell whose machine it was, and in its own precision."""
    study = load_study(ROOT / "experiments" / "specs" / "checkpoints.yaml")
    monkeypatch.chdir(trained.parent)
    found = swept_over(study, trained, None, None)
    assert found.axes == {"model.name": [f"{trained.name}/step{step}" for step in (2, 10, 100)]}
    assert {point.spec.model.dtype for point in found.points} == {"float32"}
    assert swept_over(study, Path("nowhere"), f"{trained.name}/step1*", None).axes["model.name"] == [
        f"{trained.name}/step{step}" for step in (10, 100)
    ]


def test_models_of_another_depth_are_no_checkpoints_of_one(trained, tmp_path):
    from tests.models import random_model, save

    for step in (2, 10):
        shutil.copytree(trained / f"step{step}", tmp_path / f"step{step}")
    save(random_model("gpt2", n_layer=2), tmp_path / "step20")
    status, _, error = script("--folders", f"{tmp_path}/step*", "--out", tmp_path / "run")
    assert status == 2 and "model.name: holds models of 2 and 4 layers, expected checkpoints of one" in error


@pytest.fixture
def cached(trained, tmp_path, monkeypatch) -> str:
    """A model of which the Hub's cache holds two revisions and main."""
    from huggingface_hub import constants

    cache = tmp_path / "cache"
    repo = cache / "models--someone--trained"
    (repo / "refs").mkdir(parents=True)
    (repo / "blobs").mkdir()
    for number, (ref, step) in enumerate({"step2-tokens1B": 2, "step100-tokens9B": 100, "main": 100}.items()):
        sha = f"{number}" * 40
        (repo / "refs" / ref).write_text(sha)
        shutil.copytree(trained / f"step{step}", repo / "snapshots" / sha)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    listed_of.cache_clear()
    return "someone/trained"


@pytest.mark.slow
def test_revisions_of_the_cache_are_taken_where_the_hub_is_out_of_reach_and_it_is_told(cached, tmp_path):
    asked = ("--model", cached, "--revisions", "step*-tokens*B", *SMALL_STUDY, "--out", tmp_path / "run")
    status, told, error = script(*asked)
    assert (status, error) == (0, "")
    assert "Revisions of the local cache only; the Hub was not reached: HF_HUB_OFFLINE is set." in told
    learned = pl.read_parquet(tmp_path / "run" / "experiment" / "learned.parquet")
    assert dict(learned.select("checkpoint", "step").rows()) == {"step2-tokens1B": 2, "step100-tokens9B": 100}
    own = learned.filter(task="ALL")
    assert own["cd"].n_unique() == 2, "two revisions, two models"
    status, _, error = script("--model", cached, "--revisions", "epoch*", "--out", tmp_path / "other")
    assert status == 2 and error.endswith("there is main, step100-tokens9B, step2-tokens1B\n")


class _Refs(BaseHTTPRequestHandler):
    """The Hub's answer about the branches and tags of one model."""

    def do_GET(self) -> None:
        known = self.path == "/api/models/someone/trained/refs"
        commit = "0" * 40
        refs = {
            "branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": commit}],
            "tags": [{"name": f"step{s}", "ref": f"refs/tags/step{s}", "targetCommit": commit} for s in (5, 30)],
            "converts": [],
        }
        self.send_response(200 if known else 404)
        if not known:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(refs if known else {}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Refs)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_hub_itself_is_asked_for_branches_and_tags(hub):
    """In a process of its own: the Hub's address is read once, on import."""
    code = (
        "from patchboard.experiment.revisions import listed_of, revisions\n"
        "print(listed_of('someone/trained'))\n"
        "print([each.step for each in revisions('someone/trained', 'step*')])\n"
        "try: listed_of('someone/else')\n"
        "except Exception as error: print(error)"
    )
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert found.stdout.splitlines() == [
        "Listed(names=('main', 'step5', 'step30'), unreached='')",
        "[5, 30]",
        "model.name: the Hub does not show the revisions of 'someone/else'; check the name and (for gated models)"
        " `hf auth login`",
    ], found.stderr
