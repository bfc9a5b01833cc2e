"""Runs on the managed host: one process per run that observes, diffs, applies and reports."""
