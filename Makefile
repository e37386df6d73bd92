# Two commands matter: `make demo` and `make test`. Both need nothing but Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: setup demo test test-all check wheel bench bench-all clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

demo: setup
	$(BIN)/twofold demo

test: check
	$(BIN)/pytest -n 2 -m "not slow"

test-all: check
	$(BIN)/pytest -n 2

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

wheel: setup
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

bench: setup
	for method in cyclegan cut pix2pix; do $(BIN)/python benchmarks/train_step.py --method $$method; done

bench-all: bench
	$(BIN)/python benchmarks/train_step.py --size 256
	$(BIN)/python benchmarks/train_step.py --size 256 --method pix2pix
	$(BIN)/python benchmarks/train_step.py --size 256 --memory
	$(BIN)/python benchmarks/train_step.py --size 256 --memory --checkpoint
	$(BIN)/python benchmarks/translate.py
	$(BIN)/python benchmarks/startup.py

clean:
	rm -rf .venv dist build .pytest_cache .ruff_cache .hypothesis demo
