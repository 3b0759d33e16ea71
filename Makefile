# Everything a newcomer types. Each target creates what it needs in .venv.
.PHONY: help demo test lint docs format clean
VENV ?= .venv
PYTHON ?= python3
PY := $(VENV)/bin/python
SOURCES := Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name 'Cargo.toml')

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(VENV)/.deps: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	$(VENV)/bin/uv pip install --quiet --python $(PY) -r pyproject.toml --group dev
	touch $@

$(VENV)/.built: $(VENV)/.deps $(SOURCES)
	VIRTUAL_ENV=$(abspath $(VENV)) $(VENV)/bin/maturin develop --release --uv --quiet
	touch $@

demo: $(VENV)/.built ## the bundled example: four risk components, nothing to download
	$(VENV)/bin/ssl-risk-rs demo

test: $(VENV)/.built ## every test, Rust and Python
	cargo test --workspace --release --quiet
	$(PY) -m pytest

lint: $(VENV)/.built ## formatting, clippy, ruff, mypy, stubtest
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(VENV)/bin/ruff check python tests bench scripts
	$(VENV)/bin/ruff format --check python tests bench scripts
	$(VENV)/bin/mypy
	$(VENV)/bin/stubtest ssl_risk_rs._core

docs: $(VENV)/.built ## pages made from the code
	$(PY) scripts/cli_reference.py

bench: $(VENV)/.built ## quick run of the benchmarks beside other libraries; sizes: bench/run.py --help
	$(VENV)/bin/uv pip install --quiet --python $(PY) --group bench
	$(PY) bench/run.py --size smoke

format: $(VENV)/.deps ## rewrite the sources in the house format
	cargo fmt --all
	$(VENV)/bin/ruff check --fix python tests bench scripts
	$(VENV)/bin/ruff format python tests bench scripts

clean: ## remove what was built
	rm -rf target $(VENV)
