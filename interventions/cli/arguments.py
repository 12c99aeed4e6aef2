"""What all command lines share: complaints in our form, overrides kept from argparse, libraries made quiet."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from patchboard.errors import SpecError
from patchboard.user_paths import expanded


class Parser(argparse.ArgumentParser):
    """argparse's own complaints in our form: one line, exit status 2."""

    def error(self, message: str) -> Any:
        raise SpecError("command line", message, f"see {self.prog} --help")


def overrides_apart(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """(overrides ``--a.b=VALUE``, everything else): argparse would take one whose value holds a space for SPEC.yaml.

    An override is what looks like a flag with a value and is none of the parser's own.
    """
    known = {flag for action in _actions_of(parser) for flag in action.option_strings}
    overrides = [
        each for each in arguments if each.startswith("--") and "=" in each and each.split("=")[0] not in known
    ]
    return overrides, [each for each in arguments if each not in overrides]


def with_negative_values(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> list[str]:
    """``--layers -1,-2`` as ``--layers=-1,-2``: argparse takes what begins so for a flag, unless it is one number."""
    takes = {flag for action in _actions_of(parser) for flag in action.option_strings if action.nargs is None}
    joined: list[str] = []
    for argument in arguments:
        if re.match(r"-\d", argument) and joined and joined[-1] in takes:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _actions_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Its own and its commands'."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from _actions_of(each)


def add_trust_flag(group: Any) -> None:
    """group: a parser, or a group of its arguments."""
    group.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="let Python code that a model's folder or repository brings along run in this process",
    )


def add_figures_flag(group: Any) -> None:
    """group: a parser, or a group of its arguments."""
    group.add_argument(
        "--figures",
        type=_formats,
        default=(),
        metavar="FORMATS",
        help="formats of figures beside PNG: svg, pdf or svg,pdf",
    )


def _formats(text: str) -> tuple[str, ...]:
    """Raises SpecError for a format that there is not."""
    from patchboard.report.formats import formats_of  # loads polars, which few commands need

    return formats_of(text, "--figures")


def add_plugins_flag(group: Any) -> None:
    """group: a parser, or a group of its arguments."""
    group.add_argument(
        "--plugins",
        type=plugin_files,
        default=(),
        metavar="FILE.py[,FILE.py]",
        help="files that register ops, metrics, tasks and more, beside the spec's own (docs/plugins.md)",
    )


def plugin_files(text: str) -> tuple[Path, ...]:
    """``a.py,~/b.py`` as whole paths."""
    return tuple(expanded(each.strip()).resolve() for each in text.split(",") if each.strip())


def prepare_libraries() -> None:
    """What must be set before torch is imported; and loading bars off, which are for people who load by hand."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars that libraries draw past their own settings (of GGUF files)
    # idle OpenMP threads sleep: where they spin on a core that others use too, a run takes twice as long
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
