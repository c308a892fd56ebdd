"""Directories that are made of what the archive knows, and not of files: see ``view``."""
