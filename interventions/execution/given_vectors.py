"""Vectors from files in a run: held against the model's own contents, and told in the manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from patchboard.errors import SpecError
from patchboard.execution.identity import name_of
from patchboard.plan.model import ModelPlan
from patchboard.plan.validate import files_named
from patchboard.spec import Study
from patchboard.store.identity import Identity
from patchboard.vectors.files.contents import contents_of
from patchboard.vectors.files.located import located


def check_given(study: Study, identity: Identity) -> None:
    """Raises SpecError where a file of ours was fitted on a model of the same name with other weights.

    Held against each other is what is known of both: the commit, or the files' digests.
    """
    named = ((where, file, point.spec.model) for point in study.points for where, file in files_named(point, "file"))
    for where, file, section in named:
        stamp = contents_of(located(file, where), where).stamp
        if stamp.get("model") != section.name:  # which is the plan's to refuse
            continue
        fitted, used = json.loads(stamp.get("contents", "{}")), identity.models.get(name_of(section), {})
        for name in sorted(fitted.keys() & used.keys()):
            if fitted[name] != used[name]:
                what = f"was fitted on other contents of {section.name}: {name} {fitted[name][:12]}"
                raise SpecError(where, f"{what} there, {used[name][:12]} here", "use it on that model, or fit it again")


def files_of(plans: Sequence[ModelPlan]) -> dict[str, Any]:
    """For the manifest: ``vector_files``, each with its sha256 and, of the Hub, its commit; empty without them."""
    recipes = [recipe for plan in plans for recipe in plan.recipes.values()]
    given = [one for recipe in recipes for one in (recipe.given, recipe.dictionary) if one is not None]
    files = {
        one.file: {"sha256": one.sha256, **({"commit": one.commit} if one.commit else {})}
        for one in sorted(given, key=lambda one: one.file)
    }
    return {"vector_files": files} if files else {}
