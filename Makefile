# make demo   sets everything up, then runs the whole path on real photographs (CPU, no download of models or data)
# make test   the whole test suite            make test-fast   without the tests that start Ray or several processes
# make check  formatting, lints, types        make format      apply the formatting

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-fast check format clean

demo: $(VENV)/.demo
	$(BIN)/editmill demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest

test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow"

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "editmill needs Python 3.11 or newer, and '$(PYTHON)' is older. Name another: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing editmill with the demo's packages into $(VENV) (a few minutes, once) ..."
	$(PIP_INSTALL) --editable ".[demo]"
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing editmill with everything its tests need into $(VENV) (a few minutes, once) ..."
	$(PIP_INSTALL) --editable ".[dev]"
	@touch $@
