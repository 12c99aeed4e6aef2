"""What is asked of a language model beyond one run: pairs of tasks, layer choice, replicates, tasks against tasks."""

EXAMINED = "experiment"
"""Folder inside the run's own in which an experiment keeps what it made of the run."""
