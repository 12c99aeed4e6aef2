"""Experiments that train small models of their own: what patchboard measures, where the truth can be planted."""
