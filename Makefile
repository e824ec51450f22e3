# make demo and make test set up what they need in .venv; nothing outside this folder is changed.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo lint test test-fast ui lock clean

# .uv holds uv itself where the machine has none; its own folder, because `uv pip sync` empties .venv of all else
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.uv/bin:$(PATH)
WORKERS ?= 2
COMPILE ?= --compile-bytecode  # of all libraries, at once; without it each at its first use

help:  ## show this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: .venv/ready  ## make .venv from requirements.lock (exact versions, hashes) and install partsynth in it

demo: setup  ## run the whole pipeline on rendered parts, then print how the setups compare
	partsynth repro
	@echo
	@partsynth summary

lint: setup  ## check style and types (ruff, mypy)
	ruff check src tests benchmarks
	ruff format --check src tests benchmarks
	mypy

test: setup  ## run all tests (real small runs; WORKERS=2 at a time)
	pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 30

test-fast: setup  ## run the tests that take seconds
	pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not slow"

ui: setup  ## the MLflow UI at http://127.0.0.1:5000/#/experiments/1?workflowType=machine_learning
	mlflow ui --backend-store-uri sqlite:///$(CURDIR)/mlflow.db --host 127.0.0.1 --port 5000

lock:  ## resolve requirements.lock anew from pyproject.toml
	uv pip compile pyproject.toml --all-extras --python-version 3.11 --universal --generate-hashes \
	  --no-emit-index-url --no-annotate --upgrade --quiet -o requirements.lock

clean:  ## remove caches; data, models and runs stay
	rm -rf .pytest_cache .hypothesis .ruff_cache .gx build dist
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/ready: requirements.lock pyproject.toml
	@command -v uv >/dev/null \
	  || { python3 -m venv .uv && .uv/bin/python -m pip install --quiet uv; } \
	  || { echo "setup: no uv, and python3 cannot make a virtual environment (Debian: apt install python3-venv)" >&2; exit 1; }
	@test -x .venv/bin/python || uv venv --quiet --python '>=3.11' .venv
	uv pip sync --quiet $(COMPILE) --python .venv --require-hashes requirements.lock
	uv pip install --quiet --python .venv --no-deps --editable .
	@touch $@
