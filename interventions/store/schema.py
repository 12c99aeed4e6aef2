"""Columns, types and units of every table in a run folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import polars as pl

CELL: dict[str, pl.DataType] = {
    "intervention": pl.String(),  # name in the spec
    "control": pl.String(),  # "" for the intervention itself, else the control's name
    "vector_task": pl.String(),  # whose vector: a task, "~"-suffixed for a random draw, "" where none
    "op": pl.String(),  # several edits: joined with "+"
    "site": pl.String(),
    "layer": pl.Int32(),  # (earliest) edited block, from 0; of layers {upto: …} the last one
    "layers": pl.String(),  # all edited blocks, "3" or "3,5,6"
    "head": pl.Int32(),  # -1 where none is meant
    "position": pl.String(),
    "strength": pl.Float64(),
    "shots": pl.Int32(),  # demonstrations of the evaluated prompt
    "seed": pl.Int64(),
}
"""What names a cell, beside the task; swept fields follow as columns named by their dotted path."""

OUTCOMES = {
    "task": pl.String(),
    "query": pl.Int32(),  # row of prompts.parquet with role "evaluate", same task, shots and swept fields
    **CELL,
    "metric": pl.String(),
    "clean": pl.Float64(),  # the metric's unit; NaN where the query is excluded
    "patched": pl.Float64(),
}

SCALE = {
    "scale": pl.Float64(),  # of a normalised metric: value of its clean run less that of its corrupted run; else null
}
"""Column behind OUTCOMES' in runs with a normalised metric, whose ``clean`` and ``patched`` are then counted from the
corrupted run's value; means of these are divided by the mean of the scale."""


def swept_of(columns: Iterable[str]) -> list[str]:
    """Those of the columns of a table of outcomes that are swept fields."""
    return [column for column in columns if column not in OUTCOMES and column not in SCALE]


MEASURED = {
    "clean": pl.Float64(),  # mean over queries
    "patched": pl.Float64(),
    "effect": pl.Float64(),  # mean of patched - clean, paired by query
    "ci_low": pl.Float64(),  # bootstrap over queries
    "ci_high": pl.Float64(),
    "n": pl.Int32(),  # queries in the mean
    "excluded": pl.Int32(),  # queries left out, with the reason in prompts.parquet or undefined (conversion)
}

EFFECTS = {"task": pl.String(), **CELL, "metric": pl.String(), **MEASURED}

CURVES = {**{k: v for k, v in CELL.items() if k != "vector_task"}, "metric": pl.String(), **MEASURED}
"""Pooled over tasks (and random draws): every query of every task weighs the same."""

SCREEN = {
    "task": pl.String(),
    **CELL,
    "metric": pl.String(),  # by whose gradient it is estimated
    "estimate": pl.Float64(),  # of the effect, mean over queries, in the metric's unit; NaN where there is none
    "ci_low": pl.Float64(),  # bootstrap over queries
    "ci_high": pl.Float64(),
    "n": pl.Int32(),  # queries in the mean
    "choosing": pl.Float64(),  # the mean over even queries, by whose size cells are kept
    "rank": pl.Int32(),  # by that size among the task's cells, 1: the largest
    "chosen": pl.String(),  # kept, sampled, left out
}
"""One row per task and screened cell; swept fields follow."""
SCREEN_FILE = "screen.parquet"

TEXTS = {
    "task": pl.String(),
    "query": pl.Int32(),  # as in OUTCOMES
    **CELL,
    "when": pl.String(),  # prompt, decode, both: which tokens were edited
    "sample": pl.Int32(),  # of the texts of one prompt and cell, from 0
    "prompt": pl.String(),  # its text
    "clean_text": pl.String(),  # what the model wrote behind it, what ends it left out
    "edited_text": pl.String(),
    "clean_perplexity": pl.Float64(),  # under the unedited model, exp of nats per token; NaN of an empty text
    "edited_perplexity": pl.Float64(),
    "clean_repetition": pl.Float64(),  # share of 4-grams of tokens that came before; NaN of fewer than 4 tokens
    "edited_repetition": pl.Float64(),
    "clean_token_ids": pl.List(pl.Int64()),  # the new tokens, with one that ends the text
    "edited_token_ids": pl.List(pl.Int64()),
}
"""One row per query, cell and sample; swept fields follow."""
TEXTS_FILE = "texts.parquet"
TOP_TOKENS = {
    "task": pl.String(),
    "query": pl.Int32(),  # as in OUTCOMES
    **CELL,  # null in rows of the clean run, but for shots and seed: it is the same for all cells of a prompt
    "run": pl.String(),  # clean, patched
    "tokens": pl.List(pl.String()),  # texts of the likeliest next tokens, the likeliest first; of equal ones lower ids
    "token_ids": pl.List(pl.Int32()),
    "logprobs": pl.List(pl.Float32()),  # nats
    "answer_logprob": pl.Float32(),  # of the answer's first token
    "answer_rank": pl.Int32(),  # 1 + number of tokens that are likelier than it
}
"""One row per query that the page shows and cell of an intervention itself, and one per prompt for the clean run; of
the next token after the prompt. Swept fields follow."""
TOP_TOKENS_FILE = "top_tokens.parquet"
FEATURES = {
    "model": pl.String(),
    "intervention": pl.String(),  # its part of the vectors' keys, which tells an edit's number and swept values
    "vector_task": pl.String(),  # "~"-suffixed for a random draw
    "layer": pl.Int32(),  # edited block
    "site": pl.String(),
    "dictionary": pl.String(),  # its file
    "feature": pl.Int32(),  # its number in the dictionary, from 0
    "mean_first": pl.Float64(),  # mean activation over fit prompts: of all tasks, or of select's first source
    "mean_second": pl.Float64(),  # of select's second source, else null
    "rate": pl.Float64(),  # share of all these prompts in which it is active
    "largest": pl.Float64(),  # activation among them, the unit of clamp_features and add
}
"""One row for each feature of an edit's vector, in runs that use dictionaries."""
FEATURES_FILE = "features.parquet"
LEARNED = {
    "model": pl.String(),
    "task": pl.String(),  # whose fit prompts it is learned on
    "intervention": pl.String(),
    "setting": pl.String(),  # swept fields that change the vector, as in its key; "" where there are none
    "vector_task": pl.String(),  # as in its key
    "vector": pl.String(),  # its key in vectors.safetensors
    "source": pl.String(),  # whose states it takes: a task or a source of the rows; "" of a vector that takes none
    "site": pl.String(),
    "layer": pl.Int32(),
    "head": pl.Int32(),  # -1 where none is meant
    "pairs": pl.Int32(),  # pairs (or prompts) that steps see
    "held_out": pl.Int32(),  # pairs of the fit half that no step sees
    "step": pl.Int32(),  # steps done; 0: as it was drawn
    "training_loss": pl.Float64(),  # nats, mean over the steps since the row before; NaN at step 0
    "held_out_loss": pl.Float64(),  # nats: -log p(the answer that it is to bring), mean over held-out pairs
    "held_out_accuracy": pl.Float64(),  # share of held-out pairs that get that answer
    "rank": pl.Int32(),  # of a subspace
    "chosen": pl.Boolean(),  # whether the vector is the one of this row
}
"""One row per vector that is learned and look at the held-out pairs."""
LEARNED_FILE = "learned.parquet"

DECODABILITY = {
    "task": pl.String(),  # a label, or ALL
    "layer": pl.Int32(),
    "shots": pl.Int32(),
    "k": pl.Int32(),
    "n": pl.Int32(),  # points (prompts)
    "cd": pl.Float64(),  # fraction of points whose neighbours vote for their own task
    "ci_low": pl.Float64(),
    "ci_high": pl.Float64(),
    "chance": pl.Float64(),  # 1 / number of labels
    "accuracy": pl.Float64(),  # exact match at that many shots on the same prompts, same at every layer
}

TWIN = {
    "twin": pl.Float64(),  # CD of the untrained twin: same points, its own neighbours
    "twin_low": pl.Float64(),
    "twin_high": pl.Float64(),
    "above_twin": pl.Float64(),  # cd - twin
    "above_twin_low": pl.Float64(),  # bootstrap over points, each point's hit paired with its hit in the twin
    "above_twin_high": pl.Float64(),
}
SHUFFLED = {
    "shuffled": pl.Float64(),  # mean CD over permutations of the labels over the points
    "shuffled_low": pl.Float64(),  # central level of these CDs
    "shuffled_high": pl.Float64(),
}
FLOORS = {**TWIN, **SHUFFLED}
"""Columns behind DECODABILITY's where the spec wants them; null at settings that do not."""

PROBED = {
    "task": pl.String(),  # a label, or ALL
    "probe": pl.String(),
    "layer": pl.Int32(),
    "shots": pl.Int32(),
    "n": pl.Int32(),  # points (prompts)
    "accuracy": pl.Float64(),  # fraction of points that the probe, fitted on other queries, gives their own task
    "ci_low": pl.Float64(),  # bootstrap over queries, each with all of its prompts
    "ci_high": pl.Float64(),
    "chance": pl.Float64(),  # 1 / number of labels
    "shuffled": pl.Float64(),  # the same probe's accuracy of labels that are drawn for each query: a control task
    "selectivity": pl.Float64(),  # accuracy - shuffled
    "selectivity_low": pl.Float64(),
    "selectivity_high": pl.Float64(),
    "random_features": pl.Float64(),  # its accuracy on random vectors of the prompt's tokens, the same at every layer
}
"""Behind them TWIN's columns where the spec wants a twin, of the same probe on its states; then swept fields."""
PROBES_FILE = "probes.parquet"

GUARDED = {
    "task": pl.String(),  # a label, or ALL
    "intervention": pl.String(),
    "control": pl.String(),  # "" for the intervention itself, else the control's name
    "vector_task": pl.String(),  # "~"-suffixed for a random draw
    "half": pl.String(),  # fit: the prompts that the subspace was fitted on; held_out: others
    "tested": pl.String(),  # cross_validated: on queries that it was not fitted on; in_sample: on those that it was
    "probe": pl.String(),
    "layer": pl.Int32(),  # (earliest) edited block, from 0
    "layers": pl.String(),  # all edited blocks
    "probed_layer": pl.Int32(),  # block whose output the probe is fitted on, after the edit
    "shots": pl.Int32(),
    "n": pl.Int32(),  # points (prompts)
    "accuracy": pl.Float64(),  # fraction of points whose own label a probe gives that is fitted on the edited run
    "ci_low": pl.Float64(),  # bootstrap over queries, each with all of its prompts
    "ci_high": pl.Float64(),
    "unablated": pl.Float64(),  # accuracy of a probe fitted and tested alike on the unedited run
    "chance": pl.Float64(),  # 1 / number of labels
    "constant": pl.Float64(),  # share of the commonest label: accuracy of the best constant
}
"""Swept fields follow."""
GUARDED_FILE = "guardedness.parquet"

PROMPTS = {
    # evaluate, fit, decodability, guardedness, unrelated (texts, under the task whose vectors are put in)
    "role": pl.String(),
    "task": pl.String(),
    "query": pl.Int32(),
    "shots": pl.Int32(),
    "text": pl.String(),  # up to, and without, the answer
    "answer": pl.String(),
    "token_ids": pl.List(pl.Int64()),  # of the prompt
    "answer_ids": pl.List(pl.Int64()),
    "right_answers": pl.List(pl.String()),  # all right ones, `answer` first; null where it is the only one
    "right_answer_ids": pl.List(pl.List(pl.Int64())),
    "position": pl.Int32(),  # index of `last`, the token before the answer
    "starts": pl.List(pl.Int32()),  # of each of token_ids, where its characters begin in `text`; null where unknown
    "places": pl.String(),  # JSON: name of a position or a span -> indices of its tokens; without `all`
    "excluded": pl.String(),  # why the row is left out, "" where it is not
    "set": pl.String(),  # which prompts belong together: a plan's group, fit, decoding or guarding
    "swept": pl.String(),  # the set's swept settings, "prompts.seed=1, prompts.shots=4"; several joined with " or "
}


class OptionalTable(NamedTuple):
    """A table that only some runs have."""

    file: str
    columns: Mapping[str, pl.DataType]
    in_summary: bool = True
    """Whether summary.json has an entry of the table's name in a run that has it; else its file alone tells."""


OPTIONAL_TABLES = {
    "screen": OptionalTable(SCREEN_FILE, SCREEN),
    "learned": OptionalTable(LEARNED_FILE, LEARNED),
    "probes": OptionalTable(PROBES_FILE, PROBED),
    "guardedness": OptionalTable(GUARDED_FILE, GUARDED),
    "texts": OptionalTable(TEXTS_FILE, TEXTS),
    "features": OptionalTable(FEATURES_FILE, FEATURES, in_summary=False),
    "top_tokens": OptionalTable(TOP_TOKENS_FILE, TOP_TOKENS, in_summary=False),
}
"""By the name that a run's own attribute of it has. What lists them (files of a run, reading, repair) goes by this."""
