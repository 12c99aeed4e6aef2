"""A W&B sweep file, run on this machine: enumerate points, run each as its own command, collect the results."""
