"""`patchboard check`: what the pieces of a plug-in promise, tested one by one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from patchboard.errors import PluginError
from patchboard.user_paths import expanded


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("check", help="test what each piece of a plug-in promises")
    parser.add_argument("files", nargs="+", type=expanded, metavar="FILE.py")
    parser.set_defaults(act=act)


def act(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Raises PluginError, exit status 2, where something failed: the plug-in is the user's input."""
    from patchboard.cli.arguments import prepare_libraries

    prepare_libraries()
    failed = [name for file in args.files for name in check_file(file.resolve())]
    if failed:
        raise PluginError(", ".join(failed), "a promise is not kept", "see the lines that say FAILED")
    return 0


def check_file(file: Path) -> list[str]:
    """Print how each piece of the file keeps its promises; returns the pieces that break one."""
    from patchboard.plugin_files import activate
    from patchboard.plugins.checks import findings
    from patchboard.registry import Origin

    activate([file])
    failed = []
    for kind, name, found in findings(Origin("file", str(file))):
        print(f"{kind} {name} ({file})")
        for each in found:
            print(
                f"  {'FAILED' if each.problem else 'passed'}  {each.promise}{f': {each.problem}' * bool(each.problem)}"
            )
        if any(each.problem for each in found):
            failed.append(f"{kind} '{name}'")
    return failed
