# Two verbs for a fresh clone: `make demo` and `make test`. Each sets up its own virtual environment.
PYTHON ?= python3
# What is served under this version: CUDA or CPU, see README.
TORCH ?= torch==2.13.0
BIN := .venv/bin

.PHONY: demo test lint package docs bench fuzz soak clean

demo: .venv/installed
	$(BIN)/patchct demo --out demo

test: .venv/installed lint
	$(BIN)/pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/vocabulary.py
	$(BIN)/vermin --quiet --no-tips --target=3.10- --violations patchct_edge
	$(BIN)/mypy
	$(BIN)/lint-imports

# The wheel in a fresh environment, and wheels of every dependency for Python 3.10 on both machines.
package: .venv/installed
	$(BIN)/pytest -m network tests/packaging

# The documentation as a site, in the folder `site`; warnings are errors.
docs: .venv/installed
	$(BIN)/python scripts/write_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Measure how fast this CPU tags, with a random model, or with yours: ARGS="RUN X.patchct PHOTOS".
bench: .venv/installed
	$(BIN)/python benchmarks/cpu.py $(ARGS)

fuzz: .venv/installed
	$(BIN)/python tests/support/fuzzing.py --minutes 10

# Torch first and exactly: the other packages would ask for any version of it.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# A stream of 100,000 frames: nothing may grow, every frame is accounted for.
soak: .venv/installed
	PATCHCT_SOAK_FRAMES=100000 $(BIN)/pytest tests/runtime/stream/test_soak.py

clean:
	rm -rf .venv demo bench
