"""Runs on the managed host: images: the store, layers, references, registries, archives, bootstrap."""
