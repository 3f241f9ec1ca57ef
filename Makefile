# Two commands do everything: `make run` and `make test`. Both need only Python 3.11+ and make.
PYTHON ?= python3
PORT ?= 2181
DATA ?= ./corral-data
WORKERS ?= 2
MINUTES ?= 5
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# From which seed on `make soak` looks for bugs: another one each time.
SEED ?= $(shell date +%s)

.PHONY: run test check slow soak endure bench clean

run: $(READY)
	@$(BIN)/corral server --port $(PORT) --data-dir $(DATA)

test: $(READY)
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

slow: $(READY)
	$(BIN)/pytest -m "slow and not interop" --numprocesses $(WORKERS) --dist worksteal $(ARGS)
	$(BIN)/pytest -m interop $(ARGS)

soak: MINUTES = 60
soak: $(READY)
	$(BIN)/corral simulate --seed $(SEED) --for $(MINUTES) --jobs $$(getconf _NPROCESSORS_ONLN) --keep-going --counts $(ARGS)

endure: $(READY)
	ENSEMBLE_MINUTES=$(MINUTES) $(BIN)/pytest -s -m interop tests/interop/test_real_ensembles.py $(ARGS)

bench: $(READY)
	$(BIN)/python -m bench $(ARGS)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("corral needs Python 3.11 or newer, this is " + sys.version) if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
