# Every target runs in .venv, which is made from requirements.lock when first needed.
SHELL := bash
.DEFAULT_GOAL := help
.SILENT:
.PHONY: help env demo end-to-end test test-faults test-slurm bench bench-dag bench-day report lint format lock clean

# The first Python >= 3.11 on PATH that starts and can make an environment; or `make env PYTHON=...`.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do type -aP $$name; done | while read -r path; do \
	"$$path" -c 'import sys, venv$(if $(UV),,, ensurepip); \
		sys.exit(sys.version_info < (3, 11) or print(sys._base_executable))' 2>/dev/null && break; done)
UV := $(shell type -P uv)
NO_PYTHON := no Python >= 3.11 with venv and ensurepip on PATH: install one (Debian: python3-venv), \
	or install uv, or name one: make env PYTHON=/path/to/python3

INSTALL = $(if $(UV),"$(UV)" pip install --compile-bytecode --python .venv/bin/python,.venv/bin/python -m pip install \
	--disable-pip-version-check) --quiet --no-deps
RUN := PATH="$(CURDIR)/.venv/bin:$$PATH" PYTHONPATH="$(CURDIR)" .venv/bin/python
WORKFLOW_FILES := Snakefile rules
export OMP_NUM_THREADS ?= 2
export UV_SYSTEM_CERTS ?= true

help: ## this list
	awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Compiled once and not in each job, where the environment forbids Python to keep what it compiles.
env: .venv/installed ## the environment .venv, from requirements.lock (uv where present, else pip)
	.venv/bin/python -m compileall -q sotrplib

.venv/installed: requirements.lock
	python='$(PYTHON)'; [ -n "$$python" ] || { echo '$(NO_PYTHON)' >&2; exit 1; }; \
	echo "Making .venv with $$python and $(if $(UV),uv,pip), a few minutes at first ..."; \
	rm -rf .venv && $(if $(UV),"$(UV)" venv --quiet --python "$$python" .venv,"$$python" -m venv .venv)
	$(INSTALL) --require-hashes -r requirements.lock
	$(INSTALL) --no-build-isolation --editable .
	touch $@

demo: env ## simulate a few nights, run the whole workflow on them, print found beside injected
	$(RUN) -m snakemake --cores all
	$(RUN) -m sotrplib.cli demo-summary

end-to-end: env ## the same from a socat and a mapcat database into lightcurvedb, and a flare's light curve read back
	$(RUN) tests/end_to_end/run.py

test: lint ## lint, then all tests
	$(RUN) -m pytest

test-faults: env ## kill, fill, damage and replace what the workflow needs while it runs, several minutes
	$(RUN) -m pytest -m 'faults or not faults' tests/test_faults.py

bench: env ## measure accuracy and speed against the checked-in expectations
	$(RUN) tests/benchmarks/run.py

bench-dag: env ## time and memory of a dry run of 100 to 10,000 maps beside the engine's own floor
	$(RUN) tests/benchmarks/dag.py

bench-day: env ## what a day of survey maps costs, beside the floors (DAY="--maps 24", "--empty 100", "--scaling", "--starts")
	$(RUN) tests/benchmarks/day.py $(DAY)

test-slurm: env ## the workflow on a real Slurm on this host: real nights, and every fault (needs root; Debian)
	$(RUN) -m pytest tests/test_slurm.py tests/slurm/*.py

report: env ## bring the HTML report of the results up to date
	$(RUN) -m snakemake --cores all report

lint: env ## ruff, snakefmt and snakemake --lint; changes nothing
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m snakefmt --check $(WORKFLOW_FILES)
	$(RUN) -m snakemake --lint

format: env ## rewrite the code the way lint wants it
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format
	$(RUN) -m snakefmt $(WORKFLOW_FILES)

lock: ## requirements.lock anew from pyproject.toml (needs uv; LOCK_FLAGS=--upgrade for newer versions)
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
		--no-header --quiet $(LOCK_FLAGS) --output-file requirements.lock

clean: ## delete results and caches; .venv stays
	rm -rf results .snakemake .pytest_cache .ruff_cache .hypothesis build dist
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
