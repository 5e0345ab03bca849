# Every chore has one verb here; CI calls the same ones.

PYTHON ?= python3
HYPERVISOR ?= fake
TESTS ?= tests/conformance/interop.txt
# By the environment, so that no shell takes a regular expression or a database's password apart.
export PYTHON HYPERVISOR TESTS DATABASE CONCURRENCY LAYOUT NODES
# A program that is compiled anew at each start is not what a user has.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test lint docs bench conformance install clean

help:
	@echo 'make demo         install what is missing, start the cloud, and show what it does, step by step'
	@echo 'make test         install what tests need; style, types, and all tests'
	@echo 'make lint         style and types'
	@echo 'make docs         write the reference pages that come from the program'
	@echo 'make bench        measure every number of SPECIFICATION.md'
	@echo 'make conformance  run Tempest on a fresh cloud:'
	@echo '                  TESTS=<file of test ids, or a regular expression> HYPERVISOR=fake|qemu [DATABASE=url]'
	@echo '                  [CONCURRENCY=n] [KEEP=1: leave the cloud up] [ANY_FORMAT=1]'
	@echo '                  [LAYOUT=devstack|gridka|ha: a lab of many machines] [NODES=n: its compute nodes]'
	@echo 'make install      the packages and the Python environment'
	@echo 'make clean        remove what the other verbs made in this folder'

install:
	@scripts/install-system run
	@scripts/install-python

demo: install
	@scripts/install-python conformance
	@.venv/bin/pileus demo

test:
	@scripts/install-system run test
	@scripts/install-python
	@scripts/install-python conformance
	@scripts/test

lint:
	@scripts/install-system python
	@scripts/install-python
	@scripts/lint

docs:
	@scripts/install-system python
	@scripts/install-python
	@.venv/bin/python scripts/docs.py

bench: install
	@.venv/bin/python benchmarks/run.py

conformance:
	@scripts/install-system python $(if $(filter qemu,$(HYPERVISOR)),run)
	@scripts/install-python
	@scripts/install-python conformance
	@.venv-conformance/bin/python -m tests.conformance.run "$$TESTS" --hypervisor "$$HYPERVISOR" \
		$(if $(CONCURRENCY),--concurrency "$$CONCURRENCY") $(if $(KEEP),--keep) $(if $(ANY_FORMAT),--any-format) \
		$(if $(LAYOUT),--layout "$$LAYOUT") $(if $(NODES),--nodes "$$NODES")

clean:
	rm -rf .venv .venv-conformance .cache build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +
