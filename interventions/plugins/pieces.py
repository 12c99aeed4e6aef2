"""From what a user has decorated to what a registry holds: checked, with what may be left out filled in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, cast, get_args

from patchboard.engine.families import Architecture
from patchboard.errors import PluginError
from patchboard.metrics.base import AnswersOf, of_first_answer, of_first_token
from patchboard.ops.base import OperandKind
from patchboard.plan.controls import Control
from patchboard.plugins.requirements import Attribute, Function, check_piece, signature_complaint
from patchboard.plugins.task_function import family_of
from patchboard.spec.positions import Position
from patchboard.spec.section import Section
from patchboard.spec.vectors import Takes
from patchboard.vectors.fitters import Fitter

_ENGINES_OWN = ("edges", "path", "noise")
_OPERANDS = tuple(kind for kind in get_args(OperandKind) if kind not in _ENGINES_OWN)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


APPLY = Function("apply", ("h", "operand", "strength"))
OP = (
    Attribute("operand", lambda v: v in _OPERANDS, f"one of {', '.join(_OPERANDS)}", 'operand = "vector"'),
    Attribute("neutral", _is_number, "the strength that changes nothing, a number", "neutral = 0.0"),
    APPLY,
)

SCORE = Function("score", ("logits", "target", "foil", "clean"))
METRIC = (
    Attribute("unit", _is_text, "what it is measured in, as text", 'unit = "nats"'),
    Attribute("answers_of", lambda v: v in get_args(AnswersOf), "own or vector_task", 'answers_of = "own"'),
    SCORE,
    Function("combine", ("scores", "starts")),
    Function("either", ("a", "b")),
)

TASK = (
    Attribute(
        "Options",
        lambda v: isinstance(v, type) and issubclass(v, Section),
        "a class of patchboard.spec.sections.Section",
        "class Options(Section): pass",
    ),
    Function("task_names", ("options",)),
    Function("build", ("options", "tasks", "embedded")),
    Function("pool", ("self", "seed")),
    Function("data_files", ("self",)),
    Function("describe", ("self",)),
)


CONTROL = (
    Attribute(
        "cells",
        lambda v: getattr(v, "__func__", v) is not Control.cells.__func__,
        "a classmethod of its own",
        "@classmethod def cells(cls, placed, options)",
    ),
    Function("cells", ("placed", "options")),
    Attribute(
        "Options",
        lambda v: isinstance(v, type) and issubclass(v, Section),
        "a class of patchboard.spec.sections.Section",
        "class Options(Section): pass",
    ),
    Attribute("phrase", _is_text, "what it puts in, in few words", 'phrase = "vectors of the last layer"'),
)


BUILD = Function("build", ("recipe", "statistics"))
FITTER = (
    Attribute("takes", lambda v: v in get_args(Takes), f"one of {', '.join(get_args(Takes))}", 'takes = "task"'),
    Attribute("makes", lambda v: v in ("vector", "subspace"), "vector or subspace", 'makes = "vector"'),
    Attribute(
        "options", lambda v: isinstance(v, Mapping), "a mapping of fields to defaults", 'options = {"share": 0.5}'
    ),
    Attribute("build", lambda v: v is not Fitter.build, "a function of its own", BUILD.form),
    BUILD,
)


class _MetricDefaults:
    """What a metric need not have: the own answer is scored, of several tokens and of several answers the first."""

    answers_of = "own"
    combine = staticmethod(of_first_token)
    either = staticmethod(of_first_answer)


class _FamilyDefaults:
    """What a task family need not have."""

    class Options(Section):
        pass

    def data_files(self) -> Sequence[Any]:
        return ()


def op(name: str, piece: Any, operand: str | None, neutral: float | None) -> Any:
    """The op's class. operand, neutral: beside a function. Raises PluginError."""
    given = {"operand": operand, "neutral": neutral}
    return _checked("op", name, _class_of("op", name, piece, APPLY, given), OP)


def metric(name: str, piece: Any, unit: str | None) -> Any:
    """The metric's class. unit: beside a function. Raises PluginError."""
    made = _class_of("metric", name, piece, SCORE, {"unit": unit})
    return _checked("metric", name, _completed(made, _MetricDefaults), METRIC)


def task(name: str, piece: Any, tasks: Sequence[str] | None) -> Any:
    """The family's class. tasks: beside a function. Raises PluginError."""
    if not isinstance(piece, type):
        complaint = signature_complaint(piece, Function(getattr(piece, "__name__", "pool"), ("seed",)))
        if complaint is not None:
            raise PluginError(f"task '{name}'", *complaint)
        if not tasks or isinstance(tasks, str) or not all(map(_is_text, tasks)):
            what = f"found tasks={tasks!r} beside a function, expected the names of its tasks"
            raise PluginError(f"task '{name}'", what, f'write @register.task("{name}", tasks=["one", "other"])')
        return family_of(name, piece, tuple(tasks))
    _none_given("task", name, {"tasks": tasks})
    return _checked("task", name, _completed(piece, _FamilyDefaults), TASK)


def control(name: str, piece: Any) -> Any:
    """The control's class. Raises PluginError."""
    if not isinstance(piece, type) or not issubclass(piece, Control):
        what = f"is {piece!r}, expected a subclass of patchboard.plan.controls.Control"
        raise PluginError(f"control '{name}'", what, f"write class {getattr(piece, '__name__', 'Mine')}(Control)")
    return _checked("control", name, piece, CONTROL)


def fitter(name: str, piece: Any, takes: Takes) -> Any:
    """The fitter's class. takes: beside a function. Raises PluginError."""
    if not isinstance(piece, type):
        made = _class_of("fitter", name, piece, BUILD, {"takes": takes}, (Fitter,))
        return _checked("fitter", name, made, FITTER)
    if not issubclass(piece, Fitter):
        what = f"is {piece!r}, expected a subclass of patchboard.vectors.fitters.Fitter"
        raise PluginError(f"fitter '{name}'", what, f"write class {piece.__name__}(Fitter)")
    return _checked("fitter", name, piece, FITTER)


def position(name: str, piece: Any, phrase: str) -> Position:
    """The named position. Raises PluginError."""
    if isinstance(piece, type) or not callable(piece):
        raise PluginError(f"position '{name}'", f"is {piece!r}, expected a function of a prompt", "decorate one")
    complaint = signature_complaint(piece, Function(getattr(piece, "__name__", "find"), ("prompt",)))
    if complaint is not None:
        raise PluginError(f"position '{name}'", *complaint)
    meaning = " ".join((piece.__doc__ or name).split())
    return Position(meaning, phrase or meaning.rstrip("."), cast("Callable[[Any], Sequence[int]]", piece))


def family(name: str, piece: Any) -> Architecture:
    """The row of a model family. Raises PluginError."""
    if isinstance(piece, Architecture):
        if piece.model_type != name:
            what = f"its model_type is '{piece.model_type}', expected '{name}'"
            raise PluginError(f"family '{name}'", what, "give both the same name")
        return piece
    if not isinstance(piece, type):
        raise PluginError(f"family '{name}'", f"is {piece!r}, expected a class or an Architecture", "decorate a class")
    known = {field.name: field for field in fields(Architecture) if field.name != "model_type"}
    written = {key: value for key, value in vars(piece).items() if not key.startswith("__")}
    for key, value in written.items():
        if key not in known:
            what = f"has a field '{key}', a family has {', '.join(known)}"
            raise PluginError(f"family '{name}'", what, "see docs/families.md")
        if type(value) is not type(known[key].default):
            what = f"its '{key}' is {value!r}, expected something as {known[key].default!r}"
            raise PluginError(f"family '{name}'", what, "see docs/families.md")
    return Architecture(name, **written)


def _class_of(
    kind: str, name: str, piece: Any, function: Function, given: dict[str, Any], bases: tuple[type, ...] = ()
) -> type:
    """The piece, where it is a class; else one with the decorated function and what is given beside it."""
    if isinstance(piece, type):
        _none_given(kind, name, given)
        return piece
    if not callable(piece):
        raise PluginError(f"{kind} '{name}'", f"is {piece!r}, expected a class or a function", "decorate one of them")
    complaint = signature_complaint(piece, function)
    if complaint is not None:
        raise PluginError(f"{kind} '{name}'", *complaint)
    for key, value in given.items():
        if value is None:
            what = f"is a function, and its '{key}' is not given"
            raise PluginError(f"{kind} '{name}'", what, f'write @register.{kind}("{name}", {key}=…)')
    made = {"__doc__": piece.__doc__, "__module__": piece.__module__, function.name: staticmethod(piece), **given}
    return type(getattr(piece, "__name__", name), bases, made)


def _none_given(kind: str, name: str, given: dict[str, Any]) -> None:
    for key, value in given.items():
        if value is not None:
            what = f"is a class, and {key}={value!r} is given beside it"
            raise PluginError(f"{kind} '{name}'", what, f"write {key} = … in the class")


def _completed(piece: type, defaults: type) -> type:
    """The class, or one that takes from ``defaults`` what it lacks."""
    lacking = {
        key: value for key, value in vars(defaults).items() if not key.startswith("__") and not hasattr(piece, key)
    }
    if not lacking:
        return piece
    return type(piece.__name__, (piece,), {"__doc__": piece.__doc__, "__module__": piece.__module__, **lacking})


def _checked(kind: str, name: str, entry: type, requirements: Sequence[Attribute | Function]) -> type:
    check_piece(kind, name, entry, requirements)
    return entry
