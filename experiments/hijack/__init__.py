"""Knowledge hijack (arXiv 2412.11459): what a prompt shows against what training taught, in a two-layer transformer."""
