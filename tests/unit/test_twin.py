"""The untrained twin: transformers' own initialisation, and a floor that a run of the twin does not rise above."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM

import patchboard as pb
from patchboard.embedded.tokenizer import build
from patchboard.engine.local import LocalEngine
from patchboard.engine.twin import blueprint_of, untrained_twin
from patchboard.errors import SpecError
from patchboard.execution.options import Options
from patchboard.execution.planned import plan_study
from patchboard.execution.remote_checks import NO_FLOORS
from patchboard.execution.run import run_study
from patchboard.measure.decodability import ALL
from patchboard.plan.cost import cost_of
from patchboard.plan.packs import Budget
from patchboard.plan.validate import refuse_floors
from patchboard.spec.study import study_of
from patchboard.store.schema import DECODABILITY, FLOORS
from tests.models import random_model, save

SEED = 5
DEFAULT_DIGEST = "214614902b13ba12ec8579af25c30f6cb84cd031b95f73611cee0f29b1decf49"
"""Of an empty spec, from before there were floors."""


def tree(model: object, **section: Any) -> dict[str, Any]:
    return {
        "model": {"name": str(model)},
        "tasks": {"family": "bitwise", "bits": 4, "only": ["AND", "OR", "XOR"]},
        "prompts": {"shots": 0, "queries": 1, "seed": SEED},
        "decodability": {"k": 3, "prompts": 8, "shots": [0, 2], **section},
        "metrics": ["accuracy"], "statistics": {"bootstrap": 100},
    }  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def no_report():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("patchboard.execution.run._report", lambda folder: None)
        yield


@pytest.fixture(scope="module")
def twin_folder(tmp_path_factory) -> Path:
    """The twin of a random Llama, of the seed that the specs here have, as a model of its own."""
    return save(untrained_twin(blueprint_of(random_model("llama")), SEED), tmp_path_factory.mktemp("twin"))


@pytest.fixture(scope="module")
def ran(twin_folder, tmp_path_factory) -> tuple[Path, pl.DataFrame]:
    folder = run_study(
        study_of(tree(twin_folder, twin=True, shuffled=4)), Options(tmp_path_factory.mktemp("r") / "run")
    )
    return folder, pl.read_parquet(folder / "decodability.parquet")


def test_a_twin_is_transformers_own_initialisation_and_moves_no_other_draw():
    model = random_model("gpt2")
    before, config = torch.random.get_rng_state(), copy.deepcopy(model.config)
    twin = untrained_twin(blueprint_of(model), SEED)
    assert torch.equal(torch.random.get_rng_state(), before) and model.config.to_dict() == config.to_dict()
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        oracle = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    assert twin.state_dict().keys() == oracle.state_dict().keys() and not twin.training
    assert all(torch.equal(value, oracle.state_dict()[name]) for name, value in twin.state_dict().items())
    another = untrained_twin(blueprint_of(model), SEED + 1)
    assert not torch.equal(another.get_input_embeddings().weight, twin.get_input_embeddings().weight)


def test_a_twin_has_the_models_dtype_and_rotary_frequencies_that_are_not_rounded():
    model = random_model("llama").bfloat16()
    model.config.quantization_config = {"quant_method": "none of a twin's"}
    blueprint = blueprint_of(model)
    twin = untrained_twin(blueprint, SEED)
    assert {each.dtype for each in twin.parameters()} == {torch.bfloat16} and twin.device == model.device
    assert {each.dtype for each in twin.buffers()} == {torch.float32}
    assert not hasattr(twin.config, "quantization_config") and hasattr(model.config, "quantization_config")


def test_the_twin_as_the_model_is_not_above_itself(ran):
    _, table = ran
    assert table.columns == [*DECODABILITY, *FLOORS]
    assert table.height == 5 * 4 * 2
    for name in ("above_twin", "above_twin_low", "above_twin_high"):
        assert (table[name] == 0).all()
    assert (table["twin"] == table["cd"]).all() and (table["twin_low"] == table["ci_low"]).all()
    assert table["cd"].n_unique() > 3, "else nothing is shown"


def test_floors_change_no_number_of_cd(ran, twin_folder, tmp_path):
    _, table = ran
    plain = run_study(study_of(tree(twin_folder)), Options(tmp_path / "run"))
    assert pl.read_parquet(plain / "decodability.parquet").equals(table.select(*DECODABILITY))


def test_a_run_killed_before_its_twin_goes_on_to_the_same_table(ran, twin_folder, tmp_path, monkeypatch):
    study, options = study_of(tree(twin_folder, twin=True, shuffled=4)), Options(tmp_path / "run")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("patchboard.execution.local_decodings.untrained_twin", killed)
        run_study(study, options)
    assert (tmp_path / "run" / "parts" / "cd0.npz").exists()
    decoded, decode = [], LocalEngine.decode
    monkeypatch.setattr(LocalEngine, "decode", lambda *asked: decoded.append(asked) or decode(*asked))
    folder = run_study(study, options)
    assert len(decoded) == 1, "the twin's; the model's votes were there"
    assert pl.read_parquet(folder / "decodability.parquet").equals(ran[1])


def test_a_model_in_memory_has_the_twin_of_its_configuration(ran, twin_folder, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(twin_folder)
    study = pb.load({**tree("x", twin=True, shuffled=4), "model": {}})
    run = pb.run(study, model=model, tokenizer=build(), out=tmp_path / "run")
    assert run.decodability.equals(ran[1])
    assert run.manifest["models"][0]["twin"] == {"seeds": [SEED]}


def test_the_summary_says_where_cd_is_highest_above_the_twin(ran):
    folder, table = ran
    summary = pb.open(folder).summary["decodability"]
    overall = table.filter(pl.col("task") == ALL, pl.col("shots") == 2).sort("layer")
    assert summary["above_twin"]["layer"] == 0 and summary["above_twin"]["above_twin"] == 0
    assert summary["shuffled"]["shuffled"] == overall["shuffled"][summary["layer"]]


def test_the_plan_counts_the_twins_tokens(twin_folder):
    plans = [plan_study(study_of(tree(twin_folder, twin=twin)))[0] for twin in (False, True)]
    plain, whole = (cost_of(plan, "auto", Budget()) for plan in plans)
    (decoding,) = plans[1].decodings
    own = sum(len(p.token_ids) + len(p.answer_ids) - 1 for rows in decoding.prompts.values() for p in rows)
    assert whole.twin_tokens == whole.tokens - plain.tokens == own
    assert whole.forwards > plain.forwards and whole.bound - plain.bound == own * 4
    assert "twin_tokens" not in plain.as_dict() and whole.as_dict()["twin_tokens"] == own


def test_specs_without_floors_keep_their_digests_and_what_they_tell():
    plain = study_of({})
    assert plain.digest == DEFAULT_DIGEST == study_of({"decodability": {"twin": False, "shuffled": 0}}).digest
    assert plain.tree["decodability"] == {"k": 10, "prompts": 100, "shots": [0, 1, 2, 4]}
    assert study_of({"decodability": {"twin": True}}).digest != plain.digest


def test_a_swept_twin_is_off_and_on():
    study = study_of({"decodability": {"twin": {"sweep": [False, True]}}})
    assert [point.spec.decodability.twin for point in study.points] == [False, True]
    assert study_of(study.tree).digest == study.digest


@pytest.mark.parametrize(("field", "value"), [("twin", True), ("shuffled", 3)])
def test_a_host_has_no_floors(field, value):
    section = study_of({"decodability": {field: value}}).points[0].spec.decodability
    with pytest.raises(SpecError, match="leave it out with --remote, or run it here") as raised:
        refuse_floors(section, NO_FLOORS)
    assert raised.value.where == f"decodability.{field}"


@pytest.mark.slow
def test_the_embedded_model_is_far_above_its_twin_where_it_has_learned_and_not_where_looks_tell(tmp_path):
    """Measured: CD .72 against .22 at layer 3; at layer 0 the twin tells tasks by their answers, .33 (chance .14)."""
    section = {"k": 10, "prompts": 40, "shots": [4], "twin": True, "shuffled": 40}
    spec = {"prompts": {"queries": 1}, "decodability": section, "statistics": {"bootstrap": 500}}
    folder = run_study(study_of(spec), Options(tmp_path / "run"))
    table = pl.read_parquet(folder / "decodability.parquet").filter(task=ALL).sort("layer")
    assert table["above_twin_low"][3] > 0.3 and table["above_twin"].arg_max() in (3, 4)
    assert table["twin_low"][0] > table["chance"][0] and table["above_twin_high"][0] < 0
    assert ((table["shuffled_low"] < 1 / 7) & (1 / 7 < table["shuffled_high"])).all()
