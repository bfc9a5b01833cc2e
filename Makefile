# Everything is made from here: `make test`, `make test-vm`, `make lint`, `make demo`, `make demo-down`.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null && $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && echo $$p && break; done)
PYTEST_ARGS ?=

.PHONY: test test-vm test-vm-all lint demo demo-down needs needs-root needs-vm

test: needs .venv/installed
	.venv/bin/python -m pytest $(PYTEST_ARGS)

# Scenarios on virtual machines, with systemd and kernels of their own: one release, and all three.
test-vm: needs-vm .venv/installed
	scripts/vm test $(PYTEST_ARGS)

test-vm-all: needs-vm .venv/installed
	scripts/vm all $(PYTEST_ARGS)

lint: .venv/installed
	.venv/bin/python -m pytest -q tests/test_lint.py tests/test_worlds.py

demo: needs-root needs .venv/installed
	@scripts/demo up

demo-down:
	@scripts/demo down

needs-root:
	@test "$$(uname -s)" = Linux && test "$$(id -u)" = 0 || { \
	echo "cannot go on: lab hosts are namespaces, which need root on Linux (try: sudo make $(MAKECMDGOALS))" >&2; exit 1; }

needs:
	@scripts/install-test-needs

needs-vm: needs-root
	@scripts/install-vm-needs

# The dev group is read from pyproject.toml by pip 25.1 or newer.
.venv/installed: pyproject.toml hatch_build.py
	@test -n "$(PYTHON)$$(command -v python3)" || { echo "cannot go on: Python 3.11 or newer is missing" >&2; exit 1; }
	test -x .venv/bin/python || $(or $(PYTHON),python3) -m venv .venv
	.venv/bin/python -m pip install -q --disable-pip-version-check --upgrade 'pip>=25.1'
	.venv/bin/python -m pip install -q --disable-pip-version-check -e . --group dev
	@touch $@
