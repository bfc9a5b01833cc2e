"""Runs on the managed host: builds images from Dockerfiles with hostctl's own runtime."""
