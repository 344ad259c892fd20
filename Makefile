# Each command installs what it needs: make quickstart, make test, make docs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: quickstart test test-fast check format docs bench chaos fuzz wheel release-check clean

quickstart: $(VENV)/.package  ## train a small network on embedded images
	$(BIN)/python -m sparse_regimes.main --config=configs/quickstart.py
	@echo "to use it in this shell: . $(BIN)/activate"

test: $(VENV)/.test  ## run every test
	$(BIN)/python -m pytest

test-fast: $(VENV)/.test  ## no processes, no whole runs, nothing slow
	$(BIN)/python -m pytest -m 'not run and not slow and not optimised'

check: $(VENV)/.test  ## lint and type-check, as the tests do
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

chaos: $(VENV)/.test  ## kill a run twenty times; it must end as if it had not been
	$(BIN)/python experiments/chaos.py --write

fuzz: $(VENV)/.test  ## ten thousand spoilt inputs for every reader
	$(BIN)/python -m pytest --hypothesis-profile=fuzz tests/fuzz_test.py tests/data/data_fuzz_test.py

docs: $(VENV)/.docs  ## build the site: docs/_build/html/index.html
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html
	@echo "open docs/_build/html/index.html"

bench: $(VENV)/.test  ## time the selection and the step on this machine
	$(BIN)/python experiments/bench_selection.py
	$(BIN)/python experiments/bench_headline.py
	$(BIN)/python experiments/bench_step.py

wheel: $(VENV)/.test  ## build dist/*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

release-check: $(VENV)/.test  ## try both archives on each Python at hand
	$(BIN)/python .ci/release_check.py

clean:
	rm -rf $(VENV) dist .cache docs/_build

# A stamp is written last, so an interrupted installation starts again.
$(VENV)/.package: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing sparse_regimes into $(VENV)"
	$(PIP) --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing sparse_regimes and its tests into $(VENV)"
	$(PIP) --constraint constraints.txt --editable '.[test]'
	@touch $@ $(VENV)/.package $(VENV)/.docs

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing sparse_regimes and what builds its site into $(VENV)"
	$(PIP) --constraint constraints.txt --editable '.[docs]'
	@touch $@ $(VENV)/.package

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) must be Python 3.11 or newer; try make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
