"""A run's folder notes what its numbers come from, from the start, and is refused to any other run in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from patchboard.errors import RunFolderError
from patchboard.execution import identity
from patchboard.execution.options import Options
from patchboard.execution.run import run_study
from patchboard.spec import dump_yaml
from patchboard.spec.study import study_of
from patchboard.store.identity import Identity, difference
from patchboard.tasks.files import sha256_of
from tests.contract.tiny import manifest_of

WORDS = "baker river garden letter boat child mountain teacher".split()
OLD, NEW = "0123456789abcdef0123456789abcdef01234567", "89abcdef0123456789abcdef0123456789abcdef"
REPO = "someone/tiny"
PLUGIN = """
import patchboard as pb

@pb.register.op("doubled_here", operand="none", neutral=0.0)
def apply(h, operand, strength):
    return 2 * h
"""


class Setup:
    """A model in the Hub's cache and one as a folder, a data file, a plug-in, and a study of them all."""

    def __init__(self, llama_folder: Path, at: Path):
        self.model, self.data, self.cache, self.out = at / "model", at / "pairs.json", at / "cache", at / "run"
        self.plugin = at / "my_ops.py"
        self.plugin.write_text(PLUGIN)
        shutil.copytree(llama_folder, self.model)
        for commit in (OLD, NEW):
            (self.hub / "snapshots").mkdir(parents=True, exist_ok=True)
            (self.hub / "snapshots" / commit).symlink_to(llama_folder, target_is_directory=True)
        (self.hub / "refs").mkdir()
        (self.hub / "refs" / "main").write_text(OLD)
        self.data.write_text(json.dumps([{"input": w, "output": w} for w in WORDS]))
        self.tree: dict[str, Any] = (
            {
                "plugins": [str(self.plugin)],
                "model": {"name": {"sweep": [str(self.model), REPO]}},
                "tasks": {"family": "pairs", "files": [str(self.data)], "include_null": False},
                "prompts": {"shots": 1, "queries": 2}, "interventions": {"zeroed": {"op": "zero", "layers": [1]}},
                "decodability": None, "statistics": {"bootstrap": 100},
            }
        )  # fmt: skip
        self.study = study_of(self.tree)

    @property
    def hub(self) -> Path:
        return self.cache / ("models--" + REPO.replace("/", "--"))

    def run(self, **options: Any) -> Path:
        return run_study(self.study, Options(out=self.out, **options))

    def contents(self) -> dict[str, tuple[int, bytes]]:
        return {str(f): (f.stat().st_mtime_ns, f.read_bytes()) for f in self.out.rglob("*") if f.is_file()}


@pytest.fixture(scope="module", autouse=True)
def no_report() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("patchboard.execution.run._report", lambda folder: None)
        yield


@pytest.fixture
def in_cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def finished(llama_folder, tmp_path_factory) -> Path:
    """Where a run is finished."""
    setup = Setup(llama_folder, at=tmp_path_factory.mktemp("identity"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(setup.cache))
        setup.run()
    return setup.out


@pytest.fixture(params=["finished", "running"])
def setup(request, finished, llama_folder, in_cache, tmp_path) -> Setup:
    """The same again, its run at either state, with files of the same contents."""
    setup = Setup(llama_folder, tmp_path)
    setup.out = tmp_path / "run"
    shutil.copytree(finished, setup.out)
    # the study is of other paths: what is held against it is told with these
    text = (finished / "manifest.json").read_text().replace(str(finished.parent), str(tmp_path))
    manifest = json.loads(text) | {"digest": setup.study.digest, "status": request.param}
    (setup.out / "manifest.json").write_text(json.dumps(manifest))
    (setup.out / "spec.yaml").write_text(dump_yaml(setup.study.tree))
    (setup.out / "parts").mkdir()
    (setup.out / "parts" / "a.parquet").write_bytes(b"cut short")  # what a resumed run clears away
    return setup


def edit_weights(setup: Setup, _: pytest.MonkeyPatch) -> None:
    file = setup.model / "model.safetensors"
    tensors = load_file(file)
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] + 1e-3
    save_file(tensors, file, {"format": "pt"})


def move_branch(setup: Setup, _: pytest.MonkeyPatch) -> None:
    (setup.hub / "refs" / "main").write_text(NEW)


def raise_version(_: Setup, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(identity, "RESULTS_VERSION", identity.RESULTS_VERSION + 1)


def change_data(setup: Setup, _: pytest.MonkeyPatch) -> None:
    setup.data.write_text(json.dumps([{"input": w, "output": w} for w in reversed(WORDS)]))


def change_plugin(setup: Setup, _: pytest.MonkeyPatch) -> None:
    setup.plugin.write_text(PLUGIN.replace("2 * h", "3 * h"))


def drop_plugin(setup: Setup, _: pytest.MonkeyPatch) -> None:
    setup.study = study_of({**setup.tree, "plugins": []})


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (edit_weights, "was run on other contents of model.safetensors of {model} (was {weights}, now "),
        (move_branch, f"was run on another commit of {REPO} (was {OLD[:12]}, now {NEW[:12]})"),
        (raise_version, "holds numbers of results version 1, this patchboard computes version 2"),
        (change_data, "was run on other contents of {data} (was "),
        (change_plugin, "was run with another plug-in my_ops.py (was {plugin}, now "),
        (drop_plugin, "was run with another plug-in my_ops.py (was {plugin}, now not there)"),
    ],
)
def test_another_identity_is_refused_and_nothing_changes(
    change: Callable[[Setup, pytest.MonkeyPatch], None], line: str, setup: Setup, monkeypatch
):
    weights, plugin = sha256_of(setup.model / "model.safetensors")[:12], sha256_of(setup.plugin)[:12]
    change(setup, monkeypatch)
    before = setup.contents()
    with pytest.raises(RunFolderError) as caught:
        setup.run()
    told = caught.value.one_line()
    line = line.format(model=setup.model, data=setup.data, weights=weights, plugin=plugin)
    assert told.startswith(f"{setup.out}: {line}")
    assert told.endswith("; use --fresh to start over, or another --out") and caught.value.exit_status == 2
    assert setup.contents() == before


def test_what_a_run_depends_on_is_noted(finished, llama_folder):
    noted = manifest_of(finished)["identity"]
    model = finished.parent / "model"
    files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert noted["models"] == {str(model): {f: sha256_of(llama_folder / f) for f in files}, REPO: {"commit": OLD}}
    assert noted["data"] == {str(finished.parent / "pairs.json"): sha256_of(finished.parent / "pairs.json")}
    assert (
        noted["plugins"] == {"my_ops.py": sha256_of(finished.parent / "my_ops.py")}
        and noted["results"] == identity.RESULTS_VERSION
    )


def test_it_is_noted_before_the_first_forward_pass(llama_folder, in_cache, tmp_path, monkeypatch):
    setup = Setup(llama_folder, tmp_path)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("patchboard.engine.local.traced_forward", stop)
    monkeypatch.setattr("patchboard.execution.local.load_weights", stop)
    with pytest.raises(KeyboardInterrupt):
        setup.run()
    manifest = manifest_of(setup.out)
    assert manifest["status"] == "running" and manifest["identity"]["models"][REPO] == {"commit": OLD}
    assert manifest["versions"] == identity.versions() and manifest["processes"] == [identity.versions()]
    edit_weights(setup, monkeypatch)
    with pytest.raises(RunFolderError, match="model.safetensors"):
        setup.run()
    with pytest.raises(KeyboardInterrupt):
        setup.run(fresh=True)
    now = manifest_of(setup.out)["identity"]["models"][str(setup.model)]["model.safetensors"]
    assert now == sha256_of(setup.model / "model.safetensors")


def test_a_finished_run_is_shown_though_its_model_is_gone(setup):
    shutil.rmtree(setup.model)
    shutil.rmtree(setup.hub)
    if manifest_of(setup.out)["status"] == "finished":
        assert setup.run() == setup.out
    else:
        with pytest.raises(Exception, match="there is no folder"):
            setup.run()


def test_a_folder_of_before_is_shown_where_finished_and_not_gone_on_with(setup):
    manifest = manifest_of(setup.out)
    del manifest["identity"]
    (setup.out / "manifest.json").write_text(json.dumps(manifest))
    if manifest["status"] == "finished":
        assert setup.run() == setup.out
    else:
        with pytest.raises(RunFolderError, match="was begun before runs noted what they are computed on; use --fresh"):
            setup.run()


def test_other_versions_are_told_and_no_refusal(finished, tmp_path, monkeypatch):
    from patchboard.store.folder import RunFolder

    folder = RunFolder(tmp_path, "d")
    folder.write_json("manifest.json", {"digest": "d", "version": 1})
    assert identity.note_process(folder) == [] == identity.note_process(folder)
    own = identity.versions()
    monkeypatch.setattr(identity, "versions", lambda: {**own, "torch": "9.9"})
    (note,) = identity.note_process(folder)
    assert note == f"resumed with another torch ({torch.__version__}, then 9.9): numbers may round otherwise"
    assert manifest_of(tmp_path)["processes"] == [own, own, {**own, "torch": "9.9"}]
    assert manifest_of(tmp_path)["versions"] == own


def test_a_branch_that_moves_while_it_is_loaded_is_one_line():
    from patchboard.engine.model_contents import check_commit
    from patchboard.errors import ModelError
    from patchboard.spec.sections import ModelSection

    section = ModelSection(name=REPO)
    check_commit(section, OLD, OLD)
    check_commit(section, None, NEW)
    with pytest.raises(ModelError, match=f"main of {REPO} moved from {OLD[:12]} to {NEW[:12]} while it was loaded"):
        check_commit(section, OLD, NEW)


def test_the_commit_that_a_host_serves_is_noted_and_held_against_a_later_one(tmp_path):
    from patchboard.spec.sections import ModelSection
    from patchboard.store.folder import RunFolder

    section, folder = ModelSection(name=REPO), RunFolder(tmp_path, "d")
    noted = Identity(1, served={REPO: {"revision": "main"}})
    folder.write_json("manifest.json", {"digest": "d", "version": 1, "identity": noted.as_json()})
    identity.bind_to_served_commit(folder, section, "")
    identity.bind_to_served_commit(folder, section, OLD)
    assert folder.manifest["identity"]["served"] == {REPO: {"revision": "main", "commit": OLD}}
    assert difference(folder.manifest["identity"], noted) is None, "a later start does not know it yet"
    with pytest.raises(RunFolderError, match=f"another commit of {REPO} .was {OLD[:12]}, now {NEW[:12]} on the host"):
        identity.bind_to_served_commit(folder, section, NEW)
