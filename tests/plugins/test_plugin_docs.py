"""Every file of docs/plugins.md is a plug-in that keeps its promises, and the family of docs/tasks.md too."""

from __future__ import annotations

import re

import pytest

from patchboard.commands.main import main
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
FILES = {
    match.group(1): match.group(0)
    for match in re.finditer(
        r"(?<=```python\n)# (\w+\.py)\n.*?(?=```)",
        (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8"),
        re.DOTALL,
    )
}


@pytest.mark.parametrize("name", FILES)
def test_each_file_of_the_page_keeps_its_promises(plugin, capsys, name):
    assert main(["check", str(plugin(FILES[name], name))]) == 0, capsys.readouterr().out


def test_there_is_one_of_each_kind():
    from patchboard.plugins.register import Register

    shown = {kind for text in FILES.values() for kind in re.findall(r"@pb\.register\.(\w+)\(", text)}
    assert shown == {name for name in vars(Register) if not name.startswith("_")}


def test_the_family_of_the_page_on_tasks_keeps_its_promises(plugin, capsys):
    text = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert main(["check", str(plugin(example, "case.py"))]) == 0, capsys.readouterr().out
