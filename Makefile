# make demo, make test: work on a fresh machine with Python 3.11 and nothing else prepared.
# make demo MODEL=smollm2_135m_bd: the same on a real language model, whose weights are downloaded first.
MODEL ?= tiny
DEMO := $(if $(filter tiny,$(MODEL)),demo,demo_$(MODEL))
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-cluster lint regression clean

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

demo: $(INSTALLED)
	$(BIN)/python run.py -m +experiment=$(DEMO)
	$(BIN)/python run.py -m +experiment=$(DEMO) runner=recall method=mage,quest budget=128 examples=10
	$(BIN)/python -m analysis outputs/$(DEMO)

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# The launchers on a real one-node Slurm and a local Ray; installs both (on Debian or Ubuntu, as root).
test-cluster: $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev,slurm,ray]"
	tests/cluster/slurm_one_node.sh install
	MAGE_TEST_MINUTES=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -rs tests/cluster

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A small sweep, fresh each time, against the committed reference: exit status 1 when accuracy fell anywhere.
regression: $(INSTALLED)
	results=$$(mktemp -d) && \
	$(BIN)/python run.py -m +experiment=ci output_dir=$$results && \
	$(BIN)/python -m analysis.regression $$results/ci --against outputs/reference/demo.json --allow-missing && \
	rm -r $$results

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache
