"""Sets of heads that are kept while all others are edited: literal hooks, identities, rankings, what is refused."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch
from transformers import LlamaForCausalLM

from patchboard.commands.main import main
from patchboard.engine.load import open_model
from patchboard.measure.statistics import Bootstrap, drawn
from patchboard.plan.build import build_plans
from patchboard.spec.study import study_of
from tests.contract.cases import case_tree
from tests.contract.test_emit import values_of
from tests.contract.tiny import manifest_of, one_error, run, tiny_tree
from tests.hooks import hooked_logits

pytestmark = pytest.mark.drawn

RANKING = [[3, 1], [0, 2], [1, 0]]
SIZES = [0, 1, 3, "all"]
AXIS = "interventions.circuit.keep.first"
CIRCUIT = {"op": "patch", "source": "flip", "site": "head", "position": "all"}
RANDOM = {"random_heads": {"draws": 2}}


def tree(folder, cases, ranking=RANKING, sizes=SIZES, **changes):
    section = {**CIRCUIT, **changes.pop("section", {}), "keep": {"ranking": ranking, "first": {"sweep": sizes}}}
    told = {"controls": ["self", RANDOM], "interventions": {"circuit": section}, "statistics": {"bootstrap": 200}}
    return tiny_tree(folder, **case_tree(cases, **told | changes))


@pytest.fixture(scope="module")
def finished(llama_folder, cases, tmp_path_factory):
    out = tmp_path_factory.mktemp("kept") / "run"
    assert run(tree(llama_folder, cases), out) == 0
    return out


def outcomes(folder, metric="logprob", control=""):
    """kept -> patched [query]."""
    table = pl.read_parquet(folder / "outcomes.parquet").filter(metric=metric, control=control).sort("query")
    return {kept: part["patched"].to_numpy() for (kept,), part in table.group_by(AXIS, maintain_order=True)}


def test_all_others_are_edited_as_by_hooks(llama_folder, cases, finished):
    """By a loop over the cells' edits of a plan whose edits are counted by hand here, one hook a head."""
    study = study_of(tree(llama_folder, cases))
    (plan,) = build_plans(study, open_model)
    (group,) = plan.groups
    model = LlamaForCausalLM.from_pretrained(llama_folder).eval()
    every = {(layer, head) for layer in range(4) for head in range(4)}
    found = outcomes(finished)
    for use in group.uses:
        kept = dict(use.cell.swept)[AXIS]
        if use.cell.control == "":
            edited = {(edit.layer, edit.head) for edit in use.cell.edits}
            assert edited == every - {(layer, head) for layer, head in RANKING[:kept]} if kept < 16 else not edited
        if use.cell.control == "" and kept < 16:
            for query in (0, 5):
                prompt, donor = group.prompts[query], group.donors["flip"][query]
                logits = hooked_logits(model, prompt, group.copies[use.patched], {}, {"flip": donor})[0]
                wanted = torch.log_softmax(logits.double(), -1)[prompt.answer_ids[0]].item()
                assert found[kept][query] == pytest.approx(wanted, abs=1e-4)
    assert abs(found[1] - found[3]).max() > 1e-4 and set(found) == {0, 1, 3, 16}


def test_all_is_the_clean_run_and_none_that_of_all_heads_together(llama_folder, cases, finished, tmp_path):
    table = pl.read_parquet(finished / "outcomes.parquet").filter(pl.col("control") == "")
    every = table.filter(pl.col(AXIS) == 16)
    assert len(every) == 12 and every["clean"].equals(every["patched"].rename("clean")), "to the bit"
    edits = [{**CIRCUIT, "layers": {"together": "all"}}]
    together = tiny_tree(llama_folder, **case_tree(cases, interventions={"heads": {"edits": edits}}))
    assert run(together, tmp_path / "run") == 0
    all_heads = pl.read_parquet(tmp_path / "run" / "outcomes.parquet").filter(metric="logprob", control="")
    assert abs(all_heads.sort("query")["patched"].to_numpy() - outcomes(finished)[0]).max() < 1e-5
    for entry in json.loads((finished / "summary.json").read_text())["faithfulness"]:
        assert entry["cpr"]["value"] is None, "editing all of them is not told apart from nothing here"
    drawn_at_random = pl.read_parquet(finished / "outcomes.parquet").filter(control="random_heads", metric="logprob")
    for kept, equal in ((0, True), (1, False), (16, True)):
        rows = drawn_at_random.filter(pl.col(AXIS) == kept).sort("vector_task", "query")
        apart = abs(rows["patched"].to_numpy().reshape(2, 6) - outcomes(finished)[kept]).max()
        assert (apart < 1e-6) == equal


def test_the_curve_and_its_areas_are_the_literal_ones(llama_folder, cases, tmp_path):
    """On kl, which is told apart from nothing in a random model as well."""
    settings = {"metrics": ["kl"], "statistics": {"bootstrap": 300, "level": 0.8}}
    told = tree(llama_folder, cases, controls=[RANDOM], **settings)
    assert run(told, tmp_path / "run") == 0
    own, control = json.loads((tmp_path / "run" / "summary.json").read_text())["faithfulness"]
    assert (own["control"], control["control"], own["heads"]) == ("", "random_heads", 16)
    table = outcomes(tmp_path / "run", "kl")
    clean = table[16]
    ((_, counts),) = drawn("counterfactual", 6, Bootstrap(300, 0.8, 0))
    shares = np.array([0, 1, 3, 16]) / 16

    def curve_of(weights: np.ndarray) -> np.ndarray:
        means = {kept: (weights * values).sum() / weights.sum() for kept, values in table.items()}
        total = (weights * clean).sum() / weights.sum() - means[0]
        return np.array([(means[kept] - means[0]) / total for kept in (0, 1, 3, 16)])

    curve, drawn_curves = curve_of(np.ones(6)), np.array([curve_of(row.astype(float)) for row in counts])
    assert [point["kept"] for point in own["curve"]] == [0, 1, 3, 16]
    assert [point["faithfulness"] for point in own["curve"]] == pytest.approx(curve.tolist(), abs=1e-6)
    assert (own["curve"][0]["faithfulness"], own["curve"][-1]["faithfulness"]) == (0, 1)
    low, high = np.quantile(drawn_curves, [0.1, 0.9], axis=0)
    assert [point["ci_low"] for point in own["curve"]] == pytest.approx(low.tolist(), abs=1e-5)
    assert [point["ci_high"] for point in own["curve"]] == pytest.approx(high.tolist(), abs=1e-5)
    for name, of in (("cpr", lambda c: c), ("cmd", lambda c: abs(1 - c))):
        area = lambda c, of=of: sum((of(c)[1:] + of(c)[:-1]) / 2 * np.diff(shares))  # noqa: E731
        ends = np.quantile([area(each) for each in drawn_curves], [0.1, 0.9])
        found = [own[name][each] for each in ("value", "ci_low", "ci_high")]
        assert found == pytest.approx([area(curve), *ends], abs=1e-5)
    assert (tmp_path / "run" / "figures" / "faithfulness.png").is_file()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "of 16 heads kept and all others edited, faithfulness on kl is" in page
    assert "As many random heads:" in page and not (tmp_path / "run" / "figures" / "effect-kl.png").exists()


def test_heads_rank_by_a_finished_run(llama_folder, cases, tmp_path, capsys):
    assert run(tiny_tree(llama_folder, **case_tree(cases, interventions={"heads": CIRCUIT})), tmp_path / "heads") == 0
    curves = pl.read_parquet(tmp_path / "heads" / "curves.parquet").filter(metric="logit_difference", control="")
    ranking = {"run": str(tmp_path / "heads"), "intervention": "heads", "metric": "logit_difference"}
    for by, order in (("size", pl.col("effect").abs()), ("fall", -pl.col("effect")), ("rise", pl.col("effect"))):
        first = curves.sort(order, descending=True).select("layer", "head").rows()[:3]
        (plan,) = build_plans(study_of(tree(llama_folder, cases, {**ranking, "by": by}, [3])), open_model)
        edits = plan.groups[0].uses[0].cell.edits
        assert {(layer, head) for layer in range(4) for head in range(4)} - set(first) == {
            (edit.layer, edit.head) for edit in edits
        }
    assert run(tree(llama_folder, cases, ranking), tmp_path / "run") == 0
    data = manifest_of(tmp_path / "run")["identity"]["data"]
    assert str(tmp_path / "heads" / "curves.parquet") in data
    curves.with_columns(effect=-pl.col("effect")).write_parquet(tmp_path / "heads" / "curves.parquet")
    assert run(tree(llama_folder, cases, ranking), tmp_path / "run") == 2, "another ranking is another run"
    assert "curves.parquet" in one_error(capsys)


HEADS = {"run": "none", "intervention": "heads"}
WRONG = {
    "no run": (HEADS, [0], {}, "keep.ranking.run: 'none' has no curves.parquet, expected the folder of a finished run"),
    "too few": (RANKING, [4], {}, "keep.first: found 4, the ranking has 3 heads of the 16; write at most 3, or all"),
    "no head": ([[3, 9]], [0], {}, "keep.ranking[0]: there is no head 9, the model has 4"),
    "elsewhere": (RANKING, [1], {"layers": [0, 1]}, "keep.ranking: has head 1 of layer 3, which is not among the"),
    "site": (
        RANKING,
        [0],
        {"site": "attn_out"},
        "site: found the text 'attn_out' beside keep, which is of single heads",
    ),
    "layers": (RANKING, [0], {"layers": {"upto": "all"}}, "layers: found "),
    "size": (RANKING, [-1], {}, "keep.first.sweep[0]: found the whole number -1, expected how many heads; write 0,"),
    "order": ({**HEADS, "by": "most"}, [0], {}, "keep.ranking.by: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_meant_is_one_line(llama_folder, cases, tmp_path, capsys, case):
    ranking, sizes, section, says = WRONG[case]
    assert run(tree(llama_folder, cases, ranking, sizes, section=section), tmp_path / "run") == 2
    assert one_error(capsys).startswith(f"error: interventions.circuit.{says}")
    assert not (tmp_path / "run").exists()


def test_it_stands_beside_one_op(llama_folder, cases, tmp_path, capsys):
    told = tree(llama_folder, cases)
    told["interventions"]["circuit"] = {"edits": [CIRCUIT], "keep": {"ranking": RANKING, "first": 1}}
    assert run(told, tmp_path / "run") == 2
    assert one_error(capsys).startswith(
        "error: interventions.circuit.keep: stands beside edits; write one op beside it"
    )


def test_a_script_has_the_edits_of_all_others(finished, tmp_path, capsys):
    wanted = ["emit", str(finished), "--setting"]
    script = tmp_path / "kept.py"
    assert main([*wanted, f"{AXIS}=3", "--queries", "2", "--control", "all", "--out", str(script)]) == 0
    rows = values_of(script)
    own, of_run = np.array([row[3:5] for row in rows]), np.array([row[5:7] for row in rows])
    assert len(rows) == 2 * (4 * 2 + 3) and abs(own - of_run).max() < 1e-4
    capsys.readouterr()
    assert main([*wanted, f"{AXIS}=all", "--out", str(tmp_path / "all.py")]) == 2
    assert "circuit keeps every head, which a script cannot" in one_error(capsys)


def test_random_heads_need_a_ranking(llama_folder, cases, tmp_path, capsys):
    told = case_tree(cases, interventions={"heads": CIRCUIT}, controls=["random_heads"])
    assert run(tiny_tree(llama_folder, **told), tmp_path / "run") == 2
    assert "random_heads needs an intervention with keep, there is none; leave it out" in one_error(capsys)
