"""What stands in front of the prompts and what was left out, told once for all prompts that are alike in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from patchboard.tasks.prompt import Prompt


def described(prompts: Iterable[Prompt], tokenizer: Any) -> tuple[dict[str, Any], ...]:
    """For the manifest: the tokens in front with who put them there, those left out, and how many prompts it is."""

    def named(ids: Sequence[int]) -> list[dict[str, Any]]:
        return [{"token": tokenizer.convert_ids_to_tokens(i), "id": i} for i in ids]

    counts = Counter((p.token_ids[: len(p.frame.front)], p.frame) for p in prompts if not p.excluded)
    return tuple(
        {
            "in_front": [token | {"from": who} for token, who in zip(named(ids), frame.front, strict=True)],
            "left_out": {"in_front": named(frame.spare), "behind": named(frame.behind)},
            "again_inside": frame.again,
            "prompts": count,
        }
        for (ids, frame), count in counts.items()
    )


def in_words(entry: Mapping[str, Any]) -> str:
    """An entry of ``described`` on one line."""
    text = f"in front: {_listed(entry['in_front'])}"
    for where, tokens in entry["left_out"].items():
        if tokens:
            text += f"; left out of what the tokenizer adds {where.replace('_', ' ')}: {_listed(tokens)}"
    return text + "; again inside the text" * entry["again_inside"]


def remarks(entry: Mapping[str, Any]) -> list[str]:
    """Sentences on what a reader would not expect: tokens left out unasked, or there more than once."""
    stands = {token["id"] for token in entry["in_front"]}
    twice = [token for token in entry["left_out"]["in_front"] if token["id"] in stands]
    behind, lines = entry["left_out"]["behind"], []
    if behind:
        lines.append(
            f"the tokenizer adds {_listed(behind)} behind a text: left out, so that an answer is its own tokens"
        )
    if twice:
        lines.append(
            f"{_listed(twice)} would stand in front twice, by the tokenizer and by the text or by the tokenizer"
            " alone: it stands there once"
        )
    if entry["again_inside"]:
        front = _listed(entry["in_front"])
        lines.append(f"what stands in front, {front}, stands again inside {entry['prompts']} prompts, as written there")
    return lines


def _listed(tokens: Sequence[Mapping[str, Any]]) -> str:
    each = (repr(t["token"]) + (f" (from {t['from']})" if "from" in t else "") for t in tokens)
    return ", ".join(each) or "nothing"
