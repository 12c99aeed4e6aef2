"""Texts written under edits: batches of them as parts, from which a killed run goes on, then a table of each group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from transformers import PreTrainedTokenizerBase

from patchboard.engine.generation import Begun, end_tokens, generated
from patchboard.engine.halving import Halving, halved_range
from patchboard.engine.local import LocalEngine, Step
from patchboard.engine.perplexity import perplexities
from patchboard.engine.sampling import uniforms
from patchboard.execution.held_parts import files_holding
from patchboard.execution.model_run import ModelRun
from patchboard.measure.texts import repetition, text_row, text_schema
from patchboard.plan.model import Group, ModelPlan
from patchboard.plan.texts import CLEAN_RUN, TextRow, donor_of, edits_of, text_batches, text_rows
from patchboard.spec.generate import GenerateSection
from patchboard.store.folder import RunFolder
from patchboard.store.schema import TEXTS_FILE
from patchboard.vectors.base import Operand

_FOUND = {
    "query": pl.Int32(), "use": pl.Int32(), "sample": pl.Int32(), "token_ids": pl.List(pl.Int64()),
    "perplexity": pl.Float64(),
}  # fmt: skip


def compute_texts(
    run: ModelRun, plan: ModelPlan, prefix: str, engine: LocalEngine, operands: Mapping[str, Operand],
    tokenizer: PreTrainedTokenizerBase,
) -> None:  # fmt: skip
    """Write each group's texts, unless they are in the folder already.

    plan: of the cells that are run. prefix: of its parts' names. operands: as ``LocalEngine.place`` gives them.
    """
    if plan.generate is None:
        return
    rows = {group.id: text_rows(group, plan.generate, plan.facts) for group in plan.groups}
    step = run.progress.counter("texts", sum(map(len, rows.values())))
    for group in plan.groups:
        name = _group_file(run, group)
        if not run.folder.has(name):
            writer = _Writer(run.folder, prefix, plan, group, plan.generate, engine, operands)
            found = writer.found(rows[group.id], step)
            run.folder.write_table(name, _table(group, plan, found, tokenizer, end_tokens(engine.module)))


def write_texts(runs: Sequence[ModelRun], folder: RunFolder) -> None:
    """texts.parquet: the texts of all models, where the spec asks for any."""
    runs = [run for run in runs if run.plan.generate is not None]
    if runs:
        schema = text_schema(group for run in runs for group in run.plan.groups)
        tables = [folder.read_table(_group_file(run, group)) for run in runs for group in run.plan.groups]
        whole = pl.concat([pl.DataFrame(schema=schema), *tables], how="diagonal_relaxed")
        folder.write_table(TEXTS_FILE, whole.select(pl.col(name).cast(kind) for name, kind in schema.items()))


def _group_file(run: ModelRun, group: Group) -> str:
    return f"parts/{run.prefix}texts-of-{group.id}.parquet"


@dataclass(frozen=True)
class _Writer:
    """Writes a group's texts in batches, of which each is a part named by the rows that it holds."""

    folder: RunFolder
    prefix: str
    plan: ModelPlan
    group: Group
    section: GenerateSection
    engine: LocalEngine
    operands: Mapping[str, Operand]

    def found(self, rows: Sequence[TextRow], step: Step) -> pl.DataFrame:
        """_FOUND of all rows."""

        def write(batch: range) -> None:
            self.folder.write_table(self._file_of(batch), self._computed([rows[i] for i in batch]))

        smallest = f"one text behind a prompt of {self.group.task} does not fit"
        texts = Halving(
            self.engine, write, halved_range, lambda _: smallest, is_done=lambda some: bool(self._held(some))
        )
        names: list[str] = []
        for batch in text_batches(self.group, rows, self.plan, self.engine.budget):
            if not self._held(batch):
                texts.do(batch)
            names += self._held(batch)
            step(len(batch))
        return pl.concat([pl.DataFrame(schema=_FOUND), *map(self.folder.read_table, names)])

    def _file_of(self, batch: range) -> str:
        return f"parts/{self.prefix}texts-{self.group.id}-{batch.start}.{batch.stop}.parquet"

    def _held(self, batch: range) -> list[str]:
        return files_holding(self.folder, batch, self._file_of, halved_range) or []

    def _computed(self, rows: Sequence[TextRow]) -> pl.DataFrame:
        group, section = self.group, self.section
        drawn = uniforms(group.seed, [(group.task, row.query, row.sample) for row in rows], section.tokens)
        texts = []
        for row, of_row in zip(rows, drawn, strict=True):
            edits = edits_of(group, row.query, row.use, section)
            assert edits is not None, "rows are those whose edits can be made"
            donors = tuple(donor_of(group, row.query, each.edit) for each in edits)
            texts.append(Begun(group.prompts[row.query], edits, donors, row.query, of_row))
        new = generated(self.engine, texts, section.tokens, section.temperature, section.when, self.operands)
        told = perplexities(self.engine, [(text.prompt, ids) for text, ids in zip(texts, new, strict=True)])
        columns = [(*row, ids, each) for row, ids, each in zip(rows, new, told, strict=True)]
        return pl.DataFrame(columns, schema=_FOUND, orient="row")


def _table(
    group: Group, plan: ModelPlan, found: pl.DataFrame, tokenizer: PreTrainedTokenizerBase, ends: Sequence[int]
) -> pl.DataFrame:
    """The group's rows of texts.parquet. ends: ids that end a text and are no part of it."""
    assert plan.generate is not None

    def side(query: int, ids: Sequence[int], perplexity: float, name: str) -> dict[str, Any]:
        prompt = group.prompts[query].token_ids
        return {
            f"{name}_text": added_text(tokenizer, prompt, ids[: -1 if ids and ids[-1] in ends else None]),
            f"{name}_perplexity": perplexity,
            f"{name}_repetition": repetition(ids),
            f"{name}_token_ids": ids,
        }

    clean: dict[tuple[int, int], dict[str, Any]] = {}
    rows = []
    for query, use, sample, ids, perplexity in found.iter_rows():
        if use == CLEAN_RUN:
            clean[query, sample] = side(query, ids, perplexity, "clean")
            continue
        own = side(query, ids, perplexity, "edited") | clean[query, sample]
        placed = {"query": query, "sample": sample, "when": plan.generate.when, "prompt": group.prompts[query].text}
        rows.append(text_row(group, use, **placed, **own))
    schema = text_schema([group])
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema, strict=False)


def added_text(tokenizer: PreTrainedTokenizerBase, before: Sequence[int], ids: Sequence[int]) -> str:
    """What these tokens add to the prompt's text: alone, some tokenizers would drop a space in front."""

    def decoded(tokens: Sequence[int]) -> str:
        return str(tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))

    whole, front = decoded([*before, *ids]), decoded(before)
    return whole.removeprefix(front) if whole.startswith(front) else decoded(ids)
