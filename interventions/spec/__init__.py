"""The spec: YAML -> frozen, validated data with axes and a digest. Imports no model code."""

from patchboard.spec.axes import Point, Study, Variant
from patchboard.spec.json_schema import json_schema
from patchboard.spec.load import load_study
from patchboard.spec.overrides import apply_overrides, parse_overrides
from patchboard.spec.sections import Spec
from patchboard.spec.study import study_of
from patchboard.spec.values import label
from patchboard.spec.yaml_text import dump_yaml

__all__ = [
    "Point",
    "Spec",
    "Study",
    "Variant",
    "apply_overrides",
    "dump_yaml",
    "json_schema",
    "label",
    "load_study",
    "parse_overrides",
    "study_of",
]
