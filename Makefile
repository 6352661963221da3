# Everything a contributor types. Needs make, git and Python 3.11 or newer; the rest comes into .venv.
# Without make, README.md gives the plain pip lines.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PYTEST_ARGS ?=
# For `make bench`: names of benchmarks, --quick, --full, --draw.
BENCH_ARGS ?=
# Tests run side by side: two processes need some 4 GB. What shares something stays together (tests/conftest.py).
WORKERS ?= 2
LAB_ARGS ?=
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout=120 --nbval-sanitize-with=tests/nbval.cfg -p no:cacheprovider
PIP := $(PY) -m pip --disable-pip-version-check install -q -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup lab test lint pytest nbval format notebooks docs book warm bench peers clean

help:
	@echo "make lab        set up what the notebooks need, and open JupyterLab (LAB_ARGS=--no-browser passes options on)"
	@echo "make setup      set up everything for development (quick when nothing changed)"
	@echo "make test       set up, then lint, all tests, and every notebook re-run and compared"
	@echo "make lint       ruff (rules and format), mypy, and the order of imports"
	@echo "make format     let ruff fix and format"
	@echo "make notebooks  re-run the notebooks and write both halves of each pair"
	@echo "make docs       build the site (course, how-to, reference) without network, in book/_build/html"
	@echo "make warm       compile the common kernels ahead"
	@echo "make bench      run the benchmarks (BENCH_ARGS=\"neuron --quick\" passes options on)"
	@echo "make peers      install the other libraries of the benchmarks, each group in an environment under .venv-peers"
	@echo "make clean      remove caches and built files (.venv stays)"

# Two stamps: a learner's `make lab` does not wait for the test tools.
$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "tfexplore needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.12 setup"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Python's venv module is incomplete here; on Debian or Ubuntu: sudo apt-get install python3-venv"; exit 1; }

$(VENV)/.lab-stamp: pyproject.toml constraints.txt | $(PY)
	@echo "setting up .venv for the notebooks (minutes the first time)"
	@$(PIP) -e ".[notebooks]"
	@touch $@

$(VENV)/.setup-stamp: pyproject.toml constraints.txt tests/peers.txt | $(PY)
	@echo "setting up .venv for development (minutes the first time)"
	@$(PIP) -e ".[notebooks,test,lint,book]"
	@$(PIP) --no-deps -r tests/peers.txt
	@touch $(VENV)/.lab-stamp $@

setup: $(VENV)/.setup-stamp

lab: $(VENV)/.lab-stamp
	$(PY) -m tfexplore lab notebooks -- $(LAB_ARGS)

# In this order, whatever -j says: the quickest complaint first.
test: setup
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory pytest
	@$(MAKE) --no-print-directory nbval

lint: setup
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-logo --no-cache

pytest: setup
	$(PY) -m pytest -n $(WORKERS) $(PYTEST_ARGS)

# PyTorch's compiler makes a folder in the system's temporary one wherever it is imported, and leaves it there.
nbval: setup
	TORCHINDUCTOR_CACHE_DIR=$(CURDIR)/.tfexplore-cache/inductor $(PY) -m pytest -n $(WORKERS) --dist loadfile $(NBVAL) notebooks

format: setup
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

notebooks: setup
	$(PY) -m ruff format notebooks
	$(PY) tools/notebooks.py write

docs: setup
	$(PY) tools/book.py

book: docs

warm: setup
	$(PY) -m tfexplore warm

bench: setup
	$(PY) -m tfexplore bench $(BENCH_ARGS)

# One environment for each benchmarks/peers/NAME.txt; NAME.no-deps.txt goes into it without its dependencies.
peers: $(patsubst benchmarks/peers/%.txt,.venv-peers/%/.stamp,$(filter-out %.no-deps.txt,$(wildcard benchmarks/peers/*.txt)))

.venv-peers/%/.stamp: benchmarks/peers/%.txt $(wildcard benchmarks/peers/*.no-deps.txt)
	@echo "setting up $(@D)"
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check install -q -r $<
	@extra=benchmarks/peers/$*.no-deps.txt; test ! -f $$extra || \
	  $(@D)/bin/python -m pip --disable-pip-version-check install -q --no-deps -r $$extra
	@touch $@

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .tfexplore-cache benchmarks/tmp tests/browser/out book/_build
	find tfexplore tests tools notebooks kernels benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
