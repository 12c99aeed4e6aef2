"""Where a run does something else than asked, or measures nothing, it says so: in fallbacks or on the line."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from safetensors.torch import load_file

from patchboard.commands.main import main
from patchboard.execution.run import Options, run_study
from patchboard.spec import load_study, study_of
from tests.contract.tiny import VECTOR, manifest_of, one_error, run, tiny_tree, write


def ran(tree: dict, out: Path, *arguments: str) -> Path:
    assert run(tree, out, *arguments) == 0
    assert (out / "report.html").exists()
    return out


def fallbacks(folder: Path) -> list[str]:
    return manifest_of(folder)["fallbacks"]


def test_a_pool_smaller_than_the_queries_is_told(llama_folder, tmp_path, capsys):
    tasks = {"family": "bitwise", "bits": 4, "only": ["AND", "OR"]}
    tree = tiny_tree(llama_folder, tasks=tasks, interventions={"z": {"op": "zero", "layers": 1}}, decodability=None)
    folder = ran({**tree, "prompts": {"shots": 1, "queries": {"sweep": [2, 500]}}}, tmp_path / "run")
    most = 2**8 // 2  # half of all pairs of four bits
    assert pl.read_parquet(folder / "outcomes.parquet")["query"].max() == most - 1
    told = [note for note in fallbacks(folder) if "pool" in note]
    assert told == [f"task {task}: pool has {most} queries of the 500 asked for" for task in ("AND", "OR")]
    assert told[0] in (folder / "report.html").read_text()
    assert not any("pool" in note for note in fallbacks(ran(tree, tmp_path / "few")))
    assert main(["plan", write(tree, tmp_path / "spec.yaml"), "--prompts.queries=500"]) == 0
    assert capsys.readouterr().err.splitlines() == [f"note: {note}" for note in told]


@pytest.mark.parametrize("position", ["demo_outputs", pytest.param(500, marks=pytest.mark.slow)])
def test_an_intervention_that_fits_no_prompt_is_told(llama_folder, tmp_path, position):
    changes = {
        "prompts": {"shots": 0, "queries": 3},
        "interventions": {
            "nowhere": {"op": "zero", "position": position, "layers": [0, 1]},
            "somewhere": {"op": "zero", "layers": [0, 1]},
        },
    }
    folder = ran(tiny_tree(llama_folder, **changes), tmp_path / "run")
    assert pl.read_parquet(folder / "effects.parquet").filter(intervention="nowhere")["n"].max() == 0
    told = f"nowhere was measured on no query: its position ({position}) names no token of any evaluated prompt"
    assert [note for note in fallbacks(folder) if "no query" in note] == [told]


def test_a_strength_that_overflows_is_told_and_left_out(llama_folder, tmp_path):
    added = {"op": "add", "vector": VECTOR, "layers": [1, 2]}
    interventions = {"sane": added, "mad": {**added, "strength": 1e300}}
    tree = tiny_tree(llama_folder, interventions=interventions, decodability=None, metrics=["accuracy", "kl", "rank"])
    folder = ran(tree, tmp_path / "run", "--engine=rows")
    told = [note for note in fallbacks(folder) if "no finite numbers" in note]
    assert [note.split(" gave")[0] for note in told] == ["mad", "mad (random)"]
    assert "at layer 1, 2: 18 are left out" in told[0]  # 3 tasks, 3 queries, 2 layers
    outcomes = pl.read_parquet(folder / "outcomes.parquet")
    mad = outcomes.filter((pl.col("intervention") == "mad") & (pl.col("control") != "self"))
    assert mad["patched"].is_nan().all(), "an exact match of logits that are no numbers is no exact match"
    rest = outcomes.filter((pl.col("intervention") == "sane") | (pl.col("control") == "self"))
    assert rest["patched"].is_finite().all() and rest["clean"].is_finite().all()


@pytest.mark.parametrize("where", ["prompts.seed", "statistics.seed"])
def test_a_seed_that_no_column_holds_is_refused(llama_folder, tmp_path, capsys, where):
    assert run(tiny_tree(llama_folder), tmp_path / "run", f"--{where}={2**63}") == 2
    assert f"{where}: found 9223372036854775808, expected at most 9223372036854775807" in one_error(capsys)


def test_the_largest_seed_runs(llama_folder, tmp_path):
    tree = tiny_tree(llama_folder, decodability=None, prompts={"shots": 1, "queries": 3, "seed": 2**63 - 1})
    assert pl.read_parquet(ran(tree, tmp_path / "run") / "outcomes.parquet")["seed"].unique().to_list() == [2**63 - 1]


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [1, 4])
def test_notes_of_two_models_stand_once_after_a_resume(llama_folder, tmp_path, stop_at):
    """Each model's notes on its fit, not those of all models for each."""
    twin = shutil.copytree(llama_folder, tmp_path / "twin")
    names = [str(llama_folder), str(twin)]
    tree = tiny_tree(llama_folder, decodability=None) | {"model": {"name": {"sweep": names}}}
    left = [stop_at]

    def stop(phase: str, done: int, of: int) -> None:
        left[0] -= phase == "packs"
        if left[0] == 0:
            raise KeyboardInterrupt

    try:
        run_study(study_of(tree), Options(out=tmp_path / "run", tick=stop))
        pytest.fail("the run ended before it was stopped")
    except KeyboardInterrupt:
        pass
    notes = [n for n in fallbacks(ran(tree, tmp_path / "run")) if "no fit prompt" in n]
    assert [note.split(": ")[0] for note in notes] == names


def layers_of(folder: Path, name: str) -> list:
    own = pl.read_parquet(folder / "effects.parquet").filter(intervention=name, control="")
    return own["layers"].unique(maintain_order=True).to_list()


def test_layers_from_the_command_line(llama_folder, tmp_path, capsys):
    interventions = {
        "each": {"op": "zero", "layers": [0]},
        "whole": {"op": "zero", "layers": {"together": "all"}},
        "several": {"edits": [{"op": "zero", "layers": 1}, {"op": "scale", "strength": 2, "layers": 2}]},
    }
    tree = tiny_tree(llama_folder, interventions=interventions, decodability=None)
    folder = ran(tree, tmp_path / "run", "--layers=0,3")
    assert layers_of(folder, "each") == ["0", "3"]
    assert layers_of(folder, "whole") == ["0,3"], "layers edited together stay together"
    assert layers_of(folder, "several") == ["1,2"]
    assert load_study(folder / "spec.yaml").tree["interventions"]["whole"]["layers"] == {"together": [0, 3]}
    assert capsys.readouterr().err == "", "--quiet"

    spec = write(tree, tmp_path / "spec.yaml")
    for arguments in (["plan", spec], ["run", spec, "--out", str(folder)]):
        assert main([*arguments, "--layers=0,3"]) == 0
        assert capsys.readouterr().err.splitlines() == [
            "note: --layers leaves several as in the spec: set layers in each of its edits"
        ]


@pytest.mark.slow
def test_prompts_say_which_setting_they_are_of(llama_folder, tmp_path):
    """Two seeds: a row of outcomes finds its prompt by its own swept columns, and fits differ by seed only."""
    changes = {
        "prompts": {"queries": 3, "seed": {"sweep": [0, 7]}, "shots": {"sweep": [0, 1]}},
        "decodability": {"k": {"sweep": [1, 2]}, "prompts": 4, "shots": [1]},
    }
    folder = ran(tiny_tree(llama_folder, **changes), tmp_path / "run")
    prompts = pl.read_parquet(folder / "prompts.parquet")
    outcomes = pl.read_parquet(folder / "outcomes.parquet")
    for row in outcomes.select("task", "query", "shots", "seed").unique().iter_rows(named=True):
        swept = f"prompts.seed={row['seed']}, prompts.shots={row['shots']}"
        found = prompts.filter(role="evaluate", task=row["task"], query=row["query"], swept=swept)
        assert len(found) == 1 and found["shots"][0] == row["shots"]
    by_role = {role: set(prompts.filter(role=role)["swept"]) for role in ("fit", "decodability")}
    assert by_role["fit"] == {"prompts.seed=0", "prompts.seed=7"}
    assert by_role["decodability"] == {f"decodability.k={k}, prompts.seed={s}" for s in (0, 7) for k in (1, 2)}
    vectors = load_file(folder / "vectors.safetensors")
    assert {key.split("/")[0] for key in vectors} == {"p@prompts.seed=0", "p@prompts.seed=7"}


@pytest.mark.slow
def test_prompts_of_a_run_without_sweeps_and_of_a_swept_section(llama_folder, tmp_path):
    tree = tiny_tree(llama_folder, decodability=None)
    assert set(pl.read_parquet(ran(tree, tmp_path / "plain") / "prompts.parquet")["swept"]) == {""}
    sections = [{"shots": shots, "queries": 3} for shots in (0, 1)]
    folder = ran({**tree, "prompts": {"sweep": sections}}, tmp_path / "swept")
    prompts = pl.read_parquet(folder / "prompts.parquet")
    texts = [f"prompts={prompts.filter(role='evaluate', shots=s)['swept'][0].removeprefix('prompts=')}" for s in (0, 1)]
    assert all(f'"shots":{s}' in text for s, text in enumerate(texts))
    # the fit's own prompts are the same at both settings: they are of the one or the other
    assert set(prompts.filter(role="fit")["swept"]) == {" or ".join(texts)}


SWEPT = {
    "decodability": {"sweep": [None, {"k": 2, "prompts": 4, "shots": [1]}]},
    "controls": {"sweep": [["self"], [], ["random", "other_task"]]},
    "metrics": {"sweep": [["accuracy"], ["logprob", "accuracy"]]},
}
SAYS = {
    "decodability": "among the 2 nearest other prompts",
    "controls": "or none or random (random vectors of the same norm) and other_task (another task&#39;s vector or",
    "metrics": "Metrics: accuracy and logprob and accuracy (swept)",
}


@pytest.mark.slow
@pytest.mark.parametrize("section", SWEPT)
def test_a_swept_section_can_be_reported(llama_folder, tmp_path, section):
    folder = ran(tiny_tree(llama_folder, **{section: SWEPT[section]}), tmp_path / "run")
    assert SAYS[section] in (folder / "report.html").read_text()


@pytest.mark.slow
def test_a_swept_control_can_be_reported(llama_folder, tmp_path):
    controls = ["self", {"sweep": [{"random": {"draws": 2}}, "other_task"]}]
    folder = ran(tiny_tree(llama_folder, controls=controls, decodability=None), tmp_path / "run")
    page = (folder / "report.html").read_text()
    assert (
        "and random (random vectors of the same norm, 2 draws) or other_task (another task&#39;s vector or state)"
        in page
    )


def test_random_edges_that_cannot_be_drawn_are_told_with_the_plan(llama_folder, tmp_path, capsys):
    """In how many queries, with the numbers of the first: there the table has no value."""
    often = {"op": "knock_out", "edges": {"from": ["demo_inputs", "demo_outputs", "query"], "to": "last"}, "layers": 1}
    fits = {**often, "edges": {"from": "demo_outputs", "to": "last"}}
    tree = tiny_tree(llama_folder, interventions={"cut": often, "fits": fits}, controls=["random_edges"])
    tree |= {"decodability": None, "tasks": {"family": "bitwise", "bits": 4, "only": ["AND"]}}
    folder = ran(tree, tmp_path / "run")
    (note,) = [note for note in fallbacks(folder) if "random_edges" in note]
    rows = pl.read_parquet(folder / "outcomes.parquet").filter(control="random_edges", metric="logprob")
    measured = {name: int(rows.filter(intervention=name)["patched"].is_finite().sum()) for name in ("cut", "fits")}
    assert measured["fits"] == 3 and measured["cut"] < 3
    assert note.startswith(f"cut (random_edges) is not measured on {3 - measured['cut']} of 3 queries of AND: ")
    assert note in (folder / "report.html").read_text().replace("&gt;", ">")
    assert main(["plan", write(tree, tmp_path / "spec.yaml")]) == 0
    assert f"note: {note}" in capsys.readouterr().err.splitlines()
