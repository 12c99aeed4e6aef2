"""Heads by their causal effect, and what the function vector of the best ones installs."""
