"""patchboard: causal interventions on language models, from a YAML spec to effects beside decodability."""
