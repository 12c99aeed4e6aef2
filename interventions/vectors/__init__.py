"""Vectors and subspaces that edits write or remove, fitted from hidden states."""
