"""sae: features of a sparse autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from patchboard.errors import SpecError
from patchboard.spec.dictionaries import LAYER
from patchboard.spec.sites import HEADED, NEURAL
from patchboard.spec.vectors import Takes, VectorSection
from patchboard.vectors.fitters.base import FITTERS, Build, Makes, Separating


@FITTERS.register("sae")
class Sae(Separating):
    """the weights of a sparse autoencoder: those of its features that `features` names, or the `top` ones that tell
    the two sources of `select` apart ([features of a dictionary](vectors.md#features-of-a-dictionary))"""

    takes: ClassVar[Takes] = "file"
    makes: ClassVar[Makes] = "features"
    phrase: ClassVar[str] = "{features}"

    @classmethod
    def check(cls, vector: VectorSection, site: str, tasks: Sequence[str], where: str) -> None:
        from patchboard.vectors.dictionaries.dictionary import check_features, opened

        if site in (*HEADED, *NEURAL):
            what = f"features are of whole states of the stream, attn_out or mlp_out, and {site} has parts of one"
            raise SpecError(f"{where}.site", what, "use resid_post, or another vector")
        if vector.select is not None:
            super().check(vector, site, tasks, where)
        assert vector.sae is not None
        if LAYER not in vector.sae:  # else the plan knows of which layers
            check_features(opened(vector.sae, f"{where}.vector")[0], vector, f"{where}.vector")

    @classmethod
    def joint_builder(cls) -> Build:
        from patchboard.vectors.dictionaries.operands import feature_operands

        return feature_operands

    @classmethod
    def host_builder(cls) -> Build:
        from patchboard.vectors.dictionaries.named import named_operands

        return named_operands
