"""The report of a finished run: figures, one self-contained page, tables for the terminal."""

from patchboard.report.page import write_comparison, write_report

__all__ = ["write_comparison", "write_report"]
