"""Texts written under edits: batches of them as parts, from which a killed run goes on, then a table of each group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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


class TextParts:
    """The texts of one model's plan: batches of them, as parts, and a table of each group.

    plan: of the cells that are run. prefix: of its parts' names. operands: as ``LocalEngine.place`` gives them.
    """

    def __init__(
        self, run: ModelRun, plan: ModelPlan, prefix: str, engine: LocalEngine, operands: Mapping[str, Operand]
    ):
        self.run, self.plan, self.engine = run, plan, engine
        self._writers: dict[str, _Writer] = {}
        if plan.generate is not None:
            for group in plan.groups:
                writer = _Writer(run.folder, prefix, plan, group, plan.generate, engine, operands)
                self._writers[_group_file(run, group)] = writer
        self.step = run.progress.counter("texts", sum(len(each.rows) for each in self._writers.values()), shared=True)

    def write(self, take: Callable[[str], bool]) -> None:
        """Write the batches that are not in the folder and are this process's to do. take: as of ``Claims``."""
        for name, writer in self._writers.items():
            if not self.run.folder.has(name):
                writer.write(take, self.step)

    def are_there(self) -> bool:
        return all(self.run.folder.has(name) or writer.is_done() for name, writer in self._writers.items())

    def gather(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Write each group's table, once all batches are there."""
        for name, writer in self._writers.items():
            if not self.run.folder.has(name):
                ends = end_tokens(self.engine.module)
                self.run.folder.write_table(name, _table(writer.group, self.plan, writer.found(), tokenizer, ends))


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


@dataclass(frozen=True, eq=False)
class _Writer:
    """Writes a group's texts in batches, of which each is a part named by the rows that it holds."""

    folder: RunFolder
    prefix: str
    plan: ModelPlan
    group: Group
    section: GenerateSection
    engine: LocalEngine
    operands: Mapping[str, Operand]

    @cached_property
    def rows(self) -> tuple[TextRow, ...]:
        return text_rows(self.group, self.section, self.plan.facts)

    @cached_property
    def batches(self) -> list[range]:
        """Places in ``rows``."""
        return list(text_batches(self.group, self.rows, self.plan, self.engine.budget))

    def write(self, take: Callable[[str], bool], step: Step) -> None:
        smallest = f"one text behind a prompt of {self.group.task} does not fit"
        texts = Halving(self.engine, self._write, halved_range, lambda _: smallest, is_done=self._is_held)
        for batch in self.batches:
            if take(self._file_of(batch)):
                if not self._is_held(batch):
                    texts.do(batch)
                step(len(batch))

    def is_done(self) -> bool:
        return all(map(self._is_held, self.batches))

    def found(self) -> pl.DataFrame:
        """_FOUND of all rows."""
        names = [name for batch in self.batches for name in self._held(batch)]
        return pl.concat([pl.DataFrame(schema=_FOUND), *map(self.folder.read_table, names)])

    def _write(self, batch: range) -> None:
        self.folder.write_table(self._file_of(batch), self._computed([self.rows[i] for i in batch]))

    def _is_held(self, batch: range) -> bool:
        return bool(self._held(batch))

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
