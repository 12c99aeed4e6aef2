"""Weights & Biases as a mirror of the run folder. Modules import wandb only where a W&B run is opened."""
