# `make up` on a fresh machine needs python3 (3.11 or later), make and git.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The oldest name is tried last: `python3` wins unless it is too old.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo $$name; break; fi; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PATHS := conclave workflows activities api worker schema bench tests
LOCK := uv pip compile --override requirements/overrides.txt --generate-hashes --universal \
	--python-version 3.11 --no-emit-index-url --no-header --quiet

.PHONY: help install up test check format bench chaos lock clean

help: ## Show what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

install: $(STAMP) ## Make .venv with the pinned dependencies

$(STAMP): requirements.lock requirements/bootstrap.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Conclave needs Python 3.11 or later."; exit 1; }
	@test -x $(BIN)/python || { echo "Making $(VENV) with $(PYTHON) ..."; $(PYTHON) -m venv $(VENV); }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --require-hashes -r requirements/bootstrap.txt
	@echo "Installing pinned dependencies ..."
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

up: $(STAMP) ## Run Conclave; flags by ARGS="--auto-ports ..."
	@exec $(BIN)/conclave up $(ARGS)

test: $(STAMP) ## Run the tests; some by ARGS="tests/core -k ..."
	@$(BIN)/python -m pytest $(ARGS)

check: $(STAMP) ## Format, lint, types, imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(STAMP) ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## Measure against the raw SDK; writes docs/performance.md
	$(BIN)/python -m bench $(ARGS)

chaos: $(STAMP) ## Kill everything, long; writes docs/reliability.md
	$(BIN)/python -m tests.chaos $(ARGS)

lock: $(STAMP) ## Pin the dependencies again; newer ones by ARGS=--upgrade
	$(BIN)/$(LOCK) $(ARGS) requirements/runtime.in -o requirements-runtime.lock
	$(BIN)/$(LOCK) $(ARGS) requirements/dev.in -o requirements.lock
	@awk '/^[^ #]/ { own = /^uv==/ } own && !/^ *#/' requirements.lock > requirements/bootstrap.txt

clean: ## Remove what was made, but no data
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
