"""Indirect object identification: where the names are, which heads move the answer, what those heads go by."""
