# Two commands on a fresh machine with Python 3.11 (or 3.12) and make: `make run` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Most tests wait for processes that they started, so two workers finish in less than half of the time. A file stays whole.
AT_ONCE ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: run test test-all check lock docs clean setup

run: $(READY)  ## put the sample data into the lake and run the sample spec
	@$(BIN)/engine quickstart
	@$(BIN)/engine run specs/model.yaml

test: $(READY)  ## every test that is not slow
	$(BIN)/python -m pytest -q $(AT_ONCE)

test-all: $(READY)  ## every test
	$(BIN)/python -m pytest -q $(AT_ONCE) -m "slow or not slow"

check: $(READY)  ## lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(READY)

# The stamp is written last, so an interrupted set-up is done again. What is installed comes from the lock alone.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 12) else "Engine needs Python 3.11 or 3.12: make PYTHON=/path/to/python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing from requirements.lock (once; a minute or two)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-warn-script-location --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

lock:  ## resolve pyproject.toml anew (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-annotate --custom-compile-command "make lock" --all-extras pyproject.toml -o requirements.lock

docs: $(READY)  ## docs/rules.md from the table of rules
	@mkdir -p docs
	$(BIN)/python -m engine.report.problems.rules > docs/rules.md

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
