# Every target does its own set-up. Needs Python 3.11 or newer with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check
# By hash, and as wheels, but for one package that has none and is pure Python.
LOCKED := --no-deps --require-hashes --only-binary :all: --no-binary antlr4-python3-runtime --no-build-isolation --requirement
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

.PHONY: help setup demo study reproduce publish ui sync docs test test-faults test-slow test-endurance lint audit lock bench gpu clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/.ready ## prepare .venv with the versions of requirements.lock

# Everything but torch comes from requirements.lock, each package by its hash, uv and the build backend
# first: uv installs the rest in a tenth of pip's time. It does not read pip's configuration, so where it
# can't reach an index, pip does its work. The build of torch depends on the machine (CPU or CUDA), so it
# is pinned by its version. Python compiles what is imported when it is first.
$(VENV)/.ready: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}; name another with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	awk '/^(uv|setuptools)==/ {found = 1} found {print} !/\\$$/ {found = 0}' requirements.lock > $(VENV)/first.lock
	$(PIP) $(LOCKED) $(VENV)/first.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(LOCKED) requirements.lock || $(PIP) $(LOCKED) requirements.lock
	$(PIP) --only-binary :all: torch==$(TORCH)
	$(PIP) --no-deps --no-build-isolation --editable .
	@mkdir -p -m 700 .dvc/site-cache && $(BIN)/dvc config --quiet --local core.site_cache_dir "$(CURDIR)/.dvc/site-cache"
	@touch $@

demo: setup ## run a whole study of MiniLM on generated reviews; needs no hub
	$(BIN)/lora-replication run demo

study: setup ## bring STUDY=name up to date; IMDB_ARCHIVE names the archive of reviews
	$(BIN)/lora-replication run $(STUDY)

publish: study ## bring STUDY=name up to date and copy its records next to its report
	$(BIN)/lora-replication report $(STUDY) --publish

reproduce: setup ## run the article's study: DistilBERT on all of IMDb; needs a CUDA GPU and the hub
	$(BIN)/lora-replication run article

# The server's job queue, unused here, would cost eight more processes, a GiB of memory and eight seconds.
ui: export MLFLOW_SERVER_ENABLE_JOB_EXECUTION ?= false
ui: export PYTHONWARNINGS ?= ignore
ui: setup ## show all runs in MLflow's page on 127.0.0.1, PORT=5000; prints the links
	@$(BIN)/lora-replication sync --ui http://127.0.0.1:$(PORT)
	@echo "MLflow starts; open one of the links above. Ctrl-C stops it."
	@$(BIN)/python -m mlflow server --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port $(PORT) --uvicorn-opts=--log-level=warning

sync: setup ## rebuild the MLflow database from the records
	$(BIN)/lora-replication sync

lint: setup ## run ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint ## run the linters and the fast tests; IMDB_ARCHIVE adds those on real reviews
	$(PYTEST) -m 'not slow and not endurance' --numprocesses auto --dist loadfile

bench: setup ## time this project, the article's loop and the HF Trainer, in a quarter of an hour on two cores; BENCH="--device cuda" on a GPU
	$(BIN)/python -m benchmarks.bench $(BENCH)

# In the Python that is there: a machine with a GPU may have no network to make an environment from.
gpu: export PYTHONPATH := src:.
gpu: ## check and measure a GPU in MINUTES=9, with GPU="--inputs FOLDER --out FOLDER"; GPU=--dry-run prints the plan
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m benchmarks.gpu --minutes $(MINUTES) $(GPU)

test-faults: setup ## run the fault tests and update the table in docs/reliability.md; ten minutes
	$(SCORED) --reliability $(FIGURES) -m '(fault or goal) and not endurance' --numprocesses auto --dist loadfile --no-loadscope-reorder

test-slow: setup ## run the slow tests: Ray, benchmarks, whole studies, DVC from a clone; ten minutes or more
	$(PYTEST) -m 'slow and not (fault or goal or endurance)' --numprocesses auto --dist loadfile --no-loadscope-reorder

test-endurance: setup ## kill the pipeline 100 times at random, edit it 50 times while it works and kill it soon after, and write 500 runs from four processes into one database; an hour
	KILLS=100 SOAK=500 $(SCORED) tests/faults/test_endurance.py --numprocesses 2

$(TOOLS)/.ready:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: pip-audit==2.10.1
	@touch $@

SITE_TOOLS := build/site-tools
$(SITE_TOOLS)/.ready: docs/requirements.lock
	$(PYTHON) -m venv $(SITE_TOOLS)
	$(SITE_TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: --requirement docs/requirements.lock
	@touch $@

docs: export PYTHONPATH := src
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(SITE_TOOLS)/.ready ## build the documentation and the reports as pages into build/site
	$(SITE_TOOLS)/bin/mkdocs build --strict
	@echo "written to build/site; open build/site/index.html"

audit: $(TOOLS)/.ready ## report known vulnerabilities of the locked versions, except supply_chain/waivers.toml; needs the network
	$(TOOLS)/bin/python supply_chain/audit.py $(TORCH) $(AUDIT)

lock: setup ## update requirements.lock from pyproject.toml; UPGRADE=--upgrade takes the newest versions
	$(BIN)/uv pip compile pyproject.toml --all-extras --group lock --universal --python-version 3.11 --only-binary :all: \
	  --no-binary antlr4-python3-runtime --generate-hashes --no-emit-index-url --no-annotate \
	  --custom-compile-command 'make lock' $(UPGRADE) --quiet --output-file requirements.lock
	$(BIN)/uv pip compile docs/requirements.in --universal --python-version 3.11 --only-binary :all: --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command 'make lock' $(UPGRADE) --quiet --output-file docs/requirements.lock

clean: ## remove everything that the studies made (build, data, runs, the MLflow database), not .venv
	rm -rf build data runs mlflow.db* mlartifacts
