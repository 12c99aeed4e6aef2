"""file: a vector or a subspace that is fitted already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from patchboard.spec.vectors import Takes, VectorSection
from patchboard.tasks.base import NULL
from patchboard.vectors.fitters.base import FITTERS, Build, Fitter


@FITTERS.register("file")
class File(Fitter):
    """a path, or `hf://repo/path`: the vector or subspace under `key` in a file ([vectors from files](vectors.md))"""

    takes: ClassVar[Takes] = "file"
    phrase: ClassVar[str] = "the vector {key} of {first}"

    @classmethod
    def made(cls, vector: VectorSection, tasks: Sequence[str], where: str) -> str:
        from patchboard.vectors.files.contents import contents_of
        from patchboard.vectors.files.key import check_key
        from patchboard.vectors.files.layout import is_subspace
        from patchboard.vectors.files.located import located

        assert vector.file is not None
        at = f"{where}.vector"
        contents = contents_of(located(vector.file, f"{at}.file"), f"{at}.file")
        keys = check_key(vector, contents, [task for task in tasks if task != NULL], at)
        return "subspace" if is_subspace(keys[0], contents.shapes) else "vector"

    @classmethod
    def joint_builder(cls) -> Build:
        from patchboard.vectors.files.given import given_operands

        return given_operands
