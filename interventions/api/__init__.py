"""What a notebook or a script calls; `patchboard` itself has its names. The commands are thin skins over it."""
