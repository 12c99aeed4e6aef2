"""CD, accuracy and effect against the size of models."""
