# Needs Python 3.11 or newer with venv, nothing else: every target sets up .venv by itself, from the lock files.
# ARGS reaches the program: make demo ARGS="--objects 5", make test ARGS="tests/unit -x".

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev
DOCS_VENV := .venv-docs
DOCS := $(DOCS_VENV)/.installed
AUDIT_VENV := .venv-audit
AUDIT := $(AUDIT_VENV)/.installed
ARGS ?=
PYTHON ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.PHONY: help install run demo unit test newcomer lowest check compose-test operators-hour smoke test-in-container upgrade-test faults isolation model bench soak docs docs-serve sbom audit

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(RUNTIME) ## set up .venv with what the product needs
	@echo "Ready: $(BIN)/b24offline --help"

run: $(RUNTIME) ## serve your portals from this machine: Valkey, beat, workers, Flower
	$(BIN)/python -m b24offline up $(ARGS)

demo: $(RUNTIME) ## show the pipeline at work on an emulated portal
	$(BIN)/python -m demo $(ARGS)

# The tests of one file stay together and in order.
PYTEST = $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder

unit: $(DEV) ## run the unit tests: no server, under a minute
	$(PYTEST) -n $(or $(JOBS),2) tests/unit $(ARGS)

# More files at a time than cores: most of an end-to-end test is waiting.
test: $(DEV) ## run all tests but those of faults, model and compose-test (JOBS=1: one file at a time)
	$(PYTEST) -n $(or $(JOBS),4) $(ARGS)

newcomer: $(DEV) ## from an empty folder to the first event, by the quickstart and a real browser; prints its timeline
	$(BIN)/python -m pytest -q -s tests/e2e/test_newcomer.py $(ARGS)

lowest: $(DEV) ## run the unit tests and one pipeline with the lowest versions that pyproject.toml allows
	.ci/lowest $(ARGS)

compose-test: $(BIN)/python ## start compose.yaml for real on both brokers, kill, restart, compare; needs Docker
	$(BIN)/python -m tests.compose $(ARGS)

operators-hour: $(BIN)/python ## break compose.yaml in thirteen ways, mend each by its alert's runbook; needs Docker
	$(BIN)/python -m tests.compose.operate $(ARGS)

smoke: $(DEV) ## run our image in containers of pytest-celery, on Valkey and RabbitMQ; needs Docker
	$(BIN)/python -m pytest -p no:xdist -v tests/smoke $(ARGS)

test-in-container: ## run the tests on Python 3.13, PostgreSQL 17 and RabbitMQ 4; needs Docker
	tests/container/run -n $(or $(JOBS),4) $(ARGS)

upgrade-test: $(DEV) ## replace the version before (BEFORE=commit, else the newest tag) under traffic, and go back
	$(BIN)/python -m tests.upgrade $(if $(BEFORE),--before $(BEFORE)) $(ARGS)

faults: $(DEV) ## kill, break and repeat everything (ROW=12 SEED=7 MINUTES=5 BROKER=rabbitmq JOBS=2), then judge
	$(BIN)/python -m tests.faults $(foreach row,$(ROW),--row $(row)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(MINUTES),--minutes $(MINUTES)) $(if $(BROKER),--broker $(BROKER)) $(if $(JOBS),--jobs $(JOBS)) $(ARGS)

isolation: $(DEV) ## 50 portals, ten of them sick: how long do the others wait (MINUTES=10 SCALE=1 SEED=1)
	$(BIN)/python -m tests.faults.isolation $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) \
	  $(if $(SCALE),--scale $(SCALE)) $(ARGS)

model: $(DEV) ## explore the protocol for one message, rule by rule; DEPTH=2 takes minutes
	$(BIN)/python -m tests.model --depth $(or $(DEPTH),1) $(ARGS)

bench: $(DEV) ## events per second and cost per event beside bare Celery and a plain loop; QUICK=1: under 5 minutes
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(ARGS)

soak: $(DEV) ## half an hour of traffic, faults and restarts: what grows, and whether anything is lost (MINUTES=30 SEED=1)
	$(BIN)/python -m benchmarks.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(ARGS)

check: $(DEV) ## lint, format, types, rooms and doors, generated documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/repo/test_rooms.py tests/repo/test_structure.py tests/repo/test_ledger_keys.py
	$(BIN)/python -m tools.settings_docs --check
	$(BIN)/python -m tools.commands_docs --check
	$(BIN)/python -m tools.metrics_docs --check
	$(BIN)/python -m tools.alert_rules --check
	$(BIN)/python -m tools.dashboard --check

# The site has an environment of its own: none of its packages is needed to run, test or change b24offline.
MKDOCS = NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/python -m mkdocs

docs: $(DOCS) ## build the documents as a site, in build/site; fails on a link that leads nowhere
	$(MKDOCS) build --strict $(ARGS)
	@echo "Ready: build/site/index.html; make docs-serve shows it"

docs-serve: $(DOCS) ## show the site on http://127.0.0.1:8000, and build it again with each change
	$(MKDOCS) serve --dev-addr 127.0.0.1:8000 $(ARGS)

sbom: $(AUDIT) ## a bill of materials (CycloneDX) of requirements.lock, in dist/, to lie beside the wheel
	@mkdir -p dist
	@PYTHONWARNINGS=ignore $(AUDIT_VENV)/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible \
	  --output-format JSON --output-file dist/b24offline.cdx.json
	@$(AUDIT_VENV)/bin/python -m tools.sbom dist/b24offline.cdx.json

audit: $(AUDIT) ## ask the public sources of advisories about requirements.lock; fails on what they know
	@$(AUDIT_VENV)/bin/python -m tools.dependency_audit $(AUDIT_VENV)/bin/pip-audit

# A directory of an aborted run has no pip yet, and a moved interpreter leaves a dangling link: both are made anew.
$(BIN)/python:
	@set -e; \
	for python in $(PYTHON) python3.13 python3.12 python3.11 python3 python; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found=$$python; break; fi; \
	done; \
	if [ -n "$$found" ]; then \
	  if command -v uv >/dev/null 2>&1; then uv venv --quiet --clear --python "$$found" $(VENV); \
	  elif "$$found" -c 'import venv, ensurepip' >/dev/null 2>&1; then "$$found" -m venv --clear $(VENV); \
	  else echo "$$found has no venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; fi; \
	elif command -v uv >/dev/null 2>&1; then uv venv --quiet --clear --python '>=3.11' $(VENV); \
	else echo "No Python 3.11 or newer found. Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; \
	  exit 1; fi

# $(call install,LOCK): what the lock file names, hashes checked, then this checkout itself, in place
define install
	@set -e; echo "Installing $(1) into $(VENV) ..."; \
	if command -v uv >/dev/null 2>&1; then \
	  uv pip install --quiet --python $(BIN)/python --require-hashes -r $(1); \
	  uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else \
	  $(BIN)/python -m pip install --quiet --require-hashes -r $(1); \
	  $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .; \
	fi
endef

$(RUNTIME): requirements.lock pyproject.toml | $(BIN)/python
	$(call install,requirements.lock)
	@touch $@

$(DOCS): requirements-docs.lock | $(BIN)/python
	@$(BIN)/python -m venv --clear $(DOCS_VENV)
	@echo "Installing requirements-docs.lock into $(DOCS_VENV) ..."
	@$(DOCS_VENV)/bin/python -m pip install --quiet --require-hashes -r requirements-docs.lock
	@touch $@

$(AUDIT): requirements-audit.lock | $(BIN)/python
	@$(BIN)/python -m venv --clear $(AUDIT_VENV)
	@echo "Installing requirements-audit.lock into $(AUDIT_VENV) ..."
	@$(AUDIT_VENV)/bin/python -m pip install --quiet --require-hashes -r requirements-audit.lock
	@touch $@

# The development lock holds everything the other one does, in the same versions.
$(DEV): requirements-dev.lock requirements.lock pyproject.toml | $(BIN)/python
	$(call install,requirements-dev.lock)
	@touch $(RUNTIME) $@
