"""Runs on the controller: reaches hosts over SSH or locally, starts the agent there and drives a run."""
