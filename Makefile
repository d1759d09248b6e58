# make train: the sample tagger, from installation to export. make test: the whole test suite. Nothing else is needed.
SHELL := /bin/bash
VENV := .venv
PYTHON ?= $(shell for each in python3.13 python3.12 python3.11 python3 python; do \
	$$each -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && command -v $$each && break; done)
RUN := $(VENV)/bin/python
ARGS ?=

.PHONY: train test check lint types format docs wheel clean

train: $(VENV)/.installed
	$(RUN) train.py model=bilstm_crf $(ARGS)

test: $(VENV)/.installed
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# Style, types, and the tests that train nothing: for the inner loop.
check: lint
	$(RUN) -m pytest -n 2 --dist loadfile -m "not slow" tests/components $(ARGS)

lint: types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

# mypy looks for the package by its name, which this folder need not have.
types: $(VENV)/.installed
	@mkdir -p $(VENV)/types && ln -sfn "$(CURDIR)" $(VENV)/types/trellis
	MYPYPATH=$(VENV)/types $(RUN) -m mypy -p trellis.components -p trellis.pipelines -p trellis.serve

format: $(VENV)/.installed
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

# The documentation site, build/docs/html/index.html. Warnings are errors: broken links, public names without
# documentation, tutorials that fail. Tutorials run again when they change; `make clean docs` runs all of them.
docs: $(VENV)/.installed
	@mkdir -p build
	$(RUN) -m sphinx -W --keep-going -q -b html docs build/docs/html $(ARGS)

# The wheel in an environment of its own, used from an empty folder, as somebody who installs it would.
wheel: $(VENV)/.installed
	$(RUN) tests/wheel.py

$(VENV)/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: Python 3.11, 3.12 or 3.13 is needed and was not found; name one with PYTHON=…" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "make: no virtual environment could be made; on Debian: apt install python3-venv" >&2; exit 2; }
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info outputs multirun exports mlartifacts mlflow.db
