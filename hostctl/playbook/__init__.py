"""Runs on the controller: playbooks: from files to plays and tasks, and to the program of each host."""
