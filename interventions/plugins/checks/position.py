"""What a position promises: tokens of the prompt, the same ones each time."""

from __future__ import annotations

from functools import cache
from typing import Any

from patchboard.plugins.checks.promise import Promise
from patchboard.tasks.prompt import Prompt


@cache
def prompts() -> tuple[Prompt, ...]:
    """Prompts of 0 to 3 demonstrations."""
    from patchboard.embedded.tokenizer import build
    from patchboard.spec.prompts import TemplateSection
    from patchboard.tasks.base import Item
    from patchboard.tasks.prompts import Prompter

    rows = [
        Item(words, {"A": words.split()[-1]})
        for words in ("the old baker", "he quickly found the boat", "river", "we heard him again near the mountain")
    ]
    prompter = Prompter(build(), TemplateSection())
    return tuple(prompter.prompts("A", [rows[i:]])[0] for i in range(len(rows)))


def _inside(position: Any) -> str:
    for prompt in prompts():
        found = [*position.find(prompt)]
        wrong = [at for at in found if isinstance(at, bool) or int(at) != at or not 0 <= at < len(prompt.token_ids)]
        if wrong:
            return f"gives {wrong[0]} for a prompt of {len(prompt.token_ids)} tokens, expected indices from 0"
    return ""


def _deterministic(position: Any) -> str:
    same = all([*position.find(prompt)] == [*position.find(prompt)] for prompt in prompts())
    return "" if same else "two calls give two results"


def _somewhere(position: Any) -> str:
    return "" if any([*position.find(prompt)] for prompt in prompts()) else "gives no token of any prompt"


def _of_added(promise: Promise) -> Promise:
    """Ours are made with the prompt: no function finds them."""
    return Promise(promise.text, lambda position: "" if position.find is None else promise.test(position))


POSITION_PROMISES = tuple(
    map(
        _of_added,
        (
            Promise("gives indices of the prompt's own tokens", _inside),
            Promise("gives the same tokens each time", _deterministic),
            Promise("gives tokens of some prompt", _somewhere),
        ),
    )
)
