# Everything a newcomer types. Each target creates what it needs in .venv.
.PHONY: help demo test test-fast test-ray test-oldest test-newest lint docs bench wheel wheel-test portable deny hooks format clean
VENV ?= .venv
PYTHON ?= python3
PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv
SOURCES := Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name 'Cargo.toml')
LINTED := python tests bench scripts
# the oldest Python of pyproject.toml, where pyenv or the path has it
OLDEST_PYTHON ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.10.*/bin/python) python3.10)
JOBS ?= 2
NEWEST_PYTHON ?= $(PYTHON)
# torch and timm at their oldest are gigabytes: named here, they are left out, and the tests that need them are skipped
OLDEST_WITHOUT ?= torch torchvision timm

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(VENV)/.deps: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	$(UV) pip install --quiet --python $(PY) -r pyproject.toml --group dev
	touch $@

$(VENV)/.built: $(VENV)/.deps $(SOURCES)
	VIRTUAL_ENV=$(abspath $(VENV)) $(VENV)/bin/maturin develop --release --uv --quiet
	touch $@

$(VENV)/.bench: $(VENV)/.deps
	$(UV) pip install --quiet --python $(PY) --group bench
	touch $@

demo: $(VENV)/.built ## the bundled example: four risk components, nothing to download
	$(VENV)/bin/ssl-risk-rs demo

# one thread of OpenMP for each process: several wait for each other in turns, and take a third longer
test: $(VENV)/.built ## every test, Rust and Python; files of Python tests side by side, two at a time (JOBS=n)
	cargo test --workspace --release --quiet
	OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses $(JOBS) --dist loadfile

test-fast: $(VENV)/.built ## the Python tests that take no longer than a third of a second: about a minute
	$(PY) -m pytest -m "not slow"

test-ray: $(VENV)/.built ## the tests on a cluster of three Ray nodes in this machine: installs ray (251 MB), three minutes
	$(UV) pip install --quiet --python $(PY) -r pyproject.toml --extra ray
	$(PY) -m pytest tests/workflow/test_ray.py

test-oldest: $(VENV)/.built ## Python tests with the oldest Python and dependencies that pyproject.toml allows
	PYTHON_OF=$(OLDEST_PYTHON) WITHOUT="$(OLDEST_WITHOUT)" UV=$(abspath $(UV)) scripts/test_bounds.sh oldest .venv-oldest

test-newest: $(VENV)/.built ## Python tests with the newest dependencies that pyproject.toml allows
	PYTHON_OF=$(NEWEST_PYTHON) UV=$(abspath $(UV)) scripts/test_bounds.sh newest .venv-newest

lint: $(VENV)/.built ## formatting, clippy with the oldest Rust's library, ruff, mypy, stubtest
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(VENV)/bin/ruff check $(LINTED)
	$(VENV)/bin/ruff format --check $(LINTED)
	$(VENV)/bin/mypy
	$(VENV)/bin/stubtest ssl_risk_rs._core

docs: $(VENV)/.built ## the command reference, and all pages with the Python API as a site in site/
	$(PY) scripts/cli_reference.py
	$(PY) scripts/site.py

bench: $(VENV)/.built $(VENV)/.bench ## quick run of the benchmarks beside other libraries; sizes: bench/run.py --help
	$(PY) bench/run.py --size smoke

wheel: $(VENV)/.deps ## a wheel for Python 3.10 and newer (abi3) in dist/
	rm -rf dist
	$(VENV)/bin/maturin build --release --locked --quiet --out dist
	$(VENV)/bin/maturin sdist --out dist

wheel-test: wheel ## install that wheel into an empty environment and run the demo and a decomposition there
	UV=$(abspath $(UV)) PYTHON_OF=$(PYTHON) scripts/test_wheel.sh dist/*.whl

portable: ## the Rust core as a CPU without kernels of its own sees it: check and test without the x86 kernels
	scripts/test_portable.sh

deny: ## licences, sources and duplicates of the crates (needs `cargo install --locked cargo-deny`)
	cargo fetch --locked --quiet
	cargo deny --offline check licenses bans sources

hooks: $(VENV)/.deps ## run the quick linters before each commit
	$(VENV)/bin/pre-commit install --hook-type pre-commit --hook-type commit-msg

format: $(VENV)/.deps ## rewrite the sources in the house format
	cargo fmt --all
	$(VENV)/bin/ruff check --fix $(LINTED)
	$(VENV)/bin/ruff format $(LINTED)

clean: ## remove what was built
	rm -rf target dist $(VENV) .venv-oldest .venv-newest
