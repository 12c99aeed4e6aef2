"""Groups of edited tokens are those that sorting the tokens one by one gives."""

from __future__ import annotations

import json
from itertools import groupby

from hypothesis import given, settings
from hypothesis import strategies as st

from patchboard.engine.edit_groups import EditGroup, edit_groups
from patchboard.engine.sites import place_of
from patchboard.ops import OPS
from patchboard.plan.cells import OWN_STATE, Edit, StateRead
from patchboard.plan.edit_table import CopyEdit, CopyEdits, EditTable, EditToken

READ = StateRead(0, "resid_post", json.dumps("last"))
edits = st.one_of(
    st.builds(Edit, st.just("patch"), st.sampled_from(["resid_post", "attn_out"]), st.integers(0, 2), st.just('"last"'),
              st.sampled_from([0.5, 1.0]), st.sampled_from(["v", "w", OWN_STATE]), subspace=st.sampled_from(["", "s"])),
    st.builds(Edit, st.just("ablate"), st.just("resid_post"), st.integers(0, 2), st.just('"last"'),
              st.just(1.0), st.sampled_from(["s", "t"])),
    st.builds(Edit, st.just("resample"), st.just("resid_post"), st.just(2), st.just('"last"'), st.just(1.0),
              st.just("@B"), read=st.sampled_from([None, READ])),
    st.builds(Edit, st.just("zero"), st.just("head"), st.integers(0, 1), st.just('"last"'), st.just(1.0),
              head=st.integers(0, 3)),
    st.builds(Edit, st.just("zero"), st.just("mlp_act"), st.integers(0, 1), st.just('"last"'), st.just(1.0),
              neurons=st.sampled_from([(), (1, 3)])),
    st.builds(Edit, st.just("knock_out"), st.just("attention"), st.integers(0, 1), st.just('"last"'), st.just(1.0),
              origin=st.just('"query"'), heads=st.sampled_from([(), (0, 2)])),
    st.builds(Edit, st.just("noise"), st.just("resid_pre"), st.just(0), st.just('"last"'), st.just(1.0),
              seed=st.integers(0, 2)),
)  # fmt: skip
small = st.integers(0, 5)


@st.composite
def tables(draw) -> EditTable:
    """Some of whose edits are made at no token."""
    made = [
        CopyEdit(edit, draw(st.integers(0, 1)), draw(st.integers(-1, 4)))
        for edit in draw(st.lists(edits, min_size=1, max_size=8))
    ]
    token = st.tuples(st.integers(0, len(made) - 1), small, small, small, small, small)
    return EditTable.made(CopyEdits(tuple(made)), draw(st.lists(token, max_size=12)))


def call(token: EditToken) -> tuple:
    """What tokens of one group have in common, in words of their own."""
    edit = token.edit
    of_state = edit.operand.startswith("@")
    fitted = OPS[edit.op].operand in ("subspace", "features")
    operand = f"@{edit.subspace}" if of_state else edit.operand if fitted else ""
    read = place_of(edit.read.layer, edit.read.site) if edit.read else place_of(edit.layer, edit.site)
    return place_of(edit.layer, edit.site), token.order, edit.op, operand, read, edit.neurons or edit.heads


def told(group: EditGroup) -> list[tuple]:
    """Of each token of a group all that it says about it."""
    columns = [group.rows, group.cols, group.strength[:, 0], group.copies]
    for extra in (group.heads, group.attended, group.seeds, group.queries, *(group.sources or (None, None))):
        columns.append(extra if extra is not None else -1 + 0 * group.rows)
    keys = [group.keys[i] for i in group.which.tolist()] if group.which is not None else [group.keys] * len(group.rows)
    units = tuple(group.units.tolist()) if group.units is not None else ()
    return [
        (group.op, group.place, group.read, units, key, *values)
        for key, *values in zip(keys, *(column.tolist() for column in columns), strict=True)
    ]


def literal(token: EditToken, prompt: int) -> tuple:
    edit = token.edit
    of_state, fitted = edit.operand.startswith("@"), OPS[edit.op].operand in ("subspace", "features")
    place = place_of(edit.layer, edit.site)
    read = place_of(edit.read.layer, edit.read.site) if edit.read else place
    if of_state:
        key = (edit.subspace,) if edit.subspace else ()
    else:
        key = (edit.operand,) if fitted else edit.operand or ()
    return (
        edit.op, place, read if of_state and read != place else None, edit.neurons or edit.heads, key, token.row,
        token.col, edit.strength, token.copy, edit.head if edit.site == "head" else -1,
        token.source[1] if edit.origin else -1, edit.seed, prompt if edit.seed >= 0 else -1,
        *(token.source if of_state else (-1, -1)),
    )  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(tables())
def test_groups_are_those_of_the_tokens_one_by_one(table):
    tokens = list(zip(table, table.tokens[-1].tolist(), strict=True))
    tokens.sort(key=lambda pair: call(pair[0]))
    wanted = [[literal(*pair) for pair in some] for _, some in groupby(tokens, key=lambda pair: call(pair[0]))]
    assert [told(group) for group in edit_groups(table)] == wanted
    assert [told(group) for group in edit_groups(table)] == wanted, "from what is kept of the first time"


@settings(max_examples=50, deadline=None)
@given(tables())
def test_no_operand_is_asked_for_that_no_token_takes(table):
    asked = {key for group in edit_groups(table) for key in group.keys}
    assert asked <= {name for edit in table.present for name in (edit.operand, edit.subspace)}


def test_of_stacked_operands_those_of_other_copies_are_left_out():
    first, second = (Edit("patch", "resid_post", 1, '"last"', 1.0, operand) for operand in ("v", "w"))
    made = CopyEdits((CopyEdit(first, 0, 0), CopyEdit(second, 0, 1)))
    (group,) = edit_groups(EditTable.made(made, [(1, 0, 3, 0, 3, 0)]))
    assert group.which is not None and (group.keys, group.which.tolist()) == (("w",), [0])
