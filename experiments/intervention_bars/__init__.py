"""Interventions by task with replicates over seeds, and every task's mean on every task."""
