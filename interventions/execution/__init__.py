"""A run from study to finished folder, here or as the jobs of a server."""
