"""The report of a finished run: figures, one self-contained page, tables for the terminal."""
