# Every target does its own set-up. Needs Python 3.11 or newer with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check
LOCKED := --no-deps --require-hashes --only-binary :all: --requirement
TORCH := 2.13.0
PYTEST := $(BIN)/python -m pytest
SCORED := PYTHONPATH=tests/faults $(PYTEST) -p scoreboard
TOOLS := build/tools
STUDY ?= demo
PORT ?= 5000
MINUTES ?= 9
FIGURES ?= docs/reliability.md
export DVC_NO_ANALYTICS ?= 1
export DO_NOT_TRACK ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true
export HF_HUB_DISABLE_TELEMETRY ?= 1
export RAY_USAGE_STATS_ENABLED ?= 0
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION ?= false
# Empty, for what is compiled is to be kept.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo study reproduce publish ui sync test test-faults test-slow test-endurance lint audit lock bench gpu clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/.ready ## prepare .venv with the versions of requirements.lock

# Everything but torch comes from requirements.lock, wheels alone and each by its hash, uv first: it installs the rest in a tenth of pip's
# time. It does not read pip's configuration, so where it can't reach an index, pip does its work. The build of torch depends on the machine
# (CPU or CUDA), so it is pinned by its version, and it pins CUDA's libraries itself. Building the project needs nothing but the lock's
# setuptools. Python compiles what is imported when it is first; pip would compile everything, for a minute and a half.
$(VENV)/.ready: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}; name another with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	awk '/^uv==/ {found = 1} found {print} !/\\$$/ {found = 0}' requirements.lock > $(VENV)/uv.lock
	$(PIP) $(LOCKED) $(VENV)/uv.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(LOCKED) requirements.lock || $(PIP) $(LOCKED) requirements.lock
	$(PIP) --only-binary :all: torch==$(TORCH)
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## MiniLM on generated reviews: the whole way in minutes, without a hub
	$(BIN)/lora-replication run demo

study: setup ## bring STUDY=name up to date (studies/*.yaml); the IMDb archive is named by IMDB_ARCHIVE
	$(BIN)/lora-replication run $(STUDY)

publish: setup ## the same, and copy the report to reports/STUDY
	$(BIN)/lora-replication run $(STUDY) --publish

reproduce: setup ## dvc repro of the article's study: DistilBERT on all of IMDb; needs a CUDA GPU and the hub
	$(BIN)/lora-replication run article

# The server's job queue, unused here, would cost eight more processes, a GiB of memory and eight seconds at the start.
ui: export MLFLOW_SERVER_ENABLE_JOB_EXECUTION ?= false
ui: setup ## the MLflow UI on 127.0.0.1:$(PORT)
	$(BIN)/python -m mlflow server --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port $(PORT)

sync: setup ## rebuild the MLflow database from the records
	$(BIN)/lora-replication sync

lint: setup ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint ## lint, then all tests but those of the targets below; those that need IMDb run where IMDB_ARCHIVE names the archive
	$(PYTEST) -m 'not slow and not endurance' --numprocesses auto --dist loadfile

bench: setup ## time this project, the article's loop and the HF Trainer: on two cores a quarter of an hour; BENCH="--device cuda" on a GPU
	$(BIN)/python -m benchmarks.bench $(BENCH)

# In the Python that is there: a machine with a GPU may have no network to make an environment from.
gpu: export PYTHONPATH := src:.
gpu: ## all that a GPU is asked, in MINUTES=9, with GPU="--inputs FOLDER --out FOLDER"; GPU=--dry-run prints the plan
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m benchmarks.gpu --minutes $(MINUTES) $(GPU)

test-faults: setup ## the suite of faults: what was survived, as a table here and in docs/reliability.md; ten minutes
	$(SCORED) --reliability $(FIGURES) -m '(fault or goal) and not endurance' --numprocesses auto --dist loadfile --no-loadscope-reorder

test-slow: setup ## what else takes long: Ray, benchmarks, whole studies; ten minutes
	$(PYTEST) -m 'slow and not (fault or goal or endurance)' --numprocesses auto --dist loadfile --no-loadscope-reorder

test-endurance: setup ## 100 kills of the pipeline at random moments, and 500 runs of four processes into one database; half an hour
	KILLS=100 SOAK=500 $(SCORED) tests/faults/test_endurance.py --numprocesses 2

$(TOOLS)/.ready:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: pip-audit==2.10.1
	@touch $@

audit: $(TOOLS)/.ready ## known vulnerabilities of the locked versions, less supply_chain/waivers.toml; needs the network
	$(TOOLS)/bin/python supply_chain/audit.py $(TORCH)

lock: setup ## bring requirements.lock and its SBOM up to date with pyproject.toml; UPGRADE=--upgrade takes the newest versions
	$(BIN)/uv pip compile pyproject.toml --all-extras --group lock --universal --python-version 3.11 --only-binary :all: --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command 'make lock' $(UPGRADE) --quiet --output-file requirements.lock
	$(PYTHON) supply_chain/sbom.py

clean: ## remove everything that the studies made (build, data, runs, the MLflow database), not .venv
	rm -rf build data runs mlflow.db* mlartifacts
