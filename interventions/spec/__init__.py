"""The spec: YAML -> frozen, validated data with axes and a digest. Imports no model code."""

from interventions.spec.axes import Point, Study, Variant
from interventions.spec.json_schema import json_schema
from interventions.spec.load import load_study
from interventions.spec.overrides import apply_overrides, parse_overrides
from interventions.spec.sections import Spec
from interventions.spec.study import study_of
from interventions.spec.values import label
from interventions.spec.yaml_text import dump_yaml

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
