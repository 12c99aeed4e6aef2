"""The pages of docs/results: each is its template with the stored numbers, and the frame that makes them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, sys
from pathlib import Path

out = Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(parents=True, exist_ok=True)
calls = out / "calls"
calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
if (out.parents[2] / "broken").exists():
    sys.exit("error: broken on purpose")
if (out.parents[2] / "other-weights").exists() and "--fresh" not in sys.argv:
    print("error: out: was run on other contents of weights; use --fresh to start over", file=sys.stderr)
    sys.exit(2)
manifest = {"status": "finished", "identity": {"results": 1, "models": {"embedded": {"weights": "a1"}}}}
(out / "manifest.json").write_text(json.dumps(manifest))
(out / "number.json").write_text(json.dumps({"share": float(sys.argv[1]), "by_shots": {4: float("nan")}}))
(out / "figure.png").write_text(sys.argv[1])
"""

PAGE = """
import json
from pages.frame import Run

RUNS = {"here": Run("hijack", ".123456789"), "there": Run("hijack", ".5", needs=("json", "a_model_that_is_absent"))}
FIGURES = {"tiny.png": ("here", "figure.png")}


def values(name, folder):
    return json.loads((folder / "number.json").read_text())
"""

TEMPLATE = """# Tiny

{{ runs.here.share|two }}, {{ runs.here.by_shots[4]|two }}{% if runs.there %}, {{ runs.there.share|signed }}{% endif %}

"""


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """docs/make_results.py, whose folder is on sys.path where Python runs it."""
    sys.path.insert(0, str(ROOT / "docs"))
    import make_results  # type: ignore[import-not-found]

    yield make_results
    sys.path.remove(str(ROOT / "docs"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One page of two runs, of which one takes a model that is not installed; and one that draws on it."""
    for file, text in {
        "experiments/hijack.py": SCRIPT, "docs/pages/tiny.py": PAGE, "docs/pages/tiny.md.j2": TEMPLATE,
        "docs/pages/index.py": "RUNS = {}\n",
        "docs/pages/index.md.j2": "{{ pages.tiny.runs.here.share|three }}\n",
    }.items():  # fmt: skip
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    return tmp_path


def stored(repository: Path) -> dict:
    return json.loads((repository / "docs/results/data/tiny.json").read_text())


def test_each_page_is_its_template_with_the_stored_numbers(script):
    project = script.Project(ROOT)
    for page in map(project.page, project.names()):
        if page.runs and not script.stored.read(project, page.name):
            continue  # to be made
        assert page.place.read_text(encoding="utf-8") == script.rendered(project, page), page.name
        assert set(script.stored.read(project, page.name)) <= set(page.runs), page.name


def test_a_new_page_is_made_from_its_two_files(script, repository, capsys):
    assert script.main([], repository) == 0
    page = (repository / "docs/results/tiny.md").read_text()
    assert page.startswith(
        "# Tiny\n\n.12, –\n\n*Made by `python docs/make_results.py`. Results version: 1, measured 20"
    )
    assert (repository / "docs/results/index.md").read_text().startswith(".123\n")
    assert (repository / "docs/figures/tiny.png").read_text() == ".123456789"
    entry = stored(repository)["here"]
    assert entry["command"] == "python experiments/hijack.py .123456789"
    assert entry["models"] == {"embedded": {"weights": "a1"}} and entry["values"]["share"] == 0.123457
    assert "passed over: needs a_model_that_is_absent" in capsys.readouterr().out


def test_time_and_date_are_those_of_the_first_making_and_absent_models_keep_their_numbers(script, repository):
    assert script.main([], repository) == 0
    file = repository / "docs/results/data/tiny.json"
    entries = stored(repository)
    assert entries["here"]["seconds"] > 0
    entries["here"].update(seconds=1000, date="2020-02-02")
    entries["there"] = {**entries["here"], "command": "python experiments/hijack.py .5", "values": {"share": 0.5}}
    file.write_text(json.dumps(entries))
    assert script.main(["tiny"], repository) == 0
    assert stored(repository) == entries
    assert ".12, –, +.50" in (repository / "docs/results/tiny.md").read_text()


def test_a_failed_run_stops_its_page_alone_and_is_gone_on_with(script, repository, capsys):
    (repository / "runs").mkdir()
    for name in ("tiny.py", "tiny.md.j2"):
        (repository / "docs/pages" / f"other_{name}").write_text((repository / "docs/pages" / name).read_text())
    assert script.main(["tiny"], repository) == 0
    before = (repository / "docs/results/tiny.md").read_text()
    (repository / "runs/broken").write_text("")
    runs = ["--runs", str(repository / "runs/results")]
    assert script.main(["other_tiny", *runs], repository) == 1
    assert "error: broken on purpose\nexit status 1" in capsys.readouterr().err
    assert not (repository / "docs/results/other_tiny.md").exists()
    assert (repository / "docs/results/tiny.md").read_text() == before
    (repository / "runs/broken").unlink()
    assert script.main(runs, repository) == 0
    assert (repository / "runs/results/other_tiny/here/calls").read_text() == "xx"  # the same folder, gone on with


def test_a_model_that_cannot_be_fetched_is_passed_over(script, repository, capsys):
    failing = SCRIPT + "if sys.argv[1] == '.5': sys.exit('error: model.name: x could not be fetched by pip; y')"
    (repository / "experiments/hijack.py").write_text(failing)
    page = repository / "docs/pages/tiny.py"
    page.write_text(PAGE.replace('("json", "a_model_that_is_absent")', '"json"'))
    assert script.main(["tiny"], repository) == 0
    assert "could not be fetched; its stored numbers stay" in capsys.readouterr().out
    page.write_text(PAGE.replace(', needs=("json", "a_model_that_is_absent")', ""))
    assert script.main(["tiny"], repository) == 1


def test_folders_of_other_weights_are_started_over_and_foreign_ones_are_not(script, repository, capsys):
    assert script.main(["tiny"], repository) == 0
    (repository / "runs/other-weights").write_text("")
    assert script.main(["tiny"], repository) == 0
    assert "started over" in capsys.readouterr().out
    (repository / "runs/results/tiny/here.json").unlink()
    assert script.main(["tiny"], repository) == 1


def test_the_overview_says_what_is_to_do(script, repository, capsys):
    assert script.main(["--list"], repository) == 0
    assert "tiny/here: to do\ntiny/there: to do; needs a_model_that_is_absent" in capsys.readouterr().out
    assert script.main([], repository) == 0
    script.main(["--list"], repository)
    assert "finished 20" in capsys.readouterr().out
    entries = stored(repository)
    entries["here"]["results_version"] = 0
    (repository / "docs/results/data/tiny.json").write_text(json.dumps(entries))
    script.main(["--list"], repository)
    assert "of results version 0" in capsys.readouterr().out
    entries["here"].update(results_version=1, models={"embedded": {"model.safetensors": "of before"}})
    (repository / "docs/results/data/tiny.json").write_text(json.dumps(entries))
    (repository / "interventions/embedded/weights").mkdir(parents=True)
    (repository / "interventions/embedded/weights/model.safetensors").write_text("of today")
    script.main(["--list"], repository)
    assert "other contents of model.safetensors of the embedded model" in capsys.readouterr().out


def test_a_page_that_draws_on_another_is_written_with_it(script, repository):
    assert script.main([], repository) == 0
    (repository / "experiments/hijack.py").write_text(SCRIPT.replace("float(sys.argv[1])", ".25"))
    assert script.main(["tiny"], repository) == 0
    assert (repository / "docs/results/index.md").read_text().startswith(".250\n")
    before = "{% if pages.tiny.runs.here %}{{ pages.tiny.runs.here.share|two }}{% else %}nothing{% endif %}\n"
    for name in ("an_earlier.py", "an_earlier.md.j2"):  # made before the page that it draws on
        (repository / "docs/pages" / name).write_text(before if name.endswith("j2") else PAGE)
    (repository / "docs/results/data/tiny.json").unlink()
    assert script.main([], repository) == 0
    assert (repository / "docs/results/an_earlier.md").read_text().startswith(".25\n")


def test_runs_of_pretrained_models_are_found_by_their_names(script):
    from pages.pretrained import first_of, of_models  # type: ignore[import-not-found]

    runs = {"bitwise": 0, "smollm2_pos": 1, "gemma3_pairs": 2, "gemma3_pos": 3}
    assert of_models(runs, "pos") == {"SmolLM2-135M": 1, "Gemma-3-270M": 3} and of_models(runs) == {}
    assert first_of(runs, "gemma3") == 2 and first_of(runs, "gemma") is None


def test_a_file_that_a_run_needs_is_looked_for_below_the_root(script, repository):
    from pages.frame import Run  # type: ignore[import-not-found]

    run = Run("hijack", needs="runs/treebank.conllu")
    assert run.lacks(repository) == "runs/treebank.conllu"
    (repository / "runs").mkdir()
    (repository / "runs/treebank.conllu").write_text("")
    assert run.lacks(repository) is None


def test_a_number_that_is_not_stored_is_named(script, repository, capsys):
    assert script.main(["--render"], repository) == 1
    assert "tiny.md.j2: 'dict object' has no attribute 'here'" in capsys.readouterr().err
    assert script.main(["nothing"], repository) == 2


@pytest.mark.parametrize(
    ("filter_name", "value", "text"),
    [
        ("two", 0.964, ".96"), ("two", -0.166, "-.17"), ("two", 0.999, "1.00"), ("two", 12.5, "12.50"),
        ("two", -0.001, "-.00"), ("two", 10.004, "10.00"), ("three", 0.9657, ".966"), ("signed", 0.166, "+.17"),
        ("signed", -0.5, "-.50"), ("count", 12544, "12,544"), ("percent", 0.411, "41 %"),
        ("interval", (0.09, 0.261), "[.09, .26]"),
        ("listed", (0.1, 1.0, None), ".10, 1.00, –"),
        ("duration", 17.4, "17 seconds"), ("duration", 138, "2.3 minutes"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_pages_write_them(script, filter_name, value, text):
    from pages.formats import FILTERS  # type: ignore[import-not-found]

    assert FILTERS[filter_name](value) == text
