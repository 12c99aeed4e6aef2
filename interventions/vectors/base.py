"""What an operand is made of, as data: a recipe names the fit, the tasks and the place."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union

if TYPE_CHECKING:
    from torch import Tensor

    from patchboard.ops import FeatureTensors, SubspaceTensors
    from patchboard.vectors.dictionaries.dictionary import Dictionary

Operand: TypeAlias = Union["Tensor", "SubspaceTensors", "FeatureTensors"]
"""A vector [d_model], a subspace or features of a dictionary, float32 on the CPU as fitted."""


@dataclass(frozen=True)
class Place:
    """Where states are read: a site and a position (as in the spec); the layer comes beside it."""

    site: str
    position: str
    """The position as JSON text, so that a place can be a key."""


@dataclass(frozen=True)
class Given:
    """An operand that is made already: a file had it, or it was learned (``file``, ``sha256``, ``commit`` are then "").

    tensors: float32, of a vector one, [d_model]; of a subspace right [rank, d_model], left [d_model, rank] and center
    [d_model]. They are what ``file``, ``key`` and ``sha256`` name, and not compared.
    """

    file: str
    key: str
    sha256: str
    commit: str
    """Of a file of the Hub, else ""."""
    tensors: tuple[Tensor, ...] = field(compare=False, repr=False)


@dataclass(frozen=True)
class Recipe:
    """How to make one operand from the statistics of one fit."""

    key: str
    """Its name in vectors.safetensors: ``{intervention}/{vector_task}/{layer}``, of a head ``…/{layer}.{head}``."""
    fit: str
    """Id of the fit whose prompts it comes from, "" of one from a file."""
    kind: str
    """Its fitter's name."""
    place: Place
    layer: int
    only: Literal["correct", "all"]
    plus: tuple[str, ...] = ()
    """Tasks whose means are averaged (mean, function_vector), or that are subtracted from (difference)."""
    minus: tuple[str, ...] = ()
    rank: int = 0
    method: Literal["pca", "leace"] = "pca"
    draw: int = -1
    """A random counterpart's number, -1 for the fitted operand itself."""
    counterpart_of: str = ""
    """Of a random counterpart: the key of that operand."""
    columns: tuple[int, int] | None = None
    """Part of the place's state that it is an operand for (one head's), from and to."""
    neurons: tuple[int, ...] = ()
    """Numbers of the place's state that it is taken at once it is fitted on the whole of it; none: all."""
    heads: tuple[tuple[int, int, int], ...] = ()
    """Of a function vector: the block of each head, and its part of that block's heads' outputs, from and to."""

    given: Given | None = None
    """What a file had, of kind file; of kinds that are learned what was learned, once it is."""
    dictionary: Dictionary | None = None
    """Whose features it is of, of kind sae."""
    needs_states: bool = False
    """Whether means are not enough for it."""
    options: tuple[tuple[str, Any], ...] = ()
    """Values of its fitter's further fields."""

    @property
    def blocks(self) -> tuple[int, ...]:
        """Where its states are read; ``layer`` is where it is used."""
        return tuple(dict.fromkeys(block for block, *_ in self.heads)) if self.heads else (self.layer,)

    @property
    def seed(self) -> int:
        """Of a random counterpart: told by what it is a counterpart of."""
        return zlib.crc32(self.key.encode())
