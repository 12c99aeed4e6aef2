"""Texts of pretrained models: those of transformers' own generation; and prompts as chats where there is a template."""

from __future__ import annotations

import pytest
import torch

import patchboard as pb
from patchboard.errors import SpecError

NEW = 8


def tree_of(name: str, pair_files: list[str], **prompts) -> dict:
    vector = {"difference": ["same_task", "all_tasks"], "shots": 2, "prompts": 4}
    return {
        "name": "real-texts",
        "model": {"name": name, "dtype": "float32"},
        "tasks": {"family": "pairs", "files": pair_files, "include_null": False},
        "prompts": {"shots": 2, "queries": 3, **prompts},
        "interventions": {"added": {"op": "add", "vector": vector, "layers": [9], "strength": 2}},
        "controls": [], "decodability": None, "statistics": {"bootstrap": 100},
        "generate": {"tokens": NEW, "prompts": 3},
    }  # fmt: skip


def test_texts_are_those_of_generate(loaded, pair_files, tmp_path):
    """Prompts of other lengths together here, each alone there."""
    run = pb.run(pb.load(tree_of(loaded.name, pair_files)), out=tmp_path / "run")
    prompts = {(r["task"], r["query"]): r["token_ids"] for r in run.prompts.filter(role="evaluate").to_dicts()}
    model, changed = loaded.model, 0
    for row in run.texts.to_dicts():
        tokens = torch.tensor([prompts[row["task"], row["query"]]])
        given = dict(attention_mask=torch.ones_like(tokens), max_new_tokens=NEW, do_sample=False)
        own = model.generate(tokens, **given)[0, tokens.shape[1] :].tolist()
        with pb.intervene(model, run.vectors["added", 9, row["task"]], "add", 9, 2.0, position="from_last"):
            edited = model.generate(tokens, **given)[0, tokens.shape[1] :].tolist()
        assert (row["clean_token_ids"], row["edited_token_ids"]) == (own, edited)
        changed += own != edited
    assert changed and len({len(ids) for ids in prompts.values()}) > 1


def test_chats_are_the_templates_own(loaded, pair_files):
    spoken, template = loaded.tokenizer, {"input": "{input}", "output": "{output}"}
    study = pb.load(tree_of(loaded.name, pair_files, chat=True, template=template))
    if not spoken.chat_template:
        with pytest.raises(SpecError, match="no chat template"):
            study.plan()
        return
    (plan,) = study.plan().model_plans
    prompts = [p for group in plan.groups for p in group.prompts]
    for prompt in prompts:
        assert not prompt.excluded
        at = lambda name, p=prompt: spoken.decode([p.token_ids[i] for i in p.positions[name]])  # noqa: E731
        turns = spoken.decode(prompt.token_ids).split("<|im_start|>")[2:]
        said = [turn.split("\n", 1)[1].removesuffix("<|im_end|>\n") for turn in turns]
        messages = [{"role": "assistant" if i % 2 else "user", "content": each} for i, each in enumerate(said[:-1])]
        own = spoken.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert list(prompt.token_ids) == own and said[-1] == "" and at("query") == said[-2]
        assert at("demo_inputs") == said[0] + said[2] and at("demo_outputs") == said[1] + said[3]
        assert spoken.decode(prompt.answer_ids) == prompt.answer
