"""Runs on the managed host: which system calls a container may make. `install.py` is the page to read first."""
