"""Typed errors: where, what (measured against expected), remedy, in one line.

The command line prints ``error: <where>: <what>; <remedy>`` and exits with ``exit_status``.
Errors of the user's making are typed here; an ``assert`` elsewhere guards an invariant of ours.
"""

from __future__ import annotations


class PatchboardError(Exception):
    """Base of all errors a user can cause or meet.

    where: field path (``interventions.positive.op``), flag (``--layers``) or file.
    what: what was found, against what was expected.
    remedy: what to do about it.
    """

    exit_status = 2

    def __init__(self, where: str, what: str, remedy: str):
        self.where, self.what, self.remedy = where, what, remedy
        super().__init__(f"{where}: {what}; {remedy}")

    def one_line(self) -> str:
        """The message with line breaks folded, as the command line prints it."""
        return " ".join(str(self).split())


class SpecError(PatchboardError):
    """The YAML or a ``--a.b=c`` override says something that cannot be meant."""


class PluginError(PatchboardError):
    """A plug-in cannot be read, or one of its pieces is not what it is registered as."""


class UnknownKeyError(SpecError, KeyError):
    """A mapping of ours has no such key."""

    __str__ = Exception.__str__  # KeyError would put quotes around it


class TaskError(PatchboardError):
    """A task's data cannot be had or does not suffice."""


class ModelError(PatchboardError):
    """A model cannot be loaded, or is not of a family that can be edited."""


class EngineError(PatchboardError):
    """A run produced something that must not be trusted (an edit that did not fire, say)."""

    exit_status = 1


class RunFolderError(PatchboardError):
    """The output folder belongs to another run, or holds something unreadable."""


class RemoteRunError(PatchboardError):
    """The remote side failed; the run folder is resumable."""

    exit_status = 3
