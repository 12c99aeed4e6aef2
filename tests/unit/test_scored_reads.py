"""Places of a pass are read once, and scored in calls that copy no logits they need not: as each read by itself."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from patchboard.engine import read_out
from patchboard.engine.batch import Top, make_batch
from patchboard.engine.scores import rows_of, score_reads, scored_together
from patchboard.metrics import METRICS
from patchboard.plan.cells import Edit
from patchboard.plan.model import Counterfactual
from patchboard.plan.packing import lay_out
from patchboard.tasks.prompt import Prompt

VOCAB = {"a call for each clean distribution": 1 << 16, "one call for all": 11}


@pytest.mark.parametrize("vocab", VOCAB.values(), ids=VOCAB)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_are_those_of_each_read_by_itself(vocab, dtype):
    """Two prompts: places 0 to 19 and 20 to 39, some read twice, each held against its prompt's first place."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, vocab, generator=generator).to(dtype)
    reads = torch.tensor([*range(10), 3, 3, *range(10, 20), 0, *range(20, 40), 39, 25])
    clean = (reads >= 20).long() * 20
    targets, foils = torch.randint(vocab, (2, len(reads)), generator=generator)
    batch = SimpleNamespace(reads=reads, targets=targets, foils=foils, clean=clean)
    scorers = {name: METRICS[name].score for name in ("accuracy", "logprob", "kl", "logit_difference", "rank")}
    found = score_reads(logits, batch, scorers)  # type: ignore[arg-type]  # of a batch it reads these
    for name, score in scorers.items():
        by_itself = [
            score(logits[r][None].float(), target[None], foil[None], logits[c][None].float())
            for r, target, foil, c in zip(reads, targets, foils, clean, strict=True)
        ]
        torch.testing.assert_close(found[name], torch.cat(by_itself), rtol=1e-6, atol=1e-6)
    assert found["logprob"].unique().numel() > 30  # both sides: they differ from read to read


def test_rows_are_views_where_they_can_be():
    logits = torch.arange(12.0).view(4, 3)
    for index, copied in (([1, 2, 3], False), ([2, 2, 2], False), ([2, 1], True), ([0, 0, 1], True)):
        rows = rows_of(logits, torch.tensor(index))
        assert rows.equal(logits[index])
        assert (rows.untyped_storage().data_ptr() != logits.untyped_storage().data_ptr()) == copied


def test_places_read_anew_come_first_and_calls_end_with_their_clean_distribution():
    reads, clean = torch.tensor([0, 1, 1, 2, 3, 4, 3]), torch.tensor([0, 0, 0, 0, 3, 3, 3])
    assert [piece.tolist() for piece in scored_together(reads, clean, 1 << 20)] == [[0, 1, 3], [4, 5], [2], [6]]
    assert [piece.tolist() for piece in scored_together(reads, clean, 2)] == [[0, 1, 3, 4, 5], [2, 6]]


def test_a_place_is_gathered_once_whosever_answer_is_asked_for():
    edit = Edit("patch", "resid_post", 1, '"last"', 1.0, "v/A/1")
    prompt = Prompt(
        "A", "", "", (5, 6, 7), (8,), {"last": (2,), "all": (0, 1, 2)}, alternatives={"B": (9,)}
    )  # fmt: skip
    copies = [Counterfactual(), Counterfactual((), "B"), Counterfactual((edit,)), Counterfactual((edit,), "B")]
    batch = make_batch(lay_out((prompt,), (-1,), copies, "wavefront"))
    assert batch.read_rows is not None and batch.read_cols is not None
    assert (batch.read_rows.tolist(), batch.read_cols.tolist()) == ([0, 0], [2, 3])
    assert batch.reads is not None and batch.clean is not None and batch.targets is not None
    assert (batch.reads.tolist(), batch.clean.tolist()) == ([0, 0, 1, 1], [0] * 4)
    assert batch.targets.tolist() == [8, 9, 8, 9]


@pytest.mark.parametrize("at_once", [1, 4, 7, 40, 100])
def test_states_are_read_out_some_at_a_time(at_once, monkeypatch):
    """As all together, whatever is read at once, places read twice and clean places in other pieces included."""
    monkeypatch.setattr(read_out, "_READ_AT_ONCE", 11 * at_once)
    generator = torch.Generator().manual_seed(0)
    states, head = torch.randn(40, 5, generator=generator), torch.randn(5, 11, generator=generator)
    reads = torch.tensor([*range(10), 3, 3, *range(10, 20), 0, *range(20, 40), 39, 25])
    clean = (reads >= 20).long() * 20
    targets, foils = torch.randint(11, (2, len(reads)), generator=generator)
    top = Top(3, 2, torch.tensor([22, 0, 3, 12, 7, 44]), torch.tensor([0, 1, 2, 4, 3, 6]))
    whole = make_batch(lay_out((), (), [Counterfactual()], "rows"))
    batch = replace(whole, reads=reads, targets=targets, foils=foils, clean=clean, top=top, queries=torch.arange(7))
    scorers = {name: METRICS[name].score for name in ("accuracy", "logprob", "kl", "logit_difference", "rank")}
    asked: list[int] = []

    def head_of(some: torch.Tensor) -> torch.Tensor:
        asked.append(len(some))
        return some @ head

    found = read_out.read_states(states, head_of, 11, batch, scorers)
    expected = read_out.read_logits(states @ head, batch, scorers)
    for what in ("scores", "top"):
        assert set(found[what]) == set(expected[what])
        for name in expected[what]:
            torch.testing.assert_close(found[what][name], expected[what][name])
    assert len(found["top"]["rank"]) == 4  # of every second query
    assert max(asked) <= at_once + 2 and len(asked) == -(-40 // at_once)  # two clean places
