"""The notebooks of docs/ run from top to bottom, in a kernel, in a folder of their own."""

from __future__ import annotations

import ast
import json

import pytest

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
_LARGEST = 400_000
"""Bytes: figures are stored in them, and everybody who clones gets them."""


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs(notebook, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    cells = nbformat.read(notebook, as_version=4)
    NotebookClient(cells, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    assert (tmp_path / "runs").is_dir(), "a run is made where the notebook is"


def test_there_are_two_and_they_are_small():
    assert [file.stem for file in NOTEBOOKS] == ["first_steps", "own_op_and_data"]
    for file in NOTEBOOKS:
        assert file.stat().st_size < _LARGEST
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        for cell in cells:
            if cell["cell_type"] == "code":
                ast.parse("".join(cell["source"]))
        assert not any(out["output_type"] == "error" for cell in cells for out in cell.get("outputs", []))
