"""Concept Decodability beyond a run's own table: pairs of tasks, the choice of a layer, a picture of the states."""
