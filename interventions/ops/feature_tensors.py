"""Features of a sparse autoencoder, as the engine hands them to an op. Travels to a server by value, as source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class WholeEncoder:
    """All of a top-k dictionary's encoder: which features are active is told by the others too.

    weights [d_model, d_sae], bias [d_sae], k: how many are active. One object serves all operands of its dictionary,
    and is moved to a device once for all of them.
    """

    def __init__(self, weights: Tensor, bias: Tensor, k: int):
        self.weights, self.bias, self.k = weights, bias, k
        self.moved: dict[Any, WholeEncoder] = {}

    def to(self, device: Any) -> WholeEncoder:
        """The same encoder on another device."""
        if device not in self.moved:
            weights = self.weights.to(device)
            same = weights is self.weights
            self.moved[device] = self if same else WholeEncoder(weights, self.bias.to(device), self.k)
        return self.moved[device]


class FeatureTensors:
    """Some features of a sparse autoencoder, on the model's device, float32:

        f(h) = max(0, z) where z > threshold, else 0;  z = (n(h) - center) @ encoder + bias

    and of a top-k dictionary max(0, z) where z is among the k largest of all its features. encoder [d_model, feature],
    bias, threshold, target [feature], decoder [feature, d_model], center [d_model]; numbers [feature]: which ones they
    are. n: the ``norm`` that the dictionary was trained behind, which divides by a scale: its features write
    f(h) @ decoder times that scale. centred: trained on states less their own mean. target: what ``clamp_features``
    sets f to.
    """

    def __init__(
        self, encoder: Tensor, bias: Tensor, threshold: Tensor, decoder: Tensor, center: Tensor, target: Tensor,
        numbers: Tensor, norm: str = "none", centred: bool = False, k: int = 0, whole: WholeEncoder | None = None,
    ):  # fmt: skip
        self.encoder, self.bias, self.threshold, self.decoder = encoder, bias, threshold, decoder
        self.center, self.target, self.numbers = center, target, numbers
        self.norm, self.centred, self.k, self.whole = norm, centred, k, whole

    def to(self, device: Any) -> FeatureTensors:
        """The same features on another device."""
        whole = None if self.whole is None else self.whole.to(device)
        encoder, bias, threshold = self.encoder.to(device), self.bias.to(device), self.threshold.to(device)
        decoder, center = self.decoder.to(device), self.center.to(device)
        target, numbers = self.target.to(device), self.numbers.to(device)
        how = (self.norm, self.centred, self.k, whole)
        return FeatureTensors(encoder, bias, threshold, decoder, center, target, numbers, *how)

    def part(self, h: Tensor) -> Tensor:
        """What these features write into states h [edit, d_model]: the same shape."""
        active, scale = self.active(h)
        return active @ self.decoder * scale

    def lacking(self, h: Tensor) -> Tensor:
        """What they would write more if each were its ``target``."""
        active, scale = self.active(h)
        return (self.target - active) @ self.decoder * scale

    def active(self, h: Tensor) -> tuple[Tensor, Tensor | float]:
        """f(h) [edit, feature], and the scale [edit, 1] of what it writes."""
        x, scale = self.normalised(h)
        x = x - self.center
        if self.whole is not None:
            z = x @ self.whole.weights + self.whole.bias
            largest = z.topk(self.whole.k, dim=-1)
            every = z.new_zeros(z.shape).scatter(-1, largest.indices, largest.values.relu())
            return every[:, self.numbers], scale
        if self.k:
            raise ValueError("a top-k dictionary's features need its whole encoder")
        z = x @ self.encoder + self.bias
        return z.relu() * (z > self.threshold), scale

    def normalised(self, h: Tensor) -> tuple[Tensor, Tensor | float]:
        """States as the encoder knows them, and by what they were divided."""
        if self.centred:
            h = h - h.mean(-1, keepdim=True)
        if self.norm == "layer_norm":
            apart = h - h.mean(-1, keepdim=True)
            deviation = apart.std(-1, keepdim=True)
            return apart / (deviation + 1e-5), deviation
        if self.norm == "constant_norm_rescale":
            scale = h.norm(dim=-1, keepdim=True) / h.shape[-1] ** 0.5
            return h / scale, scale
        return h, 1.0
