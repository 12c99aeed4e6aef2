"""top_tokens.parquet, written group by group beside the outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from patchboard.engine.load import open_model
from patchboard.execution.model_run import ModelRun
from patchboard.execution.texts import added_text
from patchboard.measure.scored_group import ScoredGroup
from patchboard.measure.top_tokens import top_rows, top_schema
from patchboard.store.folder import RunFolder
from patchboard.store.schema import TOP_TOKENS_FILE


@contextmanager
def top_tokens_into(folder: RunFolder, runs: Sequence[ModelRun]) -> Iterator[Callable[[ModelRun, ScoredGroup], None]]:
    """Gives what appends a group's rows; the table is in place once all are there. Nothing is written where the spec
    asks for none."""
    groups = [group for run in runs for group in run.plan.groups]
    if not any(group.top_tokens for group in groups):
        yield lambda run, scored: None
        return
    schema = top_schema(groups)
    texts: dict[str, Callable[[int], str]] = {}
    with folder.growing_table(TOP_TOKENS_FILE, schema) as append:

        def take(run: ModelRun, scored: ScoredGroup) -> None:
            if run.name not in texts:
                texts[run.name] = texts_of(open_model(run.plan.section)[0])
            append(top_rows(scored, schema, texts[run.name]))

        yield take


def texts_of(tokenizer: Any) -> Callable[[int], str]:
    """Gives a token's text by its id: what it adds behind another token, here itself, as some tokenizers drop a space
    at the beginning of a text. A token that is no whole character is a replacement character (U+FFFD)."""

    @cache
    def text(number: int) -> str:
        return added_text(tokenizer, [number], [number])

    return text
