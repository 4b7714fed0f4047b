# The two commands of README.md are `make demo` and `make test`; `make help` lists the others.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
EXTRAS ?= dev,poselib,city,gis,train,onnx
# More options for pip, for example another source of torch.
PIP_FLAGS ?=
OUTPUTS ?= outputs/demo
TEST_WORKERS ?= 2
PYTEST_FLAGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Two threads per test worker would compete for the same cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) $(PYTEST_FLAGS)
# The files whose coverage is required, as coverage wants them: separated by commas.
COVERED := hloc_ext/formats/*,hloc_ext/extract_features.py,hloc_ext/match_*.py,hloc_ext/pairs_from_*.py
COVERED := $(COVERED),hloc_ext/reconstruction.py,hloc_ext/triangulation.py,hloc_ext/localize_sfm.py

.DEFAULT_GOAL := help
.PHONY: help env test test-all coverage lint demo clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(STAMP) ## Create the environment in .venv (again only when the requirements change)

# imcui is the HLOC host of the tests. Its requirements contradict each other and ours: --no-deps.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed: make env PYTHON=/path/to/python3.11' >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_FLAGS) --constraint constraints.txt --editable '.[$(EXTRAS)]'
	$(BIN)/python -m pip install $(PIP_FLAGS) --constraint constraints.txt --no-deps imcui
	touch $@

test: env ## Run the tests (minutes)
	$(PYTEST)

test-all: env ## Run the tests with the slow ones
	$(PYTEST) -m "slow or not slow"

coverage: env ## Run the tests; fail if formats and stages are covered less than 90 %
	$(PYTEST) --cov --cov-report=
	$(BIN)/python -m coverage report
	$(BIN)/python -m coverage report --include='$(COVERED)' --fail-under=90

lint: env ## Check style, formatting and types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy hloc_ext pipelines benchmarks

ifdef DATASET
demo: env
	$(BIN)/python -m pipelines.photos --images '$(DATASET)' --outputs '$(OUTPUTS)' --query_every 5
else
demo: env ## Run the main job on a procedural city, or on your photos: make demo DATASET=<photos>
	$(BIN)/python -m pipelines.demo --outputs '$(OUTPUTS)'
endif

clean: ## Remove the environment, caches and build products; outputs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis htmlcov .coverage .coverage.*
	find hloc_ext pipelines benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +
