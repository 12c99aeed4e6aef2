"""CD, accuracy and effect over the checkpoints of one training."""
