"""The page's explorer, from a point of a curve to the prompts that made it: its data and the script that shows it."""

from patchboard.report.explorer.block import asset, explorer_block

__all__ = ["asset", "explorer_block"]
