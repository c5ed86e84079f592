# Both commands need Python 3.11 or later and make, nothing else; everything is installed into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo check test lint install lock

## Train DPPO on the catch-up platoon, compare it with classical controllers, draw what it does.
demo: $(INSTALLED)
	rm -rf runs/demo
	$(BIN)/dmpo train dppo_cacc_catchup --output runs/demo

## Lint, check types, run the tests that need under a second each; one that needs more fails (tests/durations.py).
check: $(INSTALLED) lint
	$(BIN)/pytest -n 2 -m "not slow" --limit

## Lint, check types, run all tests.
test: $(INSTALLED) lint
	$(BIN)/pytest -n 2

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(INSTALLED)

$(INSTALLED): setup.cfg setup.py pyproject.toml requirements.lock $(wildcard dmpo/nn/kernels/*.cpp dmpo/nn/kernels/*.h envs/sumo/*.cpp)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

## Make requirements.lock anew with the newest versions that work together.
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet pip-tools
	.venv-lock/bin/pip-compile --quiet --upgrade --extra test --strip-extras --allow-unsafe --no-header \
		--no-emit-find-links --no-emit-index-url --no-emit-trusted-host --output-file requirements.lock setup.cfg
	rm -rf .venv-lock
