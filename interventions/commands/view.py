"""`patchboard view`: all runs of a folder as a local page, or as static files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from patchboard.cli.guard import EXIT_INTERRUPTED
from patchboard.user_paths import expanded


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("view", help="a page over all runs of a folder, here or as static files")
    parser.add_argument(
        "folder", nargs="?", type=expanded, default=Path("runs"), metavar="FOLDER", help="default: runs"
    )
    parser.add_argument("--bundle", type=expanded, metavar="DIR", help="write the page and its reports as static files")
    parser.add_argument("--port", type=_port, default=0, help="default: 0, any free one")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.set_defaults(act=act)


def act(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    from patchboard.errors import RunFolderError

    if not args.folder.is_dir():
        raise RunFolderError(str(args.folder), "is no folder", "name one with runs in it; `patchboard run` makes runs/")
    if args.bundle is not None:
        from patchboard.view.bundle import write_bundle

        print(write_bundle(args.folder, args.bundle))
        return 0
    return _serve(args.folder, args.port, args.open)


def _serve(folder: Path, port: int, open_it: bool) -> int:
    import sys

    from patchboard.view.server import ViewServer

    try:
        with ViewServer(folder.resolve(), port) as server:
            print(server.address, flush=True)
            if open_it:
                import webbrowser

                webbrowser.open(server.address)
            server.serve_forever()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    return EXIT_INTERRUPTED


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number from 0 to 65535")
    return int(text)
