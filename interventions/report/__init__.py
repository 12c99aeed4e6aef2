"""Tables, figures and one self-contained page, all drawn from a run folder's files."""

from interventions.report.page import write_report

__all__ = ["write_report"]
