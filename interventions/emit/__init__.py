"""A run's cells as a plain nnsight script that stands without this package."""
