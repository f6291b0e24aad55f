# Few, short commands. Each sets up what it needs: a virtual environment in .venv, installed from requirements/, where
# every file has its hash.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
READY := $(VENV)/.ready
RUN := $(VENV)/bin
# TORCH=cpu takes torch without CUDA (0.2 GB) from PyTorch's own index. PyPI's torch for Linux is the CUDA build, which
# with its libraries takes more than 2 GB.
TORCH ?= pypi
PIP := $(RUN)/python -m pip install --quiet --disable-pip-version-check --no-deps
HASHED := $(PIP) --require-hashes --no-build-isolation
# A wheel of the CPU build in a folder that pip's find-links names goes before PyPI's.
TORCH_pypi := ($(HASHED) --no-index -r requirements/torch-cpu.txt 2>/dev/null || $(HASHED) -r requirements/torch.txt)
TORCH_cpu := $(PIP) --index-url https://download.pytorch.org/whl/cpu -c constraints.txt torch
# One worker per core, each with whole test files (tests/conftest.py); pytest itself runs a single file.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

PROJECT ?= .demo

.PHONY: demo up down test test-fast test-long check bench reference setup lock clean

setup: $(READY)  ## create the virtual environment

$(READY): pyproject.toml $(wildcard requirements/*.txt)
	$(PYTHON) -m venv $(VENV)
	$(HASHED) -r requirements/build.txt
	$(TORCH_$(TORCH))
	# A CPU build has a local version such as 2.13.0+cpu, and needs no CUDA libraries.
	ls -d $(VENV)/lib/python*/site-packages/torch-*+*.dist-info >/dev/null 2>&1 || $(HASHED) -r requirements/cuda.txt
	$(HASHED) -r requirements/base.txt
	$(PIP) --no-build-isolation -e .
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

test-long: $(READY)  ## kills at every step, real services, a browser, bad input to every command (35 minutes)
	$(RUN)/python -m pytest $(PARALLEL) -m long

check: $(READY)  ## lint, format, types
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

reference: $(READY)  ## regenerate docs/reference from the code
	$(RUN)/python -m ragtide.flows.cli.reference

# All files that PyPI has of each version are listed, so that any platform and Python finds its own.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header
IN_BASE := torch filelock fsspec jinja2 markupsafe mpmath networkx setuptools sympy typing-extensions
lock:  ## write requirements/ from constraints.txt; needs uv (pip install uv)
	printf '%s\n' hatchling editables setuptools wheel | $(LOCK) -c constraints.txt - -o requirements/build.txt
	grep -v '^torch==' constraints.txt | $(LOCK) --no-deps - -o requirements/base.txt
	grep '^torch==' constraints.txt | $(LOCK) -c constraints.txt $(IN_BASE:%=--no-emit-package=%) - -o requirements/cuda.txt
	grep '^torch==' constraints.txt | $(LOCK) --no-deps - -o requirements/torch.txt

bench: $(READY)  ## regenerate the tables in bench/README.md (DATA=folder of the benchmark data)
	for name in quarter skills finetune probes retrieval retriever changes embed peers replay hostile; do \
		$(RUN)/python -m bench.$$name --data $(or $(DATA),../shared/data) || exit 1; done
	$(RUN)/python -m bench.decisions
	$(RUN)/python -m bench.faults
	$(RUN)/python -m bench.soak

clean:
	rm -rf $(VENV) .demo
