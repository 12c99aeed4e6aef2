"""A spec, understood: the thing that is planned and run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchboard.api.display import html_table
from patchboard.errors import SpecError
from patchboard.spec import axes
from patchboard.spec.kinds import refuse_other_kind
from patchboard.spec.load import is_text, load_study
from patchboard.spec.study import study_of
from patchboard.spec.values import shown
from patchboard.spec.yaml_text import dump_yaml, plain_at
from patchboard.user_paths import expanded

if TYPE_CHECKING:
    from patchboard.api.plan import Plan


class Study(axes.Study):
    """A validated spec with every default filled in: ``tree``, ``axes``, ``points``, ``name`` and ``digest``.

    It is frozen; two studies of the same ``digest`` make the same run. ``load`` makes it.

    >>> study = pb.load(spec, {"prompts.shots": {"sweep": [0, 2]}})
    >>> study.name, study.axes, len(study.points)
    ('tiny', {'prompts.shots': [0, 2]}, 2)
    """

    def plan(
        self,
        *,
        model: Any = None,
        tokenizer: Any = None,
        engine: str = "auto",
        remote: bool | str | None = None,
        job_tokens: int = 200_000,
        patience: float = 60.0,
        trust_remote_code: bool = False,
        calibrate: bool = False,
        device: str = "auto",
    ) -> Plan:
        """What would run and what it costs: cells, packs, passes, tokens. Needs a tokenizer, and no weights.

        model, tokenizer: a model in memory, as of ``run``.
        engine: ``auto``, ``wavefront`` or ``rows``, as of ``run``. remote: ``True`` or a host's URL to count its jobs
        and bytes as well. calibrate: load the weights onto ``device``, run about a second of each phase, and predict
        the seconds of fit, CD and packs. Raises PatchboardError for a spec that does not fit its tasks or its model.

        >>> plan = study.plan()
        >>> plan.as_dict()["models"][0]["cost"]["cells"]
        33
        """
        from patchboard.api.in_memory import study_in_memory
        from patchboard.api.plan import Plan, predictions
        from patchboard.api.quiet import quiet_transformers
        from patchboard.api.remote import remote_of
        from patchboard.engine.trust import trusting
        from patchboard.execution.options import check_calibration
        from patchboard.execution.planned import plan_study

        host = remote_of(remote, job_tokens, patience)
        check_calibration(calibrate, host, "calibrate")
        with trusting(trust_remote_code), quiet_transformers():
            with study_in_memory(self, model, tokenizer, remote) as (study, loaded):
                plans = plan_study(study)
                found = predictions(plans, engine, device) if calibrate else []
                return Plan(study, plans, engine, host, loaded.without_weights() if loaded else None, found)

    def __repr__(self) -> str:
        return (
            f"Study({self.name!r}, digest {self.digest[:8]}, {len(self.points)} point{'s' * (len(self.points) != 1)})"
        )

    def _repr_html_(self) -> str:
        rows = [
            (field, value if isinstance(value, str | int) else dump_yaml(value).strip())
            for field, value in self.tree.items()
        ]
        return html_table(("", ""), rows, caption=repr(self))


def load(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Study:
    """The study that a spec describes.

    source: path of a YAML file, its text (several lines, or one in braces), or the same as a dict.
    overrides: dotted path -> value, as ``--path=value`` on the command line, but with Python values.
    Raises SpecError, one line, for what cannot be meant; the field's path or the override is named.

    >>> pb.load(spec, {"prompts.shots": 2}).points[0].spec.prompts.shots
    2
    >>> pb.load(spec, {"prompts.shotz": 2})
    Traceback (most recent call last):
    patchboard.errors.SpecError: --prompts.shotz: unknown key 'shotz'; did you mean 'shots'?
    """
    if isinstance(source, Mapping):
        refuse_other_kind(source, "run", "spec")
        study = study_of(plain_at(source, "spec"), overrides)
    elif isinstance(source, str | Path):
        study = load_study(source if isinstance(source, str) and is_text(source) else expanded(source), overrides)
    else:
        raise SpecError("spec", f"found {shown(source)}, expected a path, a text or a dict", "give one of them")
    return Study(**vars(study))


def as_study(source: axes.Study | str | Path | Mapping[str, Any]) -> Study:
    """A study as it is; of anything else the study that ``load`` makes of it."""
    if isinstance(source, Study):
        return source
    return Study(**vars(source)) if isinstance(source, axes.Study) else load(source)
