"""Task families: bitwise logic, parts of speech, a user's own pairs."""
