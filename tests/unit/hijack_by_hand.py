"""A model whose memories are written by hand, over orthogonal embeddings, so that what it must do is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from patchboard.experiments.hijack.model import TwoLayers
from patchboard.experiments.hijack.settings import Positions, Shape


@dataclass(frozen=True)
class Planted:
    """What the memories of the model shall return.

    output, match, bigram: [token]. back: how many places layer 1 looks back.
    copy, habit: logits that the output and the bigram memory give.
    """

    output: Tensor
    match: Tensor
    bigram: Tensor
    back: int = 1
    copy: float = 10.0
    habit: float = 4.0


def shape_of(positions: Positions, vocab: int, width: int, longest: int) -> Shape:
    query = "learned" if positions == "rotary" else "identity"
    return Shape(vocab, width, positions, longest, query, "linear", False, ("embeddings", "remap"), 1e4, (0,))


def write_by_hand(positions: Positions, longest: int, planted: Planted, sharp: float = 200.0) -> TwoLayers:
    """Axes of the residual stream: tokens, their remapped images, outputs, places.

    sharp: attention scores of what is looked for; everything else scores 0, but for rotary, where a distance
    scores less the farther it is from ``back``.
    """
    vocab = len(planted.output)
    width = 3 * vocab + longest + (vocab + longest) % 2
    model = TwoLayers(shape_of(positions, vocab, width, longest), seed=0)
    axes = torch.eye(width)
    token, image, output = axes[:vocab], axes[vocab : 2 * vocab], axes[2 * vocab : 3 * vocab]
    place = axes[3 * vocab : 3 * vocab + longest]
    with torch.no_grad():
        model.embed.copy_(token)
        model.unembed.copy_(output)
        model.remap.copy_(image.T @ token)
        model.output.copy_(planted.copy * output[planted.output].T @ token)
        model.keys[1].copy_(sharp * token.T @ image[planted.match])
        assert isinstance(model.memory, torch.nn.Linear)
        model.memory.weight.copy_(planted.habit * output[planted.bigram].T @ token)
        if positions == "absolute":
            assert model.places is not None
            model.places.copy_(place)
            model.keys[0].copy_(sharp * place[planted.back :].T @ place[: longest - planted.back])
        elif positions == "relative":
            assert model.places is not None
            model.places.copy_(place)
            model.keys[0].copy_(sharp * token.sum(0)[:, None] @ place[planted.back][None])
        else:
            same = torch.ones(width) / width**0.5
            model.queries[1].copy_(axes)
            model.queries[0].copy_(same[:, None] @ token.sum(0)[None])
            # the key is turned as far ahead as the query is, if it stands ``back`` places after it
            turned = model._turned(same.expand(1, planted.back + 1, -1))[0, -1]
            model.keys[0].copy_(10 * sharp * turned[:, None] @ token.sum(0)[None])
    return model
