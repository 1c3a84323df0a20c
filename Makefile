# make demo    pre-train a small model on the photos that come with mimray (about 3 minutes)
# make test    the tests (at most 8 minutes on 2 cores)
# make check   lint, types, floors          make faults   tests that kill processes
# make slow    every combination of parts, of which `make test` tries a part, and what takes long
# make lab     tests on hosts of network namespaces (needs root)
# make bench   benchmarks                   make ui       MLflow's comparison pages
# make audit   known vulnerabilities of the locked packages
# make setup   .venv from requirements.lock; the others call it as needed

PYTHON ?= python3
BIN := .venv/bin
# uv from the machine, or from a venv of its own: never into the system's Python.
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
# Not imported by a run; compiling them would take as long as the rest.
RARELY := /tests?/|/testing/|ray/(rllib|llm|serve)/|sklearn|skimage|torch/(onnx|ao)/|mlflow/genai|faker
# Benchmarks of five minutes to two hours, which train models to the end.
LONG := benchmarks/recognition.py benchmarks/sweep.py benchmarks/study.py

.PHONY: setup demo test check slow some-slow faults some-faults lab some-lab audit bench ui lock clean
.DEFAULT_GOAL := demo

setup: .venv/ready

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv

.venv/ready: requirements.lock pyproject.toml | $(filter .uv/bin/uv,$(UV))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mimray needs Python 3.11 or newer: make PYTHON=python3.12")'
	@echo "installing the locked packages into .venv"
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	@$(UV) pip install --quiet --python $(BIN)/python -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@echo "compiling them, for a run starts a dozen processes"
	-@$(BIN)/python -m compileall -q -j 0 -x "$(RARELY)" $$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path(\"purelib\"))") >/dev/null 2>&1
	@cp requirements.lock $@

demo: setup
	@$(BIN)/mimray demo

test: setup
	$(BIN)/python -m pytest -m unit -n 2 --dist loadfile
	$(BIN)/python -m pytest -m ray

slow: setup
	$(BIN)/python -m pytest -m slow -n 2

# Without those of several minutes each: what .ci/run has time for.
some-slow: setup
	$(BIN)/python -m pytest -m "slow and not long" -n 2

faults: setup
	$(BIN)/python -m pytest -m faults

# Faults at fewer moments: what .ci/run has time for.
some-faults: setup
	$(BIN)/python -m pytest -m "faults and not long"

lab: setup
	$(BIN)/python -m pytest -m lab

# On the same hosts without the cut: what .ci/run has time for.
some-lab: setup
	$(BIN)/python -m pytest -m "lab and not long"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: setup | $(filter .uv/bin/uv,$(UV))
	@$(BIN)/python .ci/audit.py $(UV)

bench: setup
	@for file in $(filter-out $(LONG),$(wildcard benchmarks/[a-z]*.py)); do $(BIN)/python -m benchmarks.$$(basename $$file .py) --json || exit 1; done

ui: setup
	@$(BIN)/mimray ui

lock: | $(filter .uv/bin/uv,$(UV))
	$(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 --extra dev --extra optuna --extra server --no-header --no-annotate --output-file requirements.lock

clean:
	rm -rf .venv .uv
