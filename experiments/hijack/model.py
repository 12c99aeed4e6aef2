"""A transformer of two layers with one head each, whose weights can be read as associative memories.

Plain PyTorch: transformers' families have norms, biases and a feed-forward part in every block, and cannot leave them
out or freeze a head's product of value and output; here the whole model is six matrices.
Source: Bietti et al. 2023 (arXiv 2306.00802), section 4.2; Wang & Sato (arXiv 2412.11459).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchboard.experiments.hijack.settings import Shape


class TwoLayers(nn.Module):
    """tokens [batch, seq] -> logits [batch, seq, vocab].

        h0 = W_E[token] (+ p[place], absolute)
        h1 = h0 + softmax(h0 W_Q1' (h0 W_K1')' ) h0 W_OV1'
        h2 = h1 + softmax(h1 W_Q2' (h1 W_K2')' ) h1 W_OV2'
        logits = (h2 + W_F(h2)) W_U'

    Rows of W_E, p and W_U have length 1 on average, and scores are not divided by anything, so a memory
    sum of a_i * (output i) (input i)' returns a_i. Rotary turns queries and keys (in ``rotary_layers``), relative
    adds r[distance] W_K1' to the keys of layer 1.
    """

    def __init__(self, shape: Shape, seed: int):
        super().__init__()
        self.shape = shape
        make = torch.Generator().manual_seed(seed)
        width = shape.width

        def gaussian(rows: int, scale: float = 1.0) -> nn.Parameter:
            return nn.Parameter(torch.randn(rows, width, generator=make) * scale / math.sqrt(width))

        self.embed, self.unembed = gaussian(shape.vocab), gaussian(shape.vocab)
        self.places = gaussian(shape.longest) if shape.positions in ("absolute", "relative") else None
        learned = shape.query == "learned"
        self.queries = nn.ParameterList([gaussian(width, 0.5) for _ in range(2)] if learned else [])
        self.keys = nn.ParameterList([gaussian(width, 0.1) for _ in range(2)])
        self.remap, self.output = gaussian(width), gaussian(width, 0.1)
        if shape.feed_forward == "linear":
            self.memory: nn.Module | None = nn.Linear(width, width, bias=False)
            nn.init.zeros_(self.memory.weight)  # type: ignore[arg-type]
        elif shape.feed_forward == "relu":
            self.memory = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
            for part in (self.memory[0], self.memory[2]):
                nn.init.normal_(part.weight, std=part.in_features**-0.5, generator=make)  # type: ignore[arg-type]
                nn.init.zeros_(part.bias)  # type: ignore[arg-type]
        else:
            self.memory = None
        groups = {"embeddings": (self.embed, self.unembed, self.places), "remap": (self.remap,)}
        for name in shape.frozen:
            for parameter in groups[name]:
                if parameter is not None:
                    parameter.requires_grad_(False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits(self.states(tokens)[-1])

    def states(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(h0, h1, h2), each [batch, seq, width]."""
        h0 = F.embedding(tokens, self.embed)
        if self.shape.positions == "absolute":
            assert self.places is not None
            h0 = h0 + self.places[: tokens.shape[1]]
        h1 = h0 + self.attention(0, h0) @ self.norm(h0) @ self.remap.T
        h2 = h1 + self.attention(1, h1) @ self.norm(h1) @ self.output.T
        return h0, h1, h2

    def logits(self, states: Tensor) -> Tensor:
        if self.memory is not None:
            states = states + self.memory(self.norm(states))
        return self.norm(states) @ self.unembed.T

    def norm(self, states: Tensor) -> Tensor:
        """To length 1, the length of an embedding, where the model has a norm; else as it is."""
        return F.normalize(states, dim=-1) if self.shape.norm else states

    def attention(self, layer: int, states: Tensor) -> Tensor:
        """Weights of a layer's head [batch, query, key], from the states below it."""
        length = states.shape[1]
        hidden = torch.ones(length, length, dtype=torch.bool, device=states.device).triu(1)
        return self.scores(layer, states).masked_fill(hidden, -math.inf).softmax(-1)

    def scores(self, layer: int, states: Tensor) -> Tensor:
        """A layer's attention scores [batch, query, key], those of later keys included."""
        states = self.norm(states)
        query = states @ self.queries[layer].T if len(self.queries) else states
        key = states @ self.keys[layer].T
        length = states.shape[1]
        if self.shape.positions == "rotary" and layer in self.shape.rotary_layers:
            query, key = self._turned(query), self._turned(key)
        scores = query @ key.transpose(1, 2)
        if self.shape.positions == "relative" and layer == 0:
            assert self.places is not None
            by_distance = query @ (self.places[:length] @ self.keys[0].T).T  # [batch, query, distance]
            place = torch.arange(length, device=states.device)
            distance = (place[:, None] - place).clamp(min=0)
            scores = scores + by_distance.gather(2, distance.expand(len(states), -1, -1))
        return scores

    def _turned(self, vectors: Tensor) -> Tensor:
        """Rotary embedding: pair (i, i + width/2) of place t turned by t * base ** (-2 i / width)."""
        half = self.shape.width // 2
        speed = self.shape.rotary_base ** (-torch.arange(half, device=vectors.device) / half)
        angle = torch.arange(vectors.shape[1], device=vectors.device)[:, None] * speed
        first, second = vectors[..., :half], vectors[..., half:]
        return torch.cat(
            (first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()), dim=-1
        )
