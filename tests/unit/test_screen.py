"""The choice that follows from estimates, the plan that is left of it, and what is said of the cells left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom, spearmanr

from patchboard.measure.screen import KEPT, LEFT_OUT, SAMPLED, choice, screen_table
from patchboard.measure.screen_summary import clopper_pearson, missed, rank_correlation
from patchboard.measure.statistics import Bootstrap
from patchboard.metrics import METRICS
from patchboard.metrics.base import graded
from patchboard.plan.cells import Cell, Edit
from patchboard.plan.model import Counterfactual, Group, ScoredCell
from patchboard.plan.screen import reduced_group, screened_cells
from patchboard.spec.screen import ScreenSection
from patchboard.tasks.prompt import Answer, Prompt


def put(layer: int, operand: str = "@flip", op: str = "patch") -> Edit:
    return Edit(op, "resid_post", layer, '"last"', 1.0, operand)


def group_of(*cells: tuple[str, tuple[Edit, ...]], prompts: int = 2, more: bool = False) -> Group:
    """cells: (control, edits) of each."""
    prompt = Prompt("A", "", "", (1, 2), (3,), more={"A": (Answer("b", (4,)),)} if more else {})
    copies = {Counterfactual(): 0, Counterfactual((put(2, "@self"),)): 1}
    uses = []
    for control, edits in cells:
        number = copies.setdefault(Counterfactual(edits), len(copies))
        for answer in range(1, 1 + more):
            copies.setdefault(Counterfactual(edits, answer=answer), len(copies))
        uses.append(ScoredCell(Cell("p", control, "flip", edits, edits[0].layer, ()), number))
    return Group("0-A", "A", 0, 7, (prompt,) * prompts, (5,) * prompts, tuple(copies), 1, tuple(uses), ("logprob",),
                 donors={"flip": (prompt,) * prompts})  # fmt: skip


GROUP = group_of(
    ("", (put(0),)), ("self", (put(0, "@self"),)),
    ("", (put(1),)), ("self", (put(1, "@self"),)),
    ("", (put(0), put(1))), ("self", (put(0, "@self"), put(1, "@self"))),
    ("", (put(2),)), ("self", (put(2, "@self"),)),
    ("", (put(3, "key/A/3"),)), ("random", (put(3, "key/A~random0/3"),)),
    ("", (put(3, "@self"),)),
)  # fmt: skip


def test_cells_of_one_edit_with_another_prompts_state_are_screened():
    assert screened_cells(GROUP) == [0, 2, 6]


@pytest.mark.parametrize("more", [False, True], ids=["one answer", "two answers"])
@pytest.mark.parametrize("chosen", [[], [2], [0, 6], [0, 2, 6]])
def test_what_is_left_of_a_group(chosen, more):
    """Cell by cell: the copies that a use names are those that it named, and no copy is left that none does."""
    edits = [(use.cell.control, use.cell.edits) for use in GROUP.uses]
    group = group_of(*edits, more=more)
    left = reduced_group(group, chosen)
    gone = {n for cell in {0, 2, 6} - set(chosen) for n in (cell, cell + 1)}
    kept = [use for number, use in enumerate(group.uses) if number not in gone]
    assert [use.cell for use in left.uses] == [use.cell for use in kept]
    for before, after in zip(kept, left.uses, strict=True):
        assert left.copies[after.patched] == group.copies[before.patched]
        assert after.converted == after.clean_converted == -1
    assert left.copies[0] == Counterfactual() and left.copies[left.noise_copy] == group.copies[group.noise_copy]
    named = {left.copies[use.patched] for use in left.uses} | {left.copies[0], left.copies[left.noise_copy]}
    assert {replace(copy, answer=0) for copy in left.copies} == named
    numbers = Counter(replace(copy, answer=0) for copy in left.copies)
    assert all(numbers[left.copies[use.patched]] == 1 + more for use in left.uses)
    assert (left == group) == (len(chosen) == 3)


def test_the_largest_are_kept_and_the_sample_is_even():
    """Over seeds each of the others is drawn as often as any: a chi-square of 5 sigma is not met by chance."""
    values = np.array([0.1, -9.0, np.nan, 3.0, 3.0, 0.0, -0.2, 1.0])
    times = Counter()
    for seed in range(1000):
        rank, chosen = choice(values, ScreenSection(keep=3, sample=2), replace(GROUP, seed=seed))
        assert rank.tolist() == [6, 1, 7, 2, 3, 8, 5, 4], "of equals the earlier, without an estimate as nothing"
        assert [what == KEPT for what in chosen] == [place <= 3 for place in rank]
        assert Counter(chosen) == {KEPT: 3, SAMPLED: 2, LEFT_OUT: 3}
        times.update(number for number, what in enumerate(chosen) if what == SAMPLED)
    assert len(times) == 5 and max(abs(count - 400) for count in times.values()) < 5 * (400 * 0.6) ** 0.5
    again = choice(values, ScreenSection(keep=3, sample=2), replace(GROUP, seed=999))[1]
    assert again == chosen


def test_odd_queries_have_no_part_in_the_choice():
    group = group_of(*((("", (put(layer),))) for layer in range(6)), prompts=8)
    estimates = np.random.default_rng(0).normal(size=(6, 8))
    section, bootstrap = ScreenSection(keep=2, sample=1), Bootstrap(100, 0.95, 0)
    table = screen_table(group, range(6), estimates, "logprob", section, bootstrap)
    other = estimates.copy()
    other[:, 1::2] = np.random.default_rng(1).normal(size=(6, 4)) * 100
    changed = screen_table(group, range(6), other, "logprob", section, bootstrap)
    assert table["chosen"].to_list() == changed["chosen"].to_list()
    assert table["choosing"].to_list() == changed["choosing"].to_list() == estimates[:, ::2].mean(1).tolist()
    np.testing.assert_allclose(table["estimate"], estimates.mean(1))
    assert ((table["ci_low"] < table["estimate"]) & (table["estimate"] < table["ci_high"])).all()
    estimates[0, :3] = np.nan
    table = screen_table(group, range(6), estimates, "logprob", section, bootstrap)
    assert table["n"].to_list() == [5, 8, 8, 8, 8, 8] and table["estimate"][0] == pytest.approx(estimates[0, 3:].mean())


def table_of(effects: np.ndarray, chosen: list[str], task: str = "A") -> pl.DataFrame:
    return pl.DataFrame({"task": task, "effect": effects, "estimate": effects, "chosen": chosen})


def test_what_was_missed_is_counted_in_the_sample():
    effects = np.array([-5.0, 2.0, 3.0, -1.0, 0.1, 2.5, np.nan, np.nan])
    chosen = [KEPT, KEPT, SAMPLED, SAMPLED, SAMPLED, SAMPLED, LEFT_OUT, LEFT_OUT]
    found = missed(table_of(effects, chosen), 0.95)
    assert found is not None
    told = [
        found[name] for name in ("above", "sampled", "others", "expected", "smallest_kept", "largest", "kept_above")
    ]
    assert told == [2, 4, 6, 3.0, 2.0, 3.0, 1]
    low, high = clopper_pearson(2, 4, 0.95)
    assert (found["low"], found["high"]) == (6 * low, 6 * high)
    # another task's kept cells are no measure for this one's
    other = table_of(np.array([0.01, 0.001]), [KEPT, SAMPLED], "B")
    both = missed(pl.concat([table_of(effects, chosen), other]), 0.95)
    assert both is not None and (both["above"], both["sampled"], both["others"]) == (2, 5, 7)
    # all of the others were run: nothing is left to guess
    whole = missed(table_of(effects[:6], chosen[:6]), 0.95)
    assert whole is not None and whole["low"] == whole["expected"] == whole["high"] == 2
    assert missed(table_of(effects[:2], chosen[:2]), 0.95) is None


def test_the_interval_of_what_was_missed_covers_it():
    """Samples without replacement from a population of which the share is known: at least as often as it says."""
    rng, above = np.random.default_rng(0), np.arange(300) < 40
    covered = 0
    for _ in range(400):
        sample = rng.choice(300, 30, replace=False)
        effects = np.concatenate([[1.0], np.where(above, 2.0, 0.5)])
        chosen = np.array([KEPT, *[LEFT_OUT] * 300], object)
        chosen[1 + sample] = SAMPLED
        found = missed(table_of(effects, chosen.tolist()), 0.9)
        assert found is not None
        covered += found["low"] <= 40 <= found["high"]
    assert covered >= 0.9 * 400


def test_clopper_and_pearson_inverts_the_binomial():
    for hits, of in ((0, 20), (3, 20), (20, 20)):
        low, high = clopper_pearson(hits, of, 0.9)
        assert low == 0 if not hits else binom.sf(hits - 1, of, low) == pytest.approx(0.05)
        assert high == 1 if hits == of else binom.cdf(hits, of, high) == pytest.approx(0.05)


def test_rank_correlation_is_spearmans():
    x, y = np.random.default_rng(0).normal(size=(2, 30))
    y[3] = np.nan
    table = pl.DataFrame({"estimate": x, "effect": y + x})
    known = ~np.isnan(y)
    assert rank_correlation(table) == pytest.approx(spearmanr(x[known], (y + x)[known]).statistic)
    assert rank_correlation(table.head(3)) is None


@pytest.mark.parametrize("name", [name for name in METRICS.names() if graded([name])])
def test_slopes_are_those_of_combine(name):
    """Against differences of ``combine``'s values."""
    metric, starts = METRICS.get(name, "metrics"), np.array([0, 3, 4])
    scores = -np.random.default_rng(0).random(6)
    of_answer = np.searchsorted(starts, np.arange(6), side="right") - 1
    step = 1e-6
    for read, slope in enumerate(metric.slope(scores, starts)):  # type: ignore[attr-defined]  # it is graded
        up, down = (scores + sign * step * (np.arange(6) == read) for sign in (1, -1))
        found = (metric.combine(up, starts) - metric.combine(down, starts)) / (2 * step)
        assert found[of_answer[read]] == pytest.approx(slope, abs=1e-8)


def test_the_first_metric_with_a_gradient_is_gone_by():
    assert graded(["accuracy", "kl", "logprob", "logit_difference"]) == "logprob"
    assert graded(["accuracy", "rank", "conversion"]) == ""
