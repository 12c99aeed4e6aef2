"""How likely texts are under the unedited model, whoever wrote them: teacher-forced, without a cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from patchboard.engine.local import LocalEngine
from patchboard.metrics.logprob import Logprob
from patchboard.plan.model import Counterfactual
from patchboard.plan.packing import lay_out
from patchboard.tasks.prompt import Prompt


def perplexities(engine: LocalEngine, texts: Sequence[tuple[Prompt, tuple[int, ...]]]) -> list[float]:
    """exp(-mean log p(token | prompt, earlier tokens)) over the tokens of each (prompt, text) under the model without
    an edit; NaN of an empty text.

    Source: Jelinek et al. 1977.
    """
    found = [float("nan")] * len(texts)
    told = [(i, prompt, new) for i, (prompt, new) in enumerate(texts) if new]
    longest = max((len(new) for *_, new in told), default=1)
    at_once = max(1, engine.budget.read_floats // (longest * engine.module.config.vocab_size))
    for start in range(0, len(told), at_once):
        some = told[start : start + at_once]
        forced = [Prompt(prompt.task, "", "", prompt.token_ids, new) for _, prompt, new in some]
        layout = lay_out(forced, [-1] * len(forced), [Counterfactual()], "rows")
        _, result = engine.forward(layout, {}, {"logprob": Logprob.score})
        scores = result["scores"]["logprob"].double().cpu().numpy()
        for row, (i, *_) in enumerate(some):
            found[i] = float(np.exp(-scores[layout.reads.prompt == row].mean()))
    return found
