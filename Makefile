# Every target sets up .venv by itself when it is missing or older than pyproject.toml or constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.installed

# Modules and rewritten assertions are compiled once, not by each of the hundreds of processes that tests start.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all lint docs bench fuzz faults audit clean

demo: $(STAMP)-demo
	$(BIN)/mmreg demo --overwrite

test: $(STAMP)-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-all: $(STAMP)-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not bench"

lint: $(STAMP)-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy core plugins
	$(BIN)/python .ci/contracts.py
	$(BIN)/codespell docs core plugins README.md CHANGELOG.md CONTRIBUTING.md
	$(BIN)/codespell --ignore-words .ci/misspelt.txt tests

docs: $(STAMP)-dev
	$(BIN)/python docs/reference/generate.py
	$(BIN)/python docs/operators/gallery.py
	$(BIN)/python docs/rooms.py
	$(BIN)/python docs/scaling_figures.py
	$(BIN)/mkdocs build --strict --config-file .ci/mkdocs.yml --site-dir $(CURDIR)/site

# One table of ratios, as JSON in build/benchmarks.json, beside the stored reference; BENCH_RENEW=1 renews that.
bench: $(STAMP)-dev
	$(BIN)/python -m pytest -m bench tests/benchmarks

# FUZZ_SEED, FUZZ_CASES, FUZZ_KINDS and FUZZ_AGAIN are told in tests/fuzz/fuzzing/__main__.py.
fuzz: $(STAMP)-dev
	PYTHONPATH=$(CURDIR)/tests/fuzz:$(CURDIR)/tests/helpers $(BIN)/python -m fuzzing

# FAULTS_KILLS, FAULTS_TOGETHER and FAULTS_SEED are told in tests/faults/kills/__main__.py.
faults: $(STAMP)-dev
	PYTHONPATH=$(CURDIR)/tests/faults:$(CURDIR)/tests/helpers $(BIN)/python -m kills

audit: $(STAMP)-dev
	$(BIN)/python .ci/licences.py
	$(BIN)/python .ci/vulnerabilities.py

clean:
	rm -rf $(VENV) dist build site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# One stamp for each extra that is installed. A failed install leaves no stamp, so the next call tries again.
$(STAMP)-%: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mmreg needs Python 3.11 or later; name one with: make PYTHON=python3.11 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable ".[$*]"
	@touch $@
