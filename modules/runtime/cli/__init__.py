"""The OCI runtime's command line: one file per group of verbs."""
