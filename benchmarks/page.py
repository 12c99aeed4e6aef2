"""The page of a large run: seconds to make it, its bytes, and in a browser the time to its first curve and to a click.

    python benchmarks/page.py                              # 80 layers x 7 vectors x 7 tasks x 100 queries
    python benchmarks/page.py --layers 8 --queries 20 --json
    python benchmarks/page.py --out /tmp/large             # keeps the run folder, and takes one that is there

The run folder is made without a model, from planted outcomes with three controls and three metrics; what is read of it
is what a run writes. ``seconds`` are the processor's: of the whole page with its figures, and of the explorer's part of
it. ``open``: from the navigation to the frame with the first curve. ``click``: from a click on the
curve to the frame with its queries, those of all tasks. Both are the clock's, of headless Chromium (medians of five
pages); left out where none is at hand. ``parts``: bytes of the page by what they hold.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import page_folder
import timing

from patchboard.report.explorer import explorer_block
from patchboard.report.page import write_report
from patchboard.report.run_files import read_run

PAGES = 5
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_WATCH = """
let opened;
window.opened = new Promise((known) => { opened = known; });
const ready = new MutationObserver(() => {
  if (!document.querySelector("#explorer[data-ready=yes]")) return;
  ready.disconnect();
  requestAnimationFrame(() => setTimeout(() => opened(performance.now())));
});
ready.observe(document, { subtree: true, childList: true, attributes: true });
"""
_CLICK = """async () => {
  const over = document.querySelector(".u-over"), box = over.getBoundingClientRect(), start = performance.now();
  const at = { clientX: box.left + box.width * 0.4, clientY: box.top + 40, bubbles: true };
  for (const kind of ["mousemove", "mousedown", "mouseup", "click"]) over.dispatchEvent(new MouseEvent(kind, at));
  while (!document.querySelector("#explorer table.prompts")) await new Promise(requestAnimationFrame);
  await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)));
  return performance.now() - start;
}"""


def in_browser(page: Path) -> dict[str, float] | None:
    """Milliseconds to the first curve and to a click's queries; None without a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    file = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if file is None:
        return None
    taken: dict[str, list[float]] = {"open": [], "click": []}
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=file, args=["--no-sandbox"])
        for _ in range(PAGES):
            opened = browser.new_page(viewport={"width": 1280, "height": 900})
            opened.add_init_script(_WATCH)
            opened.goto(page.as_uri())
            taken["open"].append(opened.evaluate("window.opened"))
            taken["click"].append(opened.evaluate(_CLICK))
            opened.close()
        browser.close()
    return {name: round(statistics.median(values)) for name, values in taken.items()}


def parts_of(page: str) -> dict[str, int]:
    """Bytes of the page by what they hold."""
    found = {
        "figures": sum(map(len, re.findall(r'<img src="[^"]*"', page))),
        "explorer": sum(map(len, re.findall(r'<script type="text/plain"[^>]*>.*?</script>', page, re.DOTALL))),
        "tables": sum(map(len, re.findall(r"<details>.*?</details>", page, re.DOTALL))),
    }
    return {**found, "rest": len(page.encode()) - sum(found.values())}


def measured(folder: Path) -> dict[str, Any]:
    start = time.process_time()
    page = write_report(folder)
    seconds = {"page": round(time.process_time() - start, 2)}
    start = time.process_time()
    explorer_block(read_run(folder))
    seconds["explorer"] = round(time.process_time() - start, 2)
    text = page.read_text(encoding="utf-8")
    return {
        "seconds": seconds,
        "bytes": page.stat().st_size,
        "parts": parts_of(text),
        "milliseconds": in_browser(page),
        "peak_gb": round(timing.process_peak_gb(), 2),
    }


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, size in page_folder.SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--out", type=Path, help="where the run folder is, or is made; a temporary one by default")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser.parse_args(argv)


def main() -> None:
    args = arguments()
    sizes = {name: getattr(args, name) for name in page_folder.SIZES}
    with tempfile.TemporaryDirectory() as folder:
        out = args.out or Path(folder) / "large"
        if not (out / "summary.json").exists():
            page_folder.write(out, **sizes)
        found = {"benchmark": "page", **sizes, **measured(out)}
    if args.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:12}  {value:,}" if isinstance(value, int) else f"{name:12}  {value}")


if __name__ == "__main__":
    main()
