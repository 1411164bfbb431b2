# `make` or `make help` lists what can be done here. Variables are set as in `make train CONFIG=configs/debug.py`.

CONFIG  ?= configs/tabletop.py
ARGS    ?=
# Where `make data` writes. The configs read data/: name another folder to them too, by ARGS.
DATA    ?= data

# The machine's Python for the environment: the lock file was made for 3.11.
PYTHON  ?= $(shell command -v python3.11 || command -v python3)
VENV    ?= .venv

config_file := $(firstword $(subst :, ,$(CONFIG)))
WORKDIR ?= runs/$(basename $(notdir $(config_file)))
BUNDLE  ?= $(WORKDIR)/bundle

bin       := $(VENV)/bin
installed := $(VENV)/.installed
collected := $(DATA)/collect.json

# The configs that train on the embedded tabletop, whose data `make data` collects.
tabletop_configs := configs/debug.py configs/tabletop.py
train_data       := $(if $(filter $(tabletop_configs),$(config_file)),$(collected))
evaluate          = $(bin)/python -m rt2.evaluate --checkpoint=$(WORKDIR) \
                      --report=$(WORKDIR)/report.html --json=$(WORKDIR)/evaluation.json

# Tests: 8 virtual devices on few cores deadlock in collectives with fewer threads than devices.
TEST_ENV := NPROC=16 JAX_PLATFORMS=cpu JAX_COMPILATION_CACHE_DIR=$(CURDIR)/.cache/jax

.DEFAULT_GOAL := help
.PHONY: help install data train eval serve export plan inspect test lint faults parity lock clean

help: ## list the targets (the default)
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "Variables: CONFIG=$(CONFIG) WORKDIR=$(WORKDIR) DATA=$(DATA) ARGS=\"$(ARGS)\" (more flags for the command)"

install: $(installed) ## make .venv with the locked packages and this one
$(installed): setup.py requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(bin)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(bin)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

data: $(collected) ## collect the tabletop's robot episodes and image-text shards into DATA
$(collected): | $(installed)
	$(bin)/python -m rt2.sim.collect --out=$(DATA)

train: $(installed) $(train_data) ## train CONFIG in WORKDIR (environment and data first), then evaluate and write the report
	$(bin)/python -m rt2.train --config=$(CONFIG) --workdir=$(WORKDIR) $(ARGS)
	$(evaluate)

eval: $(installed) ## evaluate the checkpoint in WORKDIR and write WORKDIR/report.html
	$(evaluate) $(ARGS)

serve: $(installed) ## serve the checkpoint in WORKDIR to robots, on loopback (ARGS=--ui: a page to try it in)
	$(bin)/python -m rt2.inference.serve --checkpoint=$(WORKDIR) $(ARGS)

export: $(installed) ## export the checkpoint in WORKDIR to BUNDLE, which runs without this package
	$(bin)/python -m rt2.inference.export --checkpoint=$(WORKDIR) --out=$(BUNDLE) $(ARGS)

plan: $(installed) ## what CONFIG needs on an accelerator slice (ARGS="--topology=v4:4x4x4")
	$(bin)/python -m rt2.plan --config=$(CONFIG) $(ARGS)

inspect: $(installed) ## show what a data set holds (ARGS=DIR)
	$(bin)/python -m rt2.data.inspect $(if $(ARGS),$(ARGS),$(DATA)/tabletop/1.0.0)

test: $(installed) ## run the tests on the CPU
	$(TEST_ENV) $(bin)/python -m pytest -q $(ARGS)

lint: $(installed) ## check style and formatting
	$(bin)/ruff check .
	$(bin)/ruff format --check .

faults: $(installed) ## run the long fault tests
	$(TEST_ENV) $(bin)/python -m pytest -q -m faults $(ARGS)

parity: $(installed) ## compare imported weights with transformers (RECORD=1 keeps its outputs)
	@$(bin)/python -c "import torch, transformers" || \
	  { echo "first: $(bin)/pip install -e '.[oracle]'"; exit 1; }
	$(TEST_ENV) RECORD=$(RECORD) $(bin)/python -m pytest -q -m oracle $(ARGS)

# The hashes must be those of the public registry: no setting of this machine takes part.
lock: $(installed) ## write requirements.lock anew from setup.py, with hashes
	env -u PIP_FIND_LINKS PIP_CONFIG_FILE=/dev/null CUSTOM_COMPILE_COMMAND="make lock" \
	  $(bin)/pip-compile --quiet --generate-hashes --no-emit-options --strip-extras --allow-unsafe \
	  --extra=data,serve,sim,dev --output-file=requirements.lock setup.py $(ARGS)

clean: ## remove build outputs and caches (not .venv, DATA or runs)
	rm -rf build dist *.egg-info .cache .pytest_cache .ruff_cache .hypothesis
	find rt2 tests configs experiments -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
