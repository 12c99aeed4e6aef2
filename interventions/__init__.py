"""patchboard: causal interventions on language models, from a YAML spec to effects beside decodability.

>>> import patchboard as pb
>>> study = pb.load({"prompts": {"shots": 0}, "interventions": {"doubled": {"op": "scale", "strength": 2}}})
>>> study.axes, study.points[0].spec.prompts.shots
({}, 0)

``study.plan()`` says what it costs, ``pb.run(study)`` runs it, and what comes back holds tables, vectors and figures.
Nothing is imported, and nothing of the process is changed, before one of the names below is used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own takes milliseconds to import
if TYPE_CHECKING:
    from patchboard.api.compare import compare
    from patchboard.api.comparison import Comparison
    from patchboard.api.explore import Explorer
    from patchboard.api.intervene import intervene
    from patchboard.api.plan import Plan
    from patchboard.api.result import Run, open
    from patchboard.api.run import run
    from patchboard.api.study import Study, load
    from patchboard.api.sweep import Sweep, sweep
    from patchboard.api.vectors import Vectors
    from patchboard.errors import (
        EngineError,
        ModelError,
        PatchboardError,
        PluginError,
        RemoteRunError,
        RunFolderError,
        SpecError,
        TaskError,
        UnknownKeyError,
    )
    from patchboard.plugins.register import register

    __version__: str

_HOMES = {
    "patchboard.api.study": ("Study", "load"),
    "patchboard.api.plan": ("Plan",),
    "patchboard.api.run": ("run",),
    "patchboard.api.intervene": ("intervene",),
    "patchboard.api.result": ("Run", "open"),
    "patchboard.api.explore": ("Explorer",),
    "patchboard.api.vectors": ("Vectors",),
    "patchboard.api.compare": ("compare",),
    "patchboard.api.comparison": ("Comparison",),
    "patchboard.api.sweep": ("Sweep", "sweep"),
    "patchboard.errors": (
        "PatchboardError", "SpecError", "TaskError", "ModelError", "EngineError", "RunFolderError", "RemoteRunError",
        "UnknownKeyError", "PluginError",
    ),
    "patchboard.plugins.register": ("register",),
}  # fmt: skip
"""Module -> the public names that it holds."""
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Comparison",
    "EngineError",
    "Explorer",
    "ModelError",
    "PatchboardError",
    "Plan",
    "PluginError",
    "RemoteRunError",
    "Run",
    "RunFolderError",
    "SpecError",
    "Study",
    "Sweep",
    "TaskError",
    "UnknownKeyError",
    "Vectors",
    "__version__",
    "compare",
    "intervene",
    "load",
    "open",
    "register",
    "run",
    "sweep",
]


def __getattr__(name: str) -> object:
    """A public name, imported when it is first used."""
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("patchboard")
    elif name in _HOME_OF:
        from importlib import import_module

        value = getattr(import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module 'patchboard' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
