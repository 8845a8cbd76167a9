# The commands that matter. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.base
READY := $(VENV)/.ready
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Three at a time: those against a broker mostly wait.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadgroup

.PHONY: help setup demo test test-all bench lint format docs written check-docker kafka clean
.DEFAULT_GOAL := help

help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BASE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "stream_moe needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e .
	@touch $@

$(READY): $(BASE)
	$(INSTALL) -e '.[dev]'
	@touch $@

setup: $(READY)  ## Make the virtual environment with everything in it

demo: $(BASE)  ## Electricity prices through the whole consumer loop, no broker needed
	$(BIN)/stream-moe demo

test: $(READY)  ## Run the tests, side by side (with Java and Maven at hand also those against a real Kafka broker)
	$(PYTEST) -m "not long"

test-all: test  ## Run every test: also those that take minutes (faults, simulated crashes, a Ray cluster, reports)
	$(PYTEST) -m long

bench: $(READY)  ## Measure speed side by side with MOA and the published loop (installs CapyMOA; needs Java 17)
	$(INSTALL) -e '.[bench]'
	$(BIN)/python -m benchmarks.bench
	$(BIN)/python -m benchmarks.growth

lint: $(READY)  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## Put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)  ## Build the documentation site into site/ (a broken link or an undocumented public name fails)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html; with the search: $(BIN)/python -m http.server --directory site"

written: $(READY)  ## Write anew what is made from the metric table and the alerts (rules, dashboards, docs/metrics.md)
	$(BIN)/python docker/write.py

check-docker: $(READY)  ## Check what docker/ holds for Prometheus and Grafana (needs promtool, prometheus, Java)
	promtool check config docker/prometheus/prometheus.yml
	promtool check rules docker/prometheus/rules.yml
	promtool test rules docker/prometheus/tests.yml
	$(BIN)/python -m pytest tests/unit/test_docker.py
	$(BIN)/python -m tests.metrics

kafka: $(READY)  ## Keep a real Kafka broker running on localhost:9092 (needs Java 17 and Maven)
	$(BIN)/python -m tests.kafka.broker --port 9092

clean:  ## Remove the environment and every cache
	rm -rf $(VENV) site .kafka .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
