# The verbs of this house. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
STAMP := $(VENV)/.setup
# Tests wait for processes and clocks about half of their time: more of them at once than cores.
TEST_WORKERS ?= 4
# Modules are compiled once, whatever the environment says, and not by each process that the tests start.
export PYTHONDONTWRITEBYTECODE :=
PYTEST := $(BIN)/pytest -n $(TEST_WORKERS) --dist worksteal

.PHONY: help setup demo dev fmt lint types arch sql states test coverage e2e bench check screenshots clean

help: ## list the verbs
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## create .venv with everything in it

$(STAMP): pyproject.toml uv.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.13,<0.14'
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) sync --frozen --quiet --active --inexact --compile-bytecode
	@touch $@

demo: setup ## run the whole product on an embedded PostgreSQL, with a simulated gateway
	@exec $(BIN)/kiti demo

dev: setup ## like demo, restarting the server when a source file changes
	@exec $(BIN)/kiti demo --reload

fmt: setup ## format Python and SQL
	$(BIN)/ruff format src tests bench docs
	$(BIN)/ruff check --fix --quiet src tests bench docs || true
	$(BIN)/sqlfluff fix --quiet src || true

lint: setup ## ruff: format and every rule
	$(BIN)/ruff format --check src tests bench docs
	$(BIN)/ruff check src tests bench docs

types: setup ## mypy, strict
	$(BIN)/mypy

arch: setup ## imports go down only
	$(BIN)/lint-imports

sql: setup ## sqlfluff over the named queries
	$(BIN)/sqlfluff lint src

states: setup ## write docs/states.md from the transition tables
	$(BIN)/python docs/generate_states.py

test: setup ## the whole suite, on the embedded PostgreSQL or on DATABASE_URL
	$(PYTEST)

coverage: setup ## the whole suite, measured: fails below 85 % of lines and branches
	$(PYTEST) --cov --cov-report=term --cov-fail-under=85

e2e: setup ## only the browser tests
	$(BIN)/pytest -n 1 tests/e2e

bench: setup ## benchmarks; each prints a ratio against a baseline of the same run
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) sync --frozen --quiet --active --inexact --group bench
	$(BIN)/python -m bench.run $(BENCH)

screenshots: setup ## redraw docs/screenshots from a running demo
	$(BIN)/python docs/screenshots/take.py

check: lint types arch sql test ## everything CI runs

clean: ## remove what the verbs made
	rm -rf $(VENV) .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
