# make demo, make test: work on a fresh machine with Python 3.11 and nothing else prepared.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint regression clean

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

demo: $(INSTALLED)
	$(BIN)/python run.py -m +experiment=demo
	$(BIN)/python -m analysis outputs/demo

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A small fresh sweep against the committed reference: exit status 1 when accuracy fell anywhere.
regression: $(INSTALLED)
	$(BIN)/python run.py -m +experiment=ci
	$(BIN)/python -m analysis.regression outputs/ci --against outputs/reference/demo.json --allow-missing

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache
