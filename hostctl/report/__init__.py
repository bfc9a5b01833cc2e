"""Runs on the controller: what a run says, as text, as JSON and as live progress. Prints nothing itself."""
