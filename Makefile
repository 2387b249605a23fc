# make bench     install into .venv, then benchmark A3W3: training to measured accelerator
# make test      install into .venv, then test the library
# make lint      ruff and mypy
#
# Variables: PYTHON=python3.12   the interpreter for .venv
#            PIP_FLAGS=...       passed to pip, e.g. --extra-index-url with PyTorch's index of CPU-only builds
#            K="A3W3 and PE8-SIMD8"   what to benchmark (pytest's -k)
#            ARGS=...            more for pytest

PYTHON ?= python3
PIP_FLAGS ?=
K ?= A3W3
ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python -m

.PHONY: bench test lint install clean

bench: install
	$(RUN) pytest benchmarks -k "$(K)" $(ARGS)

test: install
	$(RUN) pytest tests -n auto $(ARGS)

lint: install
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

install: $(VENV)/installed

# The stamp comes last: an installation that was interrupted is taken up again.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m qnn.preflight
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install $(PIP_FLAGS) -c constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .store results
