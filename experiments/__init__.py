"""The experiments of the paper: a script each, and what is its own beside it."""
