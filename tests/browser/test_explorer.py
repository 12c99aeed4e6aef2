"""The page in a real browser: hover, click, filter, address, maps; what prompts say is never markup."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import patchboard as pb
from tests.contract.tiny import run, tiny_tree

pytestmark = pytest.mark.slow

MARKUP = ("<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>", "<b>bold</b>", "a & b")


@pytest.fixture(scope="module")
def finished(llama_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "run"
    vector = {"mean": "same_task", "shots": 1, "prompts": 4}
    interventions = {
        "p": {"op": "patch", "vector": vector, "layers": "all"},
        "at": {"op": "patch", "vector": vector, "layers": "all", "position": {"sweep": ["last", "query"]}},
        "heads": {"op": "zero", "site": "head", "layers": "all"},
    }
    assert run(tiny_tree(llama_folder, interventions=interventions, metrics=["logprob", "accuracy"]), folder) == 0
    return folder


def click_layer(page, layer: int) -> None:
    box = page.locator(".u-over").bounding_box()
    layers = 3  # of a model of four
    page.locator(".u-over").click(position={"x": min(box["width"] - 1, box["width"] * layer / layers), "y": 40})


def told(page) -> list[float]:
    """Effect and interval in the title of what is pinned."""
    found = re.search(r": ([^ ]+) \[([^,]+), ([^\]]+)\]", page.locator("#pinned").inner_text())
    assert found
    return [*map(float, found.groups())]


def rows_of(page) -> list[list[str]]:
    page.wait_for_selector("#explorer .behind:not([aria-busy])")
    return [row.locator("td").all_inner_texts() for row in page.locator("table.prompts tr").all()[1:]]


def test_a_click_shows_the_queries_of_the_point(finished, open_page):
    """All of the cell's queries with their values, the largest change first, the edited token marked."""
    page = open_page(finished / "report.html", "#i=p")
    click_layer(page, 2)
    own = pl.col("intervention") == "p", pl.col("control") == "", pl.col("layer") == 2, pl.col("metric") == "logprob"
    outcomes = pb.open(finished).outcomes.filter(*own)
    rows = rows_of(page)
    assert len(rows) == len(outcomes)
    change = (outcomes["patched"] - outcomes["clean"]).to_list()
    assert [float(row[5]) for row in rows] == pytest.approx(sorted(change, key=abs, reverse=True), abs=1e-3)
    assert page.locator("table.prompts mark").all_inner_texts() == ["->"] * len(rows)
    curve = pb.open(finished).curves.filter(*own).row(0, named=True)
    assert "layer 2, last" in page.locator("#pinned").inner_text()
    assert told(page) == pytest.approx([curve["effect"], curve["ci_low"], curve["ci_high"]], abs=1e-3)


def test_hover_tells_effects_with_intervals(finished, open_page):
    page = open_page(finished / "report.html", "#i=p")
    box = page.locator(".u-over").bounding_box()
    page.locator(".u-over").hover(position={"x": box["width"] / 3, "y": 60})
    legend = page.locator(".u-legend").inner_text()
    curve = pb.open(finished).curves.filter(
        pl.col("intervention") == "p", pl.col("control") == "", pl.col("layer") == 1, pl.col("metric") == "logprob"
    )
    shown = re.search(r"the intervention\s*:?\s*([+-][\d.]+) \[([+-]?[\d.]+), ([+-]?[\d.]+)\]", legend)
    assert shown and [*map(float, shown.groups())] == pytest.approx(
        [*curve.select("effect", "ci_low", "ci_high").row(0)], abs=1e-3
    )
    assert "CD" in legend and "random" in legend


def test_the_address_reopens_what_was_chosen(finished, open_page):
    page = open_page(finished / "report.html", "#i=p")
    page.select_option("select[name=t]", "XOR")
    page.select_option("select[name=m]", "accuracy")
    click_layer(page, 3)
    page.select_option("select[name=order]", "query")
    rows, title = rows_of(page), page.locator("#pinned").inner_text()
    assert {row[0] for row in rows} == {"XOR"} and len(rows) == 3
    again = open_page(finished / "report.html", page.evaluate("location.hash"))
    assert rows_of(again) == rows and again.locator("#pinned").inner_text() == title


def test_the_keyboard_moves_the_point(finished, open_page):
    page = open_page(finished / "report.html", "#i=p")
    page.locator("#explorer .figure").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    assert "layer 1," in page.locator("#pinned").inner_text()


@pytest.mark.parametrize(("name", "column"), [("heads", "head"), ("at", "position")])
def test_maps_lead_to_prompts_too(finished, open_page, name, column):
    page = open_page(finished / "report.html", f"#i={name}")
    cells = pb.open(finished).curves.filter(
        pl.col("intervention") == name, pl.col("control") == "", pl.col("metric") == "logprob"
    )
    assert page.locator("table.map button").count() == len(cells)
    places = cells[column].unique(maintain_order=True).to_list()
    page.locator("table.map tr").nth(2).locator("button").nth(1).click()
    chosen = cells.filter(pl.col("layer") == 1, pl.col(column) == places[1]).row(0, named=True)
    assert told(page) == pytest.approx([chosen["effect"], chosen["ci_low"], chosen["ci_high"]], abs=1e-3)
    assert len(rows_of(page)) == 9
    assert page.locator("table.map button[aria-pressed]").count() == 1


def test_a_map_of_tasks_chooses_the_task(finished, open_page):
    page = open_page(finished / "report.html", "#i=p")
    page.select_option("select[name=view]", "task")
    page.locator("table.map tr").nth(2).locator("button").nth(1).click()
    assert page.locator("select[name=t]").input_value() == "OR"
    assert {row[0] for row in rows_of(page)} == {"OR"}


def test_a_series_is_hidden_with_its_band(finished, open_page):
    page = open_page(finished / "report.html", "#i=p")
    shown = "() => [...document.querySelectorAll('.u-legend .u-series')].map((e) => e.classList.contains('u-off'))"
    before = page.evaluate(shown)
    page.locator(".u-legend .u-series", has_text="random").locator("th").click()
    after = page.evaluate(shown)
    assert sum(after) - sum(before) == 3  # the line and the two ends of its band


def test_another_run_is_laid_over(finished, llama_folder, tmp_path, open_page, capsys):
    """Its curve stands beside the run's own, with its own numbers."""
    from patchboard.commands.main import main

    vector = {"mean": "same_task", "shots": 1, "prompts": 3}
    tree = tiny_tree(llama_folder, interventions={"p": {"op": "patch", "vector": vector, "layers": "all"}})
    assert run({**tree, "metrics": ["logprob", "accuracy"]}, tmp_path / "second") == 0
    capsys.readouterr()
    assert main(["report", str(finished), str(tmp_path / "second")]) == 0
    file = Path(capsys.readouterr().out.strip())
    assert file.name == "run+second.html" and not (finished / file.name).exists()
    page = open_page(file, "#i=p")
    box = page.locator(".u-over").bounding_box()
    page.locator(".u-over").hover(position={"x": box["width"] / 3, "y": 60})
    shown = re.search(r"in second\s*:?\s*([+-]?[\d.]+) \[", page.locator(".u-legend").inner_text())
    curve = pb.open(tmp_path / "second").curves.filter(
        pl.col("control") == "", pl.col("layer") == 1, pl.col("metric") == "logprob"
    )
    assert shown and float(shown[1]) == pytest.approx(curve["effect"][0], abs=1e-3)
    click_layer(page, 2)
    assert len(rows_of(page)) == 9


@pytest.mark.parametrize("width", [1200, 900, 390])
def test_nothing_is_cut_off(finished, open_page, width):
    """The page is as wide as the window; the first table's last column can be read."""
    page = open_page(finished / "report.html", "#i=p", width)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    if width > 390:
        assert page.evaluate(
            "[...document.querySelectorAll('table.wide')].every((t) => t.scrollWidth <= t.parentNode.clientWidth)"
        )


def test_what_prompts_say_is_never_markup(llama_folder, tmp_path, open_page):
    """Inputs that are tags are shown as they are, and run nothing."""
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.add_tokens([*MARKUP])
    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    model.resize_token_embeddings(len(tokenizer))
    for each in (model, tokenizer):
        each.save_pretrained(tmp_path / "model")
    pairs = [{"input": text, "output": "0001" if i % 2 else "0010"} for i, text in enumerate([*MARKUP, *WORDS])]
    for task, shift in (("one", 0), ("two", 1)):
        rows = [{**row, "output": ["0001", "0010"][(i + shift) % 2]} for i, row in enumerate(pairs)]
        (tmp_path / f"{task}.json").write_text(json.dumps(rows))
    tree = tiny_tree(
        tmp_path / "model",
        tasks={"family": "pairs", "files": [str(tmp_path / "one.json"), str(tmp_path / "two.json")]},
        prompts={"shots": 0, "queries": 6},
        decodability=None,
    )
    assert run(tree, tmp_path / "run") == 0
    page = open_page(tmp_path / "run" / "report.html")
    click_layer(page, 2)
    texts = " ".join(row[1] for row in rows_of(page))
    assert any(text in texts for text in MARKUP)
    assert page.locator("table.prompts b, table.prompts img, table.prompts script").count() == 0


WORDS = ("the baker", "the river", "the garden", "the letter", "the mountain", "the boat", "the child", "the teacher")


@pytest.fixture(scope="module")
def with_tokens(llama_folder, tmp_path_factory) -> Path:
    """A finished run with forty tokens kept, some of whose texts are white space and markup."""
    folder = tmp_path_factory.mktemp("tokens") / "run"
    interventions = {"p": {"op": "patch", "vector": {"mean": "same_task", "shots": 1, "prompts": 4}, "layers": [1, 2]}}
    tree = tiny_tree(llama_folder, interventions=interventions, metrics=["rank", "logprob"])
    assert run({**tree, "outcomes": {"top_tokens": 40}}, folder) == 0
    table = pl.read_parquet(folder / "top_tokens.parquet")
    ids = sorted(set(table["token_ids"].explode().to_list()))
    odd = [" a", "\n", "\t ", "", "\u200b", *MARKUP]
    texts = {token: odd[k % len(odd)] for k, token in enumerate(ids)}
    words = pl.col("token_ids").list.eval(pl.element().replace_strict(texts, return_dtype=pl.String))
    table.with_columns(tokens=words).write_parquet(folder / "top_tokens.parquet", metadata={"patchboard": "1"})
    pb.open(folder).write_report()
    return folder


def test_top_tokens_stand_below_each_query(with_tokens, open_page):
    """Before and after, the answer marked where it is among them, its rank; white space is seen, markup is text."""
    page = open_page(with_tokens / "report.html", "#i=p&l=2&t=AND&order=query")
    done = pb.open(with_tokens)
    answers = done.prompts.filter(pl.col("role") == "evaluate", pl.col("task") == "AND")["answer_ids"].list.first()
    table = done.top_tokens.filter(pl.col("task") == "AND", (pl.col("layer") == 2) | (pl.col("run") == "clean"))
    lines = page.locator("tr.tokens div div").all()
    assert len(lines) == 2 * len(answers) == len(table)
    marked = 0
    for number, line in enumerate(lines):
        query, name = number // 2, ("clean", "patched")[number % 2]
        own = table.filter(pl.col("query") == query, pl.col("run") == name).row(0, named=True)
        label = "before" if name == "clean" else "after"
        assert line.locator(".soft").inner_text().startswith(f"{label}: answer ranks {own['answer_rank']} (")
        assert line.locator("b").count() == (own["answer_rank"] <= 5)
        line.locator("button").click()
        marked += line.locator("b").count()
        shown = [" ".join(text.split(" ")[:-1]) for text in line.locator(".token").all_inner_texts()]
        seen = {" a": "␣a", "\n": "⏎", "\t ": "⇥␣", "": "(no text)", "\u200b": "\\u{200b}"}
        assert shown == [seen.get(text, text.replace(" ", "␣")) for text in own["tokens"]]
        chances = [small.inner_text() for small in line.locator("small").all()]
        expected = [2.718281828459045**value for value in own["logprobs"]]
        assert [float(text.strip("<>")) for text in chances] == pytest.approx(expected, abs=1.1e-3)
        assert line.locator("b").count() == (own["answer_rank"] <= 40) and line.locator("button").count() == 0
    assert 0 < marked < len(lines)
    assert not page.locator("tr.tokens img, tr.tokens script").count()
