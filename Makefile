# Requirements: Python 3.11 or newer, make, and a package index that pip can reach.
#   make demo    a small particle set, converted on a local Dask cluster
#   make test    all tests
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
AUDIT  := $(VENV)-audit
DEMO   ?= cryolike-demo
ARGS   ?=

TORCH     := $(shell sed -n '/^torch==/p' constraints.txt)
DEV_TOOLS := import-linter pandas-stubs ruff scipy-stubs types-psutil types-PyYAML

.DEFAULT_GOAL := help
.PHONY: help env demo test lint format faults verdicts docs figures bench clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

env: $(STAMP) ## Make the environment in .venv, if it is not up to date

# torch is installed first and alone, so that no other requirement chooses another build of it.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is too old: Python 3.11 or newer is needed. Choose one: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]' $(DEV_TOOLS)
	@touch $@

demo: env ## Make demo particles, convert them on a local Dask cluster, and verify the stacks (DEMO=folder)
	$(BIN)/cryolike-dask demo $(DEMO) $(ARGS)

test: env ## Run all tests (ARGS="tests/cli -x" runs some of them)
	$(BIN)/python -m pytest $(ARGS)

lint: env ## Check style, types, and that imports only go down
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo pyproject.toml

format: env ## Rewrite the sources in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

faults: env ## Inject a thousand random faults into conversions (ARGS="--seed 1 --faults 100" for others)
	$(BIN)/python -m tests.chaos.campaign $(ARGS)

verdicts: env ## Check right and wrong CTFs of simulated sets, 100 seeds each (ARGS="--seeds 10" for fewer)
	$(BIN)/python -m tests.ctf_check.campaign $(ARGS)

docs: env ## Build the documentation in docs/_build/html; fails on any warning, and on lines that a browser cuts off
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python docs/layout.py

figures: env ## Draw the pictures of the documentation again
	$(BIN)/python -m docs.figures

bench: env ## Measure speed, memory and accuracy; writes benchmarks/RESULTS.md (not with ARGS=--quick)
	$(BIN)/python -m benchmarks $(ARGS)

# pip-audit has an environment of its own, so that it is not audited itself, and changes no version of the audited packages.
audit: env ## List licences, and compare constraints.txt with published vulnerabilities; needs a network
	test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) \
	  && $(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit; }
	$(BIN)/python .ci/audit.py $(AUDIT)/bin/pip-audit

clean: ## Remove the environment, the demo and all caches
	rm -rf $(VENV) $(AUDIT) $(DEMO) build dist docs/_build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
