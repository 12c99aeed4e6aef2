"""All runs of a folder as one page: served on this machine, or written as static files."""
