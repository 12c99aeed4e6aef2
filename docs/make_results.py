"""Makes the pages of docs/results anew: every run that they are of, the numbers, the text around them.

    python docs/make_results.py                       # all pages, one after another: hours of a core
    python docs/make_results.py decodability heads    # these
    python docs/make_results.py --list                # what is finished, what is to do
    python docs/make_results.py --render              # only the text, from the numbers in docs/results/data

Killed and called again it goes on. A page is a pair of files in docs/pages (see CONTRIBUTING.md).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import jinja2

from pages import stored
from pages.carry_out import RunFailed, carry_out
from pages.frame import Page, Project
from pages.overview import overview
from pages.render import draws_on_others, rendered

NOT_FETCHED = "could not be fetched by pip"
"""Says a run of a packaged model that isn't installed, where the package registry is out of reach."""

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Exit status: 0, 1 where a page could not be made, 2 for a page that isn't there."""
    project = Project(root)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="default: all")
    parser.add_argument("--runs", type=Path, default=root / "runs" / "results", help="folders of the runs, PAGE/RUN")
    parser.add_argument("--render", action="store_true", help="run nothing: the text, from the stored numbers")
    parser.add_argument("--list", action="store_true", help="what is finished and what is to do")
    args = parser.parse_args(arguments)
    names = project.names()
    for name in args.pages:
        if name not in names:
            print(f"error: {name}: is no page; docs/pages has {', '.join(names)}", file=sys.stderr)
            return 2
    chosen = [project.page(name) for name in names if name in (args.pages or names)]
    if args.list:
        print("\n".join(overview(project, chosen, args.runs)))
        return 0
    made = [name for page in chosen if (name := make(project, page, args.runs, only_render=args.render))]
    failed = [page.name for page in chosen if page.name not in made]
    for page in map(project.page, names):  # numbers of other pages may have changed since, or now
        is_made = stored.read(project, page.name) or (not page.runs and page.place.exists())
        if is_made and page.name not in failed and draws_on_others(project, page):
            failed += [] if write(project, page) else [page.name]
    if failed:
        print(f"not made: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def make(project: Project, page: Page, runs: Path, only_render: bool) -> str | None:
    """The page's runs, its stored numbers, its text. Returns its name, None where a run or the text failed."""
    for name, run in {} if only_render else page.runs.items():
        print(f"{page.name}/{name}: {run.command}", flush=True)
        if lacking := run.lacks(project.root):
            print(f"  passed over: needs {lacking}, which is not here; its stored numbers stay", flush=True)
            continue
        folder = runs / page.name / name
        try:
            seconds = carry_out(project, run, folder)
            stored.keep(project, page, name, folder, seconds)
            copy_figures(project, page, name, folder)
        except RunFailed as error:
            if run.needs and NOT_FETCHED in str(error):
                print("  passed over: its model could not be fetched; its stored numbers stay", flush=True)
                continue
            print(f"  failed; its log is {folder}.log\n{error}", file=sys.stderr)
            return None
        except Exception:  # in the page's own `values`, or a figure that isn't there: the other pages go on
            print(f"  {page.name}.py cannot read {folder}\n{traceback.format_exc()}", file=sys.stderr)
            return None
    return page.name if write(project, page) else None


def copy_figures(project: Project, page: Page, name: str, folder: Path) -> None:
    project.figures.mkdir(parents=True, exist_ok=True)
    for file, (run, path) in page.figures.items():
        if run == name:
            shutil.copyfile(folder / path, project.figures / file)


def write(project: Project, page: Page) -> bool:
    """Write the page's text; False, and a line, where a number is lacking."""
    try:
        text = rendered(project, page)
    except jinja2.TemplateError as error:
        print(f"error: {page.name}.md.j2: {error}; docs/make_results.py {page.name} runs it", file=sys.stderr)
        return False
    page.place.parent.mkdir(parents=True, exist_ok=True)
    page.place.write_text(text, encoding="utf-8")
    print(f"{page.place.relative_to(project.root)}", flush=True)
    return True


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")
