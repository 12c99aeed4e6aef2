"""Which texts a plan asks for: behind which evaluated prompts, and what each cell edits of one without an answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from patchboard.errors import ModelError, SpecError
from patchboard.plan.cells import STATE, Edit, position_label, source_of
from patchboard.plan.facts import ModelFacts
from patchboard.plan.model import Group, ModelPlan
from patchboard.plan.packs import Budget
from patchboard.plan.suffix import positions_of
from patchboard.plan.unit import read_positions
from patchboard.spec.generate import GenerateSection
from patchboard.spec.layers import parse_layers
from patchboard.tasks.prompt import Prompt

CLEAN_RUN = -1
"""In place of a cell's number: the run without an edit."""
NOT_OF_TEXTS = ("self",)
"""Controls that edit nothing, whose texts are the clean ones."""


class TextRow(NamedTuple):
    """One text: behind which of the group's prompts, under the edits of which of its ``uses``, which sample of it."""

    query: int
    use: int
    sample: int


class PlacedEdit(NamedTuple):
    """An edit of one prompt: its tokens, how many edits of the cell come before it at its place, and of an edit that
    takes states the tokens of its source where they stand."""

    edit: Edit
    order: int
    tokens: tuple[int, ...]
    taken: tuple[int, ...] = ()


def text_rows(group: Group, section: GenerateSection, facts: ModelFacts) -> tuple[TextRow, ...]:
    """All texts of a group, shorter prompts first; of each query the unedited ones first."""
    layers = parse_layers(section.layers, facts.layers, "generate.layers")
    uses = [
        number
        for number, use in enumerate(group.uses)
        if use.cell.layer in layers
        and (section.interventions is None or use.cell.intervention in section.interventions)
        and (not use.cell.control or (section.controls and use.cell.control not in NOT_OF_TEXTS))
    ]
    usable = [i for i, prompt in enumerate(group.prompts) if not prompt.excluded][: section.prompts]
    rows = []
    for query in sorted(usable, key=lambda query: len(group.prompts[query].token_ids)):
        own = [use for use in uses if edits_of(group, query, use, section) is not None]
        rows += [TextRow(query, use, n) for use in ([CLEAN_RUN, *own] if own else ()) for n in range(section.samples)]
    return tuple(rows)


def edits_of(group: Group, query: int, use: int, section: GenerateSection) -> tuple[PlacedEdit, ...] | None:
    """The cell's edits of that prompt; None where one has no token of it to edit, or its source not as many."""
    edits = () if use == CLEAN_RUN else group.uses[use].cell.edits
    prompt = group.prompts[query]
    placed = []
    for i, edit in enumerate(edits):
        tokens = positions_of(prompt, edit.position, len(prompt.token_ids))
        order = sum((e.layer, e.site) == (edit.layer, edit.site) for e in edits[:i])
        if section.when == "decode":
            placed.append(PlacedEdit(edit, order, ()))
            continue
        donor = donor_of(group, query, edit)
        taken = () if donor is None or donor.excluded else read_positions(donor, edit, len(tokens))
        if not tokens or (donor is not None and len(taken) != len(tokens)):
            return None
        placed.append(PlacedEdit(edit, order, tokens, taken))
    return tuple(placed)


def donor_of(group: Group, query: int, edit: Edit) -> Prompt | None:
    """The prompt whose states the edit puts in: a source's, or the query's own; None of any other edit."""
    source = source_of(edit)
    if source:
        return group.donors[source][query]
    return group.prompts[query] if edit.operand.startswith(STATE) else None


def check_texts(plan: ModelPlan) -> None:
    """Raises SpecError where no text can be had, ModelError where one would leave the model's context."""
    section = plan.generate
    if section is None:
        return
    rows = {group.id: text_rows(group, section, plan.facts) for group in plan.groups}
    if not any(rows.values()):
        raise SpecError("generate", *_nothing_to_edit(plan, section))
    for group in plan.groups:
        longest = max((len(group.prompts[row.query].token_ids) for row in rows[group.id]), default=0)
        whole = longest + section.tokens
        what = f"found {section.tokens}, and a prompt of {group.task} has {longest} tokens: with them that is beyond"
        if 0 < plan.facts.context < whole:
            of_model = f"{what} the model's context of {plan.facts.context}"
            raise ModelError("generate.tokens", of_model, "use fewer tokens, or fewer shots")
        if 0 < plan.facts.rotary_limit < whole:
            frequencies = (
                f"{what} {plan.facts.rotary_limit}, from where its rotary frequencies depend on what is in a pass"
            )
            raise ModelError("generate.tokens", frequencies, "use fewer tokens, or fewer shots")


def _nothing_to_edit(plan: ModelPlan, section: GenerateSection) -> tuple[str, str]:
    """What is lacking, and what to do."""
    named = [
        use.cell
        for group in plan.groups
        for use in group.uses
        if section.interventions is None or use.cell.intervention in section.interventions
    ]
    if not named:
        return "finds no intervention", "add one, or leave generate out"
    layers = parse_layers(section.layers, plan.facts.layers, "generate.layers")
    if not any(cell.layer in layers for cell in named):
        there = ", ".join(map(str, sorted({cell.layer for cell in named})))
        return f"finds no cell at layers {section.layers}, there are some at {there}", "name some of these in layers"
    places = dict.fromkeys(position_label(edit.position) for cell in named for edit in cell.edits)
    return (
        f"finds no prompt in which position {' or '.join(places)} names a token before the answer",
        "write when: decode, or another position",
    )


def text_batches(group: Group, rows: Sequence[TextRow], plan: ModelPlan, budget: Budget) -> Iterator[range]:
    """Places in ``rows`` of texts that are written together: as many as the budget allows, padding counted."""
    assert plan.generate is not None
    start, most = 0, max(1, budget.read_floats // plan.facts.vocab)
    for stop, row in enumerate(rows):
        longest = len(group.prompts[row.query].token_ids) + plan.generate.tokens  # rows stand by length
        if start < stop and (stop - start == most or (stop - start + 1) * longest > budget.tokens):
            yield range(start, stop)
            start = stop
    if start < len(rows):
        yield range(start, len(rows))


def text_cost(plan: ModelPlan, budget: Budget) -> tuple[int, int, int]:
    """(texts, tokens, passes) at most: each text's prompt and new tokens but the last are fed in with its edits, a pass
    for each new token, and once more without them, for its perplexity."""
    texts, tokens, passes = 0, 0, 0
    for group in plan.groups if plan.generate else ():
        section: GenerateSection = plan.generate  # pyright: ignore[reportAssignmentType]
        rows = text_rows(group, section, plan.facts)
        texts += len(rows)
        tokens += sum(2 * (len(group.prompts[row.query].token_ids) + section.tokens - 1) for row in rows)
        told_at_once = max(1, budget.read_floats // (section.tokens * plan.facts.vocab))
        for batch in text_batches(group, rows, plan, budget):
            passes += section.tokens + -(-len(batch) // told_at_once)
    return texts, tokens, passes
