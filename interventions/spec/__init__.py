"""The spec: YAML -> frozen, validated data with axes and a digest. Imports no model code."""

from interventions.spec.axes import Point, Study, Variant
from interventions.spec.load import dump_yaml, load_study, study_of
from interventions.spec.sections import Spec

__all__ = ["Point", "Spec", "Study", "Variant", "dump_yaml", "load_study", "study_of"]
