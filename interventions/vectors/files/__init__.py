"""Vectors and subspaces in files: where a file lies, what is in it, and whether it may be used at a place."""
