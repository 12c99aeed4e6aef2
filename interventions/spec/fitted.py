"""Fields of vectors that are made of the states of fit prompts, or come from a file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer

from patchboard.spec.head_pairs import HeadPairs
from patchboard.spec.places import Position
from patchboard.spec.refusal import InvalidValue
from patchboard.spec.section import Count, Differing, Section, Shots
from patchboard.spec.sites import Site
from patchboard.spec.values import shown


class FittedAtSection(Section):
    """Where a file's vector was fitted, or a dictionary trained, in so far as that is another place than the edit's."""

    layer: Annotated[int, Field(ge=0)] | None = Field(default=None, description="the block; none: the edit's own")
    site: Site | None = Field(default=None, description="none: the edit's own")
    position: Position | None = Field(default=None, description="none: the edit's own")
    model: str | None = Field(default=None, description="of a dictionary: the model as its cfg.json calls it")

    @model_serializer(mode="wrap")
    def _as_short_as_written(self, dump: SerializerFunctionWrapHandler) -> Any:
        told = {name: value for name, value in dump(self).items() if value is not None}
        return self.layer if set(told) == {"layer"} else told


def _spelled_place(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return {"layer": value}
    if value is None or isinstance(value, dict | FittedAtSection):
        return value
    raise InvalidValue(f"found {shown(value)}, expected a layer", "write a number, or {layer: …, position: …}")


FittedAt = Annotated[
    FittedAtSection | None, BeforeValidator(_spelled_place, json_schema_input_type=int | FittedAtSection | None)
]


class FittedFields(Section):
    """What a section on vectors has for these."""

    mean: str | None = Field(default=None, description="same_task, other_task, null_task, all_tasks, or a task's name")
    difference: Annotated[list[str], Field(min_length=2, max_length=2), Differing] | None = Field(
        default=None, description="[a, b]: mean of a minus mean of b, each as under `mean`"
    )
    mass_mean: Annotated[list[str], Field(min_length=2, max_length=2), Differing] | None = Field(
        default=None, description="[a, b]: their difference, through the inverse covariance within both"
    )
    logistic: Annotated[list[str], Field(min_length=2, max_length=2), Differing] | None = Field(
        default=None, description="[a, b]: the weights of a logistic regression between them"
    )
    l2: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="of a logistic regression: its penalty, where states have a root mean square of 1"
    )
    subspace: Literal["tasks"] | None = Field(
        default=None, description="tasks: the space in which the tasks' states differ"
    )
    pca: str | None = Field(
        default=None, description="the principal directions of states, of same_task or another source, as under `mean`"
    )
    function_vector: str | None = Field(
        default=None, description="summed outputs of `heads`; of same_task or another source, as under `mean`"
    )
    contrast: str | None = Field(
        default=None,
        description="a .json, .jsonl, .csv or .tsv file of paired texts, each row a positive and a negative one; or"
        " hf://repo/path. All of its pairs are used",
    )
    sae: str | None = Field(
        default=None,
        description="weights of a sparse autoencoder with cfg.json beside them (SAELens), or Gemma Scope's params.npz;"
        " perhaps with {layer} in the path; or hf://repo/path",
    )
    features: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), Differing] | None = Field(
        default=None, description="of sae: which of its features, by number from 0"
    )
    select: Annotated[list[str], Field(min_length=2, max_length=2), Differing] | None = Field(
        default=None,
        description="[a, b], of sae in place of features: those whose mean activation differs most between a and b,"
        " each as under `mean`",
    )
    top: Count | None = Field(default=None, description="of select: how many features")
    by: Literal["size", "rise", "fall"] | None = Field(
        default=None,
        description="of select: which come first: size (default): the largest differences, up or down; rise: the most"
        " active in a beside b; fall: the least",
    )
    value: float | None = Field(
        default=None,
        description="of clamp_features: to what, in units of each feature's largest activation over the fit prompts;"
        " default 1",
    )
    file: str | None = Field(
        default=None,
        description="a file with the vector, or hf://repo/path: vectors.safetensors of a run, another .safetensors,"
        " .npz, .pt, or a control vector's .gguf",
    )
    key: str | None = Field(
        default=None,
        description="the tensor in the file, perhaps with {task}, {layer} and {head} in it; may be left out where the"
        " file has only one, and of a control vector",
    )
    fitted_at: FittedAt = Field(
        default=None,
        description="of a file: the layer that its vector is of, where that is another one than the edit's; or a"
        " mapping of layer, site and position. Of contrast {position: last}: where in the texts it is fitted. Of sae"
        " where the dictionary was trained, and the position of the fit prompts that it is read at",
    )
    heads: HeadPairs = Field(default=None, description="of a function vector: [layer, head] pairs")
    method: Literal["pca", "leace"] = Field(default="pca", description="of a subspace: PCA of the task means, or LEACE")
    rank: Count | None = Field(
        default=None, description="of a subspace; default: number of labels - 1, of pca and das 1"
    )
    shots: Shots = Field(
        default=8,
        description="demonstrations of a fit prompt; of das and steer by default those of the evaluated prompts",
    )
    prompts: Count = Field(default=100, description="fit prompts a task")
    only: Literal["correct", "all"] = Field(default="correct", description="fit prompts to use; Null always uses all")
