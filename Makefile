# SPDX-License-Identifier: Apache-2.0
# 'make demo' shows the main job; 'make test' proves everything. Both set up what they need.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PYTEST := $(RUN) -m pytest

.PHONY: help demo test lint unit fuzz faults clients scenario siege brokers chaos lab-tests lab deb sbom etc pins clean bench bench-gateway bench-simulator bench-sessions bench-master

help:
	@echo 'make demo        a fleet on loopback against a simulated Discord (KEEP=1: stays up)'
	@echo 'make test        everything: lint, types, unit, fuzz, faults, clients, brokers, …, lab'
	@echo 'make lint        style, types, import directions'
	@echo 'make unit        unit tests'
	@echo 'make faults      the fault matrix: real shards against a simulated Discord that misbehaves'
	@echo 'make clients     discord.py, discord.js and others against the simulator'
	@echo 'make scenario    scenarios with real processes on loopback'
	@echo 'make brokers     the handlers nats and redis with real servers, killed under load'
	@echo 'make siege       MASTER and CONTROL with thousands of hostile connections'
	@echo 'make fuzz        atheris on every parser and protocol, a minute each'
	@echo 'make chaos       docs/chaos.md: kills everything under load, counts every event (20 minutes)'
	@echo 'make lab-tests   the lab: Debian 13 machines in namespaces (root)'
	@echo 'make lab         a lab fleet to play with, until Ctrl-C (root)'
	@echo 'make deb         build/discluster_VERSION_all.deb for Debian 13'
	@echo 'make sbom        build/discluster_VERSION.cdx.json: what an installation consists of (CycloneDX)'
	@echo 'make bench       docs/benchmarks.md, measured on a quiet machine (half an hour)'
	@echo 'make bench-master  MASTER with up to 1,000 hosts, its section of docs/benchmarks.md (10 minutes)'
	@echo 'make pins        packaging/requirements*.txt: the newest versions that pyproject.toml allows'
	@echo 'make etc         writes etc/*.yaml from the declarations of the settings'

# The runtime's dependencies are enough for the demo; the tests want more.
$(VENV)/.runtime: packaging/requirements.txt packaging/requirements-build.txt packaging/make-venv
	packaging/make-venv $(PYTHON) $(VENV) requirements.txt
	@touch $@

$(VENV)/.dev: packaging/requirements-dev.txt packaging/requirements-build.txt packaging/make-venv
	packaging/make-venv $(PYTHON) $(VENV) requirements-dev.txt
	@touch $(VENV)/.runtime $@

# Not for every Python; without it 'make test' says so, but in CI.
$(VENV)/.fuzz: $(VENV)/.dev packaging/requirements-fuzz.txt
	packaging/make-venv $(PYTHON) $(VENV) requirements-fuzz.txt
	@touch $@

demo: $(VENV)/.runtime
	@$(RUN) -m tests.scenario.demo $(if $(KEEP),--keep)

test: $(VENV)/.dev
	tests/lab/prepare --if-possible
	$(MAKE) --no-print-directory lint
	$(MAKE) --no-print-directory $(VENV)/.fuzz || test -z "$$CI"
	$(RUN) -m tests.streams tests/unit,tests/fuzz,tests/faults tests/scenario
	$(RUN) tests/clients/install --if-possible
	$(PYTEST) tests/clients
	$(PYTEST) tests/adapters
	$(RUN) tests/brokers/install --if-possible
	$(PYTEST) tests/brokers
	$(PYTEST) tests/siege
	$(PYTEST) tests/chaos
	$(PYTEST) tests/lab

lint: $(VENV)/.dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache
	PYTHONPATH=. $(RUN) packaging/etc.py --check etc

unit faults scenario siege: $(VENV)/.dev
	$(PYTEST) tests/$@

clients: $(VENV)/.dev
	$(RUN) tests/clients/install
	$(PYTEST) tests/clients tests/adapters

brokers: $(VENV)/.dev
	$(RUN) tests/brokers/install
	$(PYTEST) tests/brokers

# ARGS='--short' for a minute of it; see 'python -m tests.chaos --help'.
chaos: $(VENV)/.dev
	$(RUN) tests/clients/install --if-possible
	$(RUN) -m tests.chaos $(ARGS)

# ARGS='--seconds 600 --target plan' for one target; it ends by itself.
fuzz: $(VENV)/.fuzz
	$(RUN) -m tests.fuzz $(ARGS)

lab-tests: $(VENV)/.dev
	tests/lab/prepare --if-possible
	$(PYTEST) tests/lab

lab: $(VENV)/.dev
	tests/lab/prepare
	$(RUN) -m tests.lab.up

deb: $(VENV)/.runtime
	packaging/build-deb --lintian

sbom: $(VENV)/.runtime
	$(RUN) packaging/sbom.py

# ARGS='--quick' for a smoke run; see 'python -m tests.bench --help'.
bench bench-gateway: $(VENV)/.dev
	$(RUN) -m tests.bench $(ARGS)

bench-simulator: $(VENV)/.dev
	$(RUN) -m tests.bench.simulator_rate --output docs/simulator-rate.md

bench-sessions: $(VENV)/.dev
	$(RUN) -m tests.bench.sessions --output docs/sessions.md

# ARGS='--hosts 100' for one size; each takes three minutes and two cores.
bench-master: $(VENV)/.dev
	mkdir -p build/bench
	$(RUN) -m tests.bench.master --page docs/benchmarks.md --json build/bench/master.json $(ARGS)

etc: $(VENV)/.runtime
	PYTHONPATH=. $(RUN) packaging/etc.py etc

# For every Python and machine that is supported, at once. Nothing else needs it: the pins are kept.
PIN := UV_CUSTOM_COMPILE_COMMAND='make pins' $(VENV)/bin/uv pip compile --quiet --upgrade \
	--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras

pins: $(VENV)/.dev
	$(PIN) pyproject.toml --extra dev --output-file packaging/requirements-dev.txt
	$(PIN) pyproject.toml --constraint packaging/requirements-dev.txt --no-annotate \
		--output-file packaging/requirements.txt
	$(PIN) --group build --output-file packaging/requirements-build.txt
	$(PIN) --group fuzz --output-file packaging/requirements-fuzz.txt

clean:
	rm -rf build dist $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
