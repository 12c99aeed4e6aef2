"""The commands of `patchboard`."""
