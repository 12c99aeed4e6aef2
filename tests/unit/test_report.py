"""The report of a planted run: what the page says is what the files hold, and it needs nothing else."""

import base64
import hashlib
import html
import json
import re
import struct
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from patchboard.errors import RunFolderError
from patchboard.report.answer import answers
from patchboard.report.effect_figures import effect_figures
from patchboard.report.findings import findings
from patchboard.report.numbers import plain
from patchboard.report.page import write_report
from patchboard.report.run_files import read_run
from patchboard.report.style import styled
from patchboard.report.tables import controls_there, print_run
from patchboard.report.task_figures import task_figures
from tests.unit import synthetic_run

pytestmark = pytest.mark.rasterised


@pytest.fixture(scope="module")
def tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    return synthetic_run.outcomes(queries=40), synthetic_run.decodability(points=12)


@pytest.fixture(scope="module")
def folder(tables, tmp_path_factory) -> Path:
    made = synthetic_run.write_run_folder(tmp_path_factory.mktemp("run"), *tables)
    write_report(made)
    return made


class Page(HTMLParser):
    """Every address that the page would load, its text, and its tags in balance."""

    def __init__(self, text: str):
        super().__init__()
        self.addresses: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href", "data", "srcset", "action")]
        if tag in ("section", "details", "table", "figure", "ul", "dl", "style", "div"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and tag == self.open[-1]:
            self.open.pop()

    def handle_data(self, data):
        self.text += data


def test_the_page_loads_nothing_from_anywhere(folder):
    source = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(source)
    assert page.addresses and all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not re.search(r"url\(|@import|https?://", source)
    assert page.open == []


def test_only_the_pages_own_scripts_may_run(folder):
    """Its policy names each by its content, and allows no request."""
    source = (folder / "report.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", source, re.DOTALL)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', source)
    policy = html.unescape(policy)
    assert len(scripts) == 2 and len(re.findall(r"<script", source)) == 3  # and the data
    own = {f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in scripts}
    assert own == set(re.findall(r"'sha256-[^']*'", policy)) and policy.startswith("default-src 'none'; ")


def test_the_pages_figures_are_files(folder):
    """The one of the first screen, and those that the explorer does not show; the others' names."""
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    embedded = [base64.b64decode(address.split(",", 1)[1]) for address in page.addresses]
    files = {path.name: path.read_bytes() for path in (folder / "figures").glob("*.png")}
    shown = ("effect-accuracy.png", "cd.png", "accuracy-against-cd.png")
    assert embedded == [files[name] for name in shown]
    assert all((f"figures/{name}" in page.text) for name in files)
    by_metric = {f"effect-{metric}.png" for metric in synthetic_run.METRICS}
    assert set(files) == by_metric | {"tasks.png", "cd.png", "accuracy-against-cd.png", "conversion.png"}
    for content in files.values():
        width, height = struct.unpack(">II", content[16:24])
        assert 600 <= width <= 1200 and height >= 200
    assert {path.stem for path in (folder / "figures").glob("*.csv")} == {Path(name).stem for name in files}


def test_the_page_says_what_the_summary_holds(folder):
    text = Page((folder / "report.html").read_text(encoding="utf-8")).text
    summary = json.loads((folder / "summary.json").read_text())
    for entry in summary["interventions"].values():
        for point in entry["points"]:
            if point["effect"] not in (0, None) and abs(point["effect"]) >= 0.0005:
                assert f"{point['effect']:+.3f} [" in text
    for line in findings(summary):
        assert line in text
    assert "no fit prompt of XNOR was answered correctly" in text
    assert "Left out of XOR: 3 (the answer is no whole number of tokens)" in text
    assert (folder / "spec.yaml").read_text().strip() in text


def test_the_page_goes_from_the_answer_to_the_spec(folder):
    source = (folder / "report.html").read_text(encoding="utf-8")
    body = source[source.index("<body>") :]
    parts = ['id="answer"', 'id="explorer"', 'id="limits"', "Effect on accuracy at the best", "<h2>Further figures",
             "<h2>Tables", 'id="provenance"', "Resolved spec"]  # fmt: skip
    places = [body.index(part) for part in parts]
    assert places == sorted(places)
    first = body[: places[1]]
    asked = "What do positive (patch), added (add), negative (patch) and erased (ablate) do to accuracy in "
    assert asked in first
    assert first.count("<img ") == 1 and "Effect on accuracy by layer" in first
    assert len(source.encode()) < 2_000_000


def test_the_answers_are_the_summarys(folder):
    run = read_run(folder)
    told = dict(answers(run))
    assert list(told) == [*run.summary["interventions"], "CD"]
    for name, entry in run.summary["interventions"].items():
        assert told[name].count("at shots =") == len(entry["points"]) == 2
        for point in entry["points"]:
            assert f"{plain(abs(point['effect']))} [" in told[name]
    raised = run.summary["interventions"]["positive"]["points"][0]
    assert f"at shots = 0 it raises accuracy by {raised['effect']:.3f}" in told["positive"]
    lowered = run.summary["interventions"]["negative"]["points"][1]
    bounds = f"[{-lowered['ci_high']:.3f}, {-lowered['ci_low']:.3f}]"
    assert f"at shots = 4 it lowers accuracy by {-lowered['effect']:.3f} {bounds} at layer 3" in told["negative"]
    assert "where CD is " in told["negative"] and "(random " in told["negative"]


def test_an_effect_that_a_control_has_too_is_said_to_be_shared(folder):
    run = read_run(folder)
    alike = {"effect": 0.5, "ci_low": 0.4, "ci_high": 0.6}
    point = {**run.summary["interventions"]["positive"]["points"][0], **alike, "at": {}}
    run.summary["interventions"]["positive"]["points"] = [{**point, "controls": {"random": alike, "self": alike}}]
    assert dict(answers(run))["positive"].endswith(", which random does as well.")
    zero = {"effect": 0.0, "ci_low": 0.0, "ci_high": 0.0}
    run.summary["interventions"]["positive"]["points"] = [{**point, **zero}]
    assert dict(answers(run))["positive"] == "it changes no accuracy."
    unsure = {"effect": 0.1, "ci_low": -0.1, "ci_high": 0.3}
    run.summary["interventions"]["positive"]["points"] = [{**point, **unsure}]
    assert "no effect is told from zero" in dict(answers(run))["positive"]


def test_text_of_the_run_is_no_markup(tables, tmp_path):
    nasty = "<script>alert('1')</script> & <b>"
    outcomes, cd = tables
    one = outcomes.filter(layer=3, shots=4, metric="accuracy")
    made = synthetic_run.write_run_folder(tmp_path / "run", one, cd, changes={"fallbacks": [nasty]})
    source = write_report(made).read_text(encoding="utf-8")
    assert (
        "alert('1')" not in source and "<b>" not in Page(source).text.replace(nasty, "") and nasty in Page(source).text
    )


def test_curves_are_drawn_from_the_table(folder):
    run = read_run(folder)
    with styled():
        (drawing,) = effect_figures(run, "accuracy")
    panels = [axes for axes in drawing.figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in panels] == [
        f"{name}, shots = {shots}" for shots in (0, 4) for name in ("positive", "added", "negative", "erased")
    ]
    expected = run.own.filter(intervention="negative", shots=4).sort("layer")["effect"].to_numpy()
    drawn = [np.asarray(line.get_ydata(), dtype=float) for line in panels[6].lines]
    assert any(len(y) == len(expected) and np.allclose(y, expected) for y in drawn)


@pytest.mark.slow
def test_drawing_again_gives_the_same_and_removes_what_is_stale(folder):
    before = {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
    (folder / "figures" / "effect-rank.png").write_bytes(b"of an earlier spec")
    write_report(folder)
    after = {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
    assert after == before
    assert not [path for path in folder.rglob(".*")]  # nothing unfinished is left behind


def test_without_cd_and_without_sweep_and_with_one_layer(tables, tmp_path):
    outcomes, _ = tables
    plain = outcomes.filter(layer=3, shots=4).drop("prompts.shots")
    made = synthetic_run.write_run_folder(tmp_path / "run", plain, None)
    source = write_report(made).read_text(encoding="utf-8")
    assert {path.name for path in (made / "figures").glob("*.png")} == {
        f"{name}.png" for name in ("effect-accuracy", "effect-logprob", "effect-kl", "tasks", "conversion")
    }
    assert "CD there" not in Page(source).text and "positive: the largest effect is at layer 3" in source


def test_without_interventions_there_is_cd_alone(tables, tmp_path):
    outcomes, cd = tables
    made = synthetic_run.write_run_folder(tmp_path / "run", outcomes.clear(), cd)
    write_report(made)
    assert {path.name for path in (made / "figures").glob("*.png")} == {"cd.png", "accuracy-against-cd.png"}


def test_layers_that_differ_between_interventions_share_a_page(tables, tmp_path):
    outcomes, cd = tables
    positive = outcomes.filter(intervention="positive", metric="accuracy", shots=0)
    added = outcomes.filter(pl.col("layer").is_in([2, 5]), intervention="added", metric="accuracy", shots=0)
    run = read_run(synthetic_run.write_run_folder(tmp_path / "run", pl.concat([positive, added]), cd))
    with styled():
        (drawing,) = task_figures(run)
    widths = [axes.images[0].get_array().shape for axes in drawing.figure.axes[:2]]
    assert widths == [(6, 8), (6, 4)]  # layers 0-7; 2-5, of which 3 and 4 were not run and stay blank
    assert np.isnan(np.ma.filled(drawing.figure.axes[1].images[0].get_array(), np.nan))[:, 1:3].all()


@pytest.mark.parametrize("name", ["summary.json", "curves.parquet", "manifest.json", "spec.yaml"])
def test_an_unfinished_or_broken_folder_is_refused(tables, tmp_path, name):
    outcomes, cd = tables
    made = synthetic_run.write_run_folder(tmp_path / "run", outcomes.filter(layer=3, metric="accuracy"), cd)
    (made / name).write_text("{")
    with pytest.raises(RunFolderError, match=f"{name}: cannot be read"):
        write_report(made)
    (made / name).unlink()
    with pytest.raises(RunFolderError, match=f"{name}: is missing"):
        write_report(made)


def test_the_terminals_table_holds_every_setting(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    print_run(folder)
    out = capsys.readouterr().out
    assert "effect [interval]" in out and str(folder / "report.html") in out
    assert out.count("shots = 0") == out.count("shots = 4") == 4


def test_the_terminals_controls_are_those_measured():
    def control(effect):
        return {"effect": effect, "ci_low": effect, "ci_high": effect}

    point = {"controls": {"self": control(0.0), "random": control(-0.4), "other_task": control(0.3)}}
    assert controls_there(point) == "self 0, random -0.400, other_task +0.300"
    assert controls_there({"controls": {"self": {"effect": None}}}) == "-"
