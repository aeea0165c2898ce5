# `make demo` and `make test` need python3 (3.10 or newer) with pip and venv, and a package index.

PYTHON ?= python3
VENV ?= .venv
DEMO_DIR ?= runs/demo
DEMO ?= $(VENV)/bin/python -m trainers.train --dataset=mnist_5k --num_steps=2000 --workdir=$(DEMO_DIR)

INSTALLED := $(VENV)/.installed

.PHONY: help install demo test test-slow coverage lint docs

help:  ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED)  ## Install the project and its tools into $(VENV).

demo: $(INSTALLED)  ## Train a sigmoid belief network on real digits with REBAR.
	$(DEMO)
	@echo
	@echo "The curves: $(VENV)/bin/tensorboard --logdir=$(DEMO_DIR)"

test: $(INSTALLED)  ## Run the tests, without the slow ones, two at a time.
	@$(VENV)/bin/python -m pytest -n 2 --dist loadscope -m "not slow"

test-slow: $(INSTALLED)  ## Run the slow tests.
	@$(VENV)/bin/python -m pytest -n 2 --dist loadscope -m slow

coverage: $(INSTALLED)  ## Run the tests, without the slow ones, and say which lines they miss.
	@$(VENV)/bin/python -m pytest -n 2 --dist loadscope -m "not slow" --cov=rebar_tf --cov=trainers --cov-report=term:skip-covered

docs: $(INSTALLED)  ## Build the site in docs/_build/html; a warning is an error.
	TF_CPP_MIN_LOG_LEVEL=3 $(VENV)/bin/python -m sphinx -W --keep-going -b html docs docs/_build/html

lint: $(INSTALLED)  ## Check style, formatting, types and which module imports which.
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# pip first: the one that comes with Python 3.10 searches for minutes for versions that go together. The
# stamp last, so that an installation that broke off is done again.
$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@
