# make train: the sample tagger, from installation to export. make test: the whole test suite. Nothing else is needed.
SHELL := /bin/bash
VENV := .venv
PYTHON ?= $(shell for each in python3.13 python3.12 python3.11 python3 python; do \
	$$each -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && command -v $$each && break; done)
RUN := $(VENV)/bin/python
ARGS ?=

.PHONY: train test lint format clean

train: $(VENV)/.installed
	$(RUN) train.py model=bilstm_crf $(ARGS)

test: $(VENV)/.installed
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(VENV)/.installed
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

$(VENV)/.installed: requirements.lock
	@test -n "$(PYTHON)" || { echo "make: Python 3.11, 3.12 or 3.13 is needed and was not found; name one with PYTHON=…" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "make: no virtual environment could be made; on Debian: apt install python3-venv" >&2; exit 2; }
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

clean:
	rm -rf $(VENV) outputs multirun exports mlartifacts mlflow.db
