"""`patchboard init`: every recipe is a spec that validates, plans and runs, and nothing is overwritten."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from patchboard.commands.main import main
from patchboard.recipes import recipes
from patchboard.spec import load_study
from tests.contract.tiny import one_error

RECIPES = ("erase", "heads", "pairs", "patch-sweep", "pos", "remote")
SMALL = ("--prompts.queries=4", "--statistics.bootstrap=100")


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def init(capsys, *arguments: str) -> list[str]:
    assert main(["init", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_without_a_name_they_are_listed(capsys):
    lines = init(capsys)
    assert tuple(line.split()[0] for line in lines) == RECIPES == tuple(recipes())
    assert not list(Path().iterdir())


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_valid_and_plans(name, capsys, llama_folder):
    *written, last = init(capsys, name)
    assert written[0] == f"wrote {name}.yaml"
    assert main(["validate", f"{name}.yaml"]) == 0
    plan, run = (shlex.split(part.strip())[1:] for part in last.removeprefix("next: ").split(", then "))
    assert plan[0] == "plan" and run[0] == "run"
    # the hosted model's tokenizer and configuration are on the Hub
    elsewhere = ["--model", str(llama_folder), "--tasks.bits=4"] if name == "remote" else []
    assert main([*plan, *elsewhere]) == 0
    assert "0 cells" not in capsys.readouterr().out
    text = Path(f"{name}.yaml").read_text()
    assert text.count("#") > 12 and YAML(typ="safe").load(text)["name"] == load_study(Path(f"{name}.yaml")).name == name


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"remote"}))
def test_a_recipe_runs(name, capsys):
    init(capsys, name)
    assert main(["run", f"{name}.yaml", "--layers", "1", "--out", "run", "--quiet", *SMALL]) == 0
    assert Path("run/report.html").exists()


def test_data_lies_beside_the_spec_wherever_that_is(capsys):
    out = Path("a, b") / 'my "own".yaml'
    init(capsys, "pairs", "--out", str(out))
    assert {path.name for path in (out.parent / "example_pairs").iterdir()} == {"and.json", "or.json"}
    assert main(["validate", str(out)]) == 0


@pytest.mark.parametrize("there", ["pairs.yaml", "example_pairs/or.json"])
def test_nothing_is_overwritten(there, capsys):
    Path(there).parent.mkdir(exist_ok=True)
    Path(there).write_text("mine")
    assert main(["init", "pairs"]) == 2
    assert f"error: {there}: is there already" in one_error(capsys)
    assert [path for path in Path().rglob("*") if path.is_file()] == [Path(there)] and Path(there).read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pars"], "unknown recipe 'pars'; did you mean 'pairs'?"),
        (["pairs", "--out", "file/x.yaml"], "cannot be written"),
        (["--out", "x.yaml"], "was given without a recipe"),
        (["pairs", "pos"], "pos"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, says, capsys):
    Path("file").touch()
    assert main(["init", *arguments]) == 2
    assert says in one_error(capsys)
    assert [path.name for path in Path().iterdir()] == ["file"]
