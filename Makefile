# `make` lists the targets. Everything is installed into .venv, once, and again when pyproject.toml changes.

PYTHON ?= python3
IMAGE ?= headstart:dev
BASE_IMAGE ?= python:3.11-slim
VARIANT ?= cpu
FASHION ?= /usr/share/datasets/fashion-mnist
UNPACKED ?= /

BIN := .venv/bin
DEV := .venv/.installed-dev
DEMO := .venv/.installed-demo
BENCH := .venv/.installed-bench
# A virtual environment with the oldest packages.
OLDEST := build/oldest
# Of its own: what it brings makes every process that imports kfp take 1.2 s longer.
SBOM := build/sbom/.installed

# Where it is set, as it often is in containers, each of the tests' many processes compiles the library anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-oldest test-families test-services test-cluster bench-tracking bench-compare bench-training bench-growth bench-data bench-large bench-stream bench-engine bench-null bench-evidence bench-scores bench-selection bench-serving lint types format docs constraints image image-push sbom clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(DEV) ## make .venv with the project and its development tools

demo: $(DEMO) ## transfer from MNIST to scikit-learn's digits; ends with the leaderboard
	$(BIN)/headstart demo --workspace demo/workspace

# One process a core: more threads than cores make the small networks of the tests slower, not faster.
test: $(DEV) ## run the tests that need nothing but Python packages
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not services and not slow and not families' -n auto --dist worksteal

test-slow: $(DEV) ## run the tests that take minutes: recipes end to end, families of faults
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'slow and not services' -n auto --dist loadfile

# MLflow imports SQLAlchemy 2.1 from 3.17 on. PyPI's old builds of torch for Linux are those for CUDA, 5 GB with what they need.
test-oldest: ## run the tests of `make test` with the oldest packages that pyproject.toml admits
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/pip install --quiet uv
	$(OLDEST)/bin/uv pip install --python $(OLDEST) --resolution lowest-direct --editable '.[dev]' 'sqlalchemy~=2.0.40'
	OMP_NUM_THREADS=1 PYTHONPATH=. $(OLDEST)/bin/pytest -m 'not services and not slow and not families' -n auto --dist worksteal

test-families: $(DEV) ## run the stages of every family of timm and torchvision, for hours
	OMP_NUM_THREADS=1 $(BIN)/pytest -m families

# As root on Debian: docker-compose, postgresql and chromium must be installed; .ci/run does that. Two processes, since
# each waits for servers half of its time.
test-services: $(DEV) $(SBOM) ## run the tests that need PostgreSQL, SeaweedFS, Docker or Chromium; IMAGE is the image under test
	OMP_NUM_THREADS=1 HEADSTART_TEST_IMAGE=$(IMAGE) $(BIN)/pytest -m services -n 2 --dist loadfile

# IMAGE and MLFLOW_IMAGE, where they are given, are those of a registry; otherwise both are built and loaded into kind.
test-cluster: $(DEV) ## go all local steps of infra/README.md on the cluster of KUBECONFIG, and back; skipped without one
	$(BIN)/python -m tests.cluster $(if $(filter-out file,$(origin IMAGE)),--image $(IMAGE)) $(if $(MLFLOW_IMAGE),--mlflow-image $(MLFLOW_IMAGE))

bench-tracking: $(DEV) ## measure what logging costs a training
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.tracking

bench-compare: $(DEV) ## measure the leaderboard of 200 runs, read from a server on PostgreSQL
	$(BIN)/python -m benchmarks.compare

bench-engine: $(DEV) ## measure what the training engine costs beside a bare loop, in time and in memory
	$(BIN)/python -m benchmarks.engine

bench-training: $(DEV) ## measure training against what an expert would write for the case: 15 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.training

bench-growth: $(DEV) ## measure every step with more pictures and more classes, cell by cell: 10 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.growth

bench-data: $(BENCH) ## measure preparing and loading pictures against an expert's loader and torchvision: 13 minutes
	OMP_NUM_THREADS=$(shell nproc) $(BIN)/python -m benchmarks.data

bench-large: $(DEV) ## measure joining the parts of two million samples in time and memory: 10 minutes, and 5 again
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.large

bench-stream: $(DEV) ## measure training on samples streamed from S3 beside reading them from the disk: 5 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.streaming

bench-null: $(DEV) ## measure how often a source of random weights is said to help or to hurt: 17 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.null_effect --output benchmarks/results/null_effect.json

bench-evidence: $(DEV) ## judge pairs of domains, label budgets and seeds, cell by cell; UNPACKED is a folder of two Debian packages' files
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.evidence --unpacked $(UNPACKED) --workspace build/evidence --output benchmarks/results/evidence.json

bench-scores: $(DEV) ## measure which score of a ranking picks the best source, over a panel of targets, with 2, 5 and 20 labels: 20 minutes; UNPACKED as for bench-evidence
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.scores --unpacked $(UNPACKED) --workspace build/evidence --output benchmarks/results/scores.json

bench-selection: $(DEV) ## measure which of three sources is chosen, how well, and what choosing costs; FASHION is Fashion-MNIST's folder
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.selection --fashion $(FASHION)

bench-serving: $(DEV) ## measure how many pictures a second headstart serve and mlflow models serve answer
	$(BIN)/python -m benchmarks.serving

lint: $(DEV) ## check format and style
	$(BIN)/ruff format --check
	$(BIN)/ruff check

# mypy finds modules by the names of folders, so two floors need links that bear their packages' names.
types: $(DEV) ## check the types
	mkdir -p build/floors
	ln -sfn ../../components build/floors/headstart_components
	ln -sfn ../../pipelines build/floors/headstart_pipelines
	MYPYPATH=build/floors $(BIN)/mypy

format: $(DEV) ## format, and mend what can be mended
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(DEV) ## build the documentation's site into build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

constraints: $(DEV) ## resolve the images' versions anew and lock them to their digests
	$(BIN)/python infra/image/constraints.py

image: ## build the image IMAGE on BASE_IMAGE with Docker, VARIANT=cpu or cuda; prints its digest
	PYTHON=$(PYTHON) infra/image/build.sh $(IMAGE) --build-arg BASE_IMAGE=$(BASE_IMAGE) --build-arg VARIANT=$(VARIANT)

image-push: ## push IMAGE to REGISTRY, for example ghcr.io/you; prints the digest that `headstart submit` takes
	infra/image/push.sh $(IMAGE) $(REGISTRY)

sbom: $(SBOM) ## write what IMAGE holds into build/sbom.json, as CycloneDX
	build/sbom/bin/python infra/image/sbom.py $(IMAGE) build/sbom.json

clean: ## remove everything that was made here, except .venv
	rm -rf demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "headstart needs Python 3.11 or newer; set PYTHON=… ('$(PYTHON)' is $$($(PYTHON) --version 2>&1))" >&2; exit 1; }
	$(PYTHON) -m venv .venv

$(DEMO): pyproject.toml | $(BIN)/python
	$(TORCH_FOR_CPU)
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

# PyPI's wheels for Linux bring gigabytes of CUDA; without a GPU, PyTorch's own index has smaller ones. Where it cannot be
# reached, pip takes what it finds.
TORCH_FOR_CPU = $(if $(filter Linux,$(shell uname -s)),$(if $(shell command -v nvidia-smi),,-$(BIN)/python -m pip install --quiet \
  --retries 0 --extra-index-url https://download.pytorch.org/whl/cpu torch torchvision))

# The development tools include what the demo needs.
$(DEV): pyproject.toml | $(BIN)/python
	$(TORCH_FOR_CPU)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(DEMO) $@

$(BENCH): $(DEV)
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

$(SBOM): | $(BIN)/python
	$(BIN)/python -m venv build/sbom
	build/sbom/bin/python -m pip install --quiet 'cyclonedx-bom>=7,<8'
	@touch $@
