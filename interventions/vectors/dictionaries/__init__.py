"""Dictionaries of features (sparse autoencoders): their files, where they may be used, and what is active in states."""
