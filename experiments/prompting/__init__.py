"""The concept stated in the prompt, or not."""
