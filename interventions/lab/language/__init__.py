"""What is asked of a language model beyond one run: pairs of tasks, layer choice, replicates, tasks against tasks."""

from patchboard.store import EXAMINED

__all__ = ["EXAMINED"]
