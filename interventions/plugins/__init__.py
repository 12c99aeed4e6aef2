"""What users add: pieces registered in files, distributions and notebooks, and checked."""
