"""Low-rank finetuning of the first or the last layers, and what it does to CD, accuracy and effects."""
