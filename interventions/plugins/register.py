"""``patchboard.register``: decorators that enrol a user's pieces in the registries that our own pieces are in.

    @pb.register.op("clamp")
    class Clamp:
        operand, neutral = "vector", 0.0
        @staticmethod
        def apply(h, operand, strength): ...

A piece is a class with the attributes of its kind; where one function says it all (op, metric, task), the function
itself may be decorated, with what else is needed as arguments. docs/plugins.md has one complete file of each kind.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any, TypeVar

from patchboard.engine.families import ARCHITECTURES, Architecture
from patchboard.metrics import METRICS
from patchboard.ops import OPS
from patchboard.plan.controls import CONTROLS
from patchboard.plugin_files import GROUP, distribution_origin, origin_now
from patchboard.plugins import pieces
from patchboard.plugins.requirements import check_name
from patchboard.registry import Enrolment, Origin, Registry, defined_as
from patchboard.spec.positions import POSITIONS
from patchboard.spec.vectors import Takes
from patchboard.tasks.families import FAMILIES
from patchboard.vectors.fitters import FITTERS

P = TypeVar("P")
Decorator = Callable[[P], P]


class Register:
    """Decorators, one a kind of piece. Each gives back what it decorates.

    All raise PluginError, one line, for a name that is taken (naming both origins) and for a piece that lacks
    something. A piece that is defined again, in the same place of the same file or notebook, replaces itself.
    """

    def op(self, name: str, *, operand: str | None = None, neutral: float | None = None) -> Decorator:
        """An edit of states: a class as ``patchboard.ops.base.Op``, or its ``apply(h, operand, strength)`` alone.

        h [edit, d_model] float32; strength [edit, 1]; operand by kind: vector or state [edit, d_model], a subspace
        with ``left [d_model, rank], right [rank, d_model], center [d_model]``, features as
        ``patchboard.ops.FeatureTensors``, or None. Gives [edit, d_model]. operand, neutral: of a function; the kind
        (vector, subspace, features, state, none), and the strength without effect.

        >>> import patchboard as pb
        >>> @pb.register.op("halve_example", operand="none", neutral=0.0)
        ... def halve(h, operand, strength):
        ...     return h * (1 - strength / 2)
        """
        return self._enrolling("op", OPS, name, lambda piece: pieces.op(name, piece, operand, neutral))

    def metric(self, name: str, *, unit: str | None = None) -> Decorator:
        """A score: a class as ``patchboard.metrics.base.Metric``, or its ``score(logits, target, foil, clean)`` alone.

        logits, clean [read, vocab] float32; target, foil [read] token ids; gives [read]. ``combine`` and ``either``
        may be left out: then an answer of several tokens has the score of its first one. unit: of a function.
        """
        return self._enrolling("metric", METRICS, name, lambda piece: pieces.metric(name, piece, unit))

    def task(self, name: str, *, tasks: Sequence[str] | None = None) -> Decorator:
        """A task family: a class as ``patchboard.tasks.base.FAMILIES`` says, or a function seed -> list of Item.

        tasks: of a function, the names of its tasks; each Item then has an answer under each of them, and Null's
        answer is one of another item's.
        """
        return self._enrolling("task", FAMILIES, name, lambda piece: pieces.task(name, piece, tasks))

    def fitter(self, name: str, *, takes: Takes = "task") -> Decorator:
        """A kind of vector: a subclass of ``patchboard.vectors.fitters.Fitter``, or its ``build(recipe, statistics)``.

        ``statistics.means(recipe.plus, recipe.layer, recipe.only)`` is [task, d_model] float64; gives [d_model], or a
        ``SubspaceTensors``. takes: of a function, what its field holds: a ``task``, a ``pair``, or all ``tasks``.
        """
        return self._enrolling("fitter", FITTERS, name, lambda piece: pieces.fitter(name, piece, takes))

    def position(self, name: str, *, phrase: str = "") -> Decorator:
        """A named place of prompts: a function prompt -> indices of its tokens, in ``range(len(prompt.token_ids))``.

        prompt: a ``patchboard.tasks.prompt.Prompt``; its ``positions`` has ours. phrase: how reports call it.
        """
        return self._enrolling("position", POSITIONS, name, lambda piece: pieces.position(name, piece, phrase))

    def control(self, name: str) -> Decorator:
        """What is run beside each intervention: a subclass of ``patchboard.plan.controls.Control``, whose ``cells``
        gives the cells beside one of the intervention's."""
        return self._enrolling("control", CONTROLS, name, lambda piece: pieces.control(name, piece))

    def family(self, name: str) -> Decorator:
        """A model family: a class with fields of ``patchboard.engine.families.Architecture`` (its ``blocks``, ``norm``,
        ``attention_out`` …), or such a row. name: the configuration's ``model_type``."""

        def row_of(piece: Any) -> Architecture:
            return pieces.family(name, piece)

        return self._enrolling("family", ARCHITECTURES, name, row_of)

    def _enrolling(self, kind: str, registry: Registry, name: str, entry_of: Callable[[Any], Any]) -> Decorator:
        check_name(kind, name)

        def enrol(piece: P) -> P:
            registry.enrol(name, Enrolment(entry_of(piece), origin_of(piece), defined_as(piece), piece))
            return piece

        return enrol


def origin_of(piece: Any) -> Origin:
    """Of a piece that is registered now: the plug-in that is being read, or where the piece is defined."""
    reading = origin_now()
    if reading is not None:
        return reading
    module = str(getattr(piece, "__module__", "__main__"))
    for point in entry_points(group=GROUP):
        if module == point.module or module.startswith(f"{point.module}."):
            return distribution_origin(point)
    file = getattr(sys.modules.get(module), "__file__", None)
    return Origin("session", file or "this notebook")


register = Register()
