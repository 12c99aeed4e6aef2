"""What is asked of a language model beyond one run: pairs of tasks, layer choice, replicates, tasks against tasks."""

from interventions.store import EXAMINED

__all__ = ["EXAMINED"]
