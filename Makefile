# `make app` and `make test` are all that is needed; both make the environment they use.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help app test check format

help:  ## list the targets
	@grep -E '^[a-z]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## /\t/' | expand -t 10

app: $(VENV)/.app  ## install the pinned requirements and start the app
	$(BIN)/streamlit run app/main.py

test: $(VENV)/.dev  ## install the development requirements and run all but the slow tests
	$(BIN)/python -m pytest

check: $(VENV)/.dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev  ## let ruff lay out the code and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Each mark is newer than the requirements that were installed last.
$(VENV)/.app: requirements.txt | $(VENV)/.python
	@echo "Installing the pinned requirements into $(VENV): some minutes the first time."
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt requirements.txt | $(VENV)/.python
	@echo "Installing the development requirements into $(VENV): some minutes the first time."
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/.app

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@
