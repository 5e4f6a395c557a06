# Everything a newcomer needs: `make run`, `make test`. `make help` lists the rest.
#
# The environment (.venv) is made once from requirements.lock, by plain pip with hashes, and again
# only when a lock or pyproject.toml changes. Choose the interpreter with `make PYTHON=python3.12 …`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=
FUZZ_ARGS ?=

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- the environment ---------------------------------------------------------------------------

.PHONY: setup
setup: $(STAMP) ## make the environment, if it is missing or older than the lock

$(STAMP): requirements.lock requirements-oracle.lock pyproject.toml
	@if [ ! -e $(VENV) ]; then \
	  python=$$(sh .ci/find-python "$(PYTHON)"); \
	  echo "setup: making $(VENV) with $$python"; \
	  "$$python" -m venv $(VENV); \
	fi
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || \
	  { echo "setup: $(VENV) is broken (moved, or half made); remove it and run make again" >&2; exit 1; }
	@echo "setup: installing requirements.lock (hashed)"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --require-hashes --no-deps --no-build-isolation -r requirements-oracle.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# --- running -----------------------------------------------------------------------------------

.PHONY: run
run: $(STAMP) ## start a node, commit the samples, verify them, stay up
	@$(BIN)/sudur demo $(DEMO_ARGS)

.PHONY: demo-exit
demo-exit: $(STAMP) ## the same, and exit
	@$(BIN)/sudur demo --exit $(DEMO_ARGS)

.PHONY: bench
bench: $(STAMP) ## measure the claims in docs/benchmarks.md
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

.PHONY: fuzz
fuzz: $(STAMP) ## fuzz every parser, guided by coverage: FUZZ_ARGS="--seconds 600 receipt"
	@$(PIP) install --require-hashes --no-deps -r requirements-fuzz.lock
	@$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

# --- checking ----------------------------------------------------------------------------------

.PHONY: test
test: check etcd go ## everything: style, types, import contracts, generated code, all tests
	@echo "test: pytest, two files at a time"
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

.PHONY: check
check: lint types imports proto-check ## all but the tests

.PHONY: lint
lint: $(STAMP) ## style and format
	@echo "check: ruff"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || \
	  { $(BIN)/ruff format --check .; echo "lint: run $(BIN)/ruff format ." >&2; exit 1; }

.PHONY: types
types: $(STAMP) ## strict types
	@echo "check: mypy --strict"
	@$(BIN)/mypy --strict

.PHONY: imports
imports: $(STAMP) ## who may import whom
	@echo "check: import contracts"
	@$(BIN)/lint-imports

.PHONY: etcd
etcd: ## install etcd, which the cluster's tests start, if it is missing (Debian and its like)
	@bash .ci/etcd

.PHONY: go
go: ## install Go, with which others' client is built, if it is missing (Debian and its like)
	@bash .ci/go

# --- generated code ----------------------------------------------------------------------------

.PHONY: proto
proto: $(STAMP) ## regenerate proto/sudur from the .proto files
	@$(BIN)/python proto/generate.py

.PHONY: proto-check
proto-check: $(STAMP) ## fail if regenerating would change anything
	@echo "check: generated code"
	@$(BIN)/python proto/generate.py --check

# --- upkeep ------------------------------------------------------------------------------------

.PHONY: lock
lock: ## resolve requirements.lock and requirements-oracle.lock anew (needs uv)
	@bash .ci/lock

.PHONY: clean
clean: ## remove caches and build output (.venv stays: rm -r it yourself)
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .grimp_cache
	@find . -path ./$(VENV) -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
