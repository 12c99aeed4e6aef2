"""Direct effects of heads in indirect object identification, beside the published ones of GPT-2 small."""
