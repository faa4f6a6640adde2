# Each target sets up what it needs in .venv and node_modules first; unchanged, that costs nothing.

PYTHON ?= python3
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Packages are installed without byte code, so it must be kept when a module is first used.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
VENV := .venv/.installed
NODE_MODULES := node_modules/.installed

# What some targets hand on; empty ones are left out.
option = $(if $(strip $($(1))),$(2) '$(strip $($(1)))')

.PHONY: help demo local test test-long check sim sim-mutants kills hostile bench pictures pins first-contact deploy accept need-python need-node

help: ## Say what there is
	@echo "make <target>:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "PYTHON=... names another Python (3.11 or later) than python3; Node.js 20 or later with npm is needed too."

demo: need-python need-node $(VENV) $(NODE_MODULES) ## Play the story on the local cloud; TRACE=file.csv[.gz] SPEED=n [START=h HOURS=h] replays a market
	@$(BIN)/python -m localcloud.demo $(call option,TRACE,--trace) $(call option,SPEED,--speed) \
	  $(call option,START,--start) $(call option,HOURS,--hours) $(ARGS)

local: need-python need-node $(VENV) $(NODE_MODULES) ## Run the local cloud until Ctrl-C; [PORT=n MARKET_PORT=n NAME=x TICK_SECONDS=s]
	@$(BIN)/python -m localcloud $(call option,PORT,--port) $(call option,MARKET_PORT,--market-port) \
	  $(call option,NAME,--name) $(call option,TICK_SECONDS,--tick-seconds) $(ARGS)

test: need-python need-node $(VENV) $(NODE_MODULES) ## What must pass before a commit; ARGS="-k word" picks
	@$(BIN)/python -m pytest -m "not long" $(ARGS)

test-long: need-python need-node $(VENV) $(NODE_MODULES) ## The longer whole-path stories: workloads, faults, rights, poison, kills
	@$(BIN)/python -m pytest -m long $(ARGS)

check: need-python $(VENV) ## Format, lint, types, house rules and links; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .
	$(BIN)/python -m pip check
	$(BIN)/python -m pytest tests/test_house_rules.py tests/unit/test_links.py

sim: need-python $(VENV) ## Attack the promises in simulated time; [SEEDS=n FIRST_SEED=n: a fresh one each time]
	@$(BIN)/python -m tests.sim $(call option,SEEDS,--seeds) $(call option,FIRST_SEED,--first-seed) $(ARGS)

sim-mutants: need-python $(VENV) ## Put each deliberate defect in and see the simulation catch it
	@$(BIN)/python -m tests.sim.mutants $(ARGS)

kills: need-python need-node $(VENV) $(NODE_MODULES) ## Kill functions at drawn calls on the local cloud; [KILLS=n SEED=n: a fresh one each time]
	@KILLS='$(strip $(KILLS))' SEED='$(strip $(SEED))' $(BIN)/python -m pytest -s tests/e2e/test_kills.py $(ARGS)

hostile: need-python $(VENV) ## Send something hostile to every input there is; [INPUTS=n SEED=n: a fresh one each time]
	@$(BIN)/python -m tests.hostile $(call option,INPUTS,--inputs) $(call option,SEED,--seed) $(ARGS)

bench: need-python $(VENV) ## Time the spotpools command for many pools; ARGS="--pools 200"
	@$(BIN)/python -m tests.bench $(ARGS)

pictures: need-python need-node $(VENV) $(NODE_MODULES) ## Draw docs/pictures anew: the command's on pools in many states, the demo's by playing it
	@$(BIN)/python -m docs.make.pictures
	@$(BIN)/python -m localcloud.demo --pictures docs/pictures

pins: need-python $(VENV) ## Write the hashes of the pinned packages anew, after a version in a requirements file was changed
	@$(PIP) install --quiet uv==0.13.9
	@$(BIN)/python -m tests.support.pins

first-contact: need-python need-node ## Time the first minutes of somebody new, in a fresh clone
	@$(PYTHON) -m tests.support.first_contact $(ARGS)

deploy: need-python need-node $(VENV) $(NODE_MODULES) ## Deploy to your AWS account; ARGS="-c key=value" chooses
	@$(BIN)/python -m infra.deploy $(ARGS)

accept: need-python need-node $(VENV) $(NODE_MODULES) ## Check on your AWS account what only AWS can show; [BUDGET=usd MOST=n MINUTES=n STACK=x PROFILE=x]
	@$(BIN)/python -m acceptance $(call option,BUDGET,--budget) $(call option,MOST,--most-instances) \
	  $(call option,MINUTES,--minutes) $(call option,STACK,--stack) $(call option,PROFILE,--profile) $(ARGS)

need-python:
	@command -v $(PYTHON) >/dev/null || { echo "Spot Pools needs Python 3.11 or later, and $(PYTHON) was not found; PYTHON=... names another." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Spot Pools needs Python 3.11 or later, and $(PYTHON) is $$($(PYTHON) -V 2>&1); PYTHON=... names another." >&2; exit 1; }

need-node:
	@command -v node >/dev/null || { echo "Spot Pools needs Node.js 20 or later for the CDK, and node was not found." >&2; exit 1; }
	@node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' || { echo "Spot Pools needs Node.js 20 or later for the CDK, and node is $$(node --version)." >&2; exit 1; }
	@command -v npm >/dev/null || { echo "Spot Pools needs npm, which comes with Node.js, and npm was not found." >&2; exit 1; }

# The pins are a closure, so pip need not resolve (--no-deps), and each is one of the files whose hash stands below it;
# byte code is made as modules are used (--no-compile).
$(VENV): requirements.txt lambdas/requirements.txt pyproject.toml | need-python
	@echo "Installing $$(cat requirements.txt lambdas/requirements.txt | grep -c ==) Python packages into .venv (about 40 s)"
	@$(PYTHON) -m venv .venv || { echo "python3 -m venv failed; on Debian and Ubuntu it is the package python3-venv." >&2; exit 1; }
	@$(PIP) install --require-hashes --no-deps --no-compile -r requirements.txt 2>.venv/pip.log | while read -r word name _; do \
	  if [ -t 1 ] && [ "$$word" = Collecting ]; then printf '\r\033[K  %s' "$$name"; fi; done \
	  || { cat .venv/pip.log >&2; exit 1; }
	@if [ -t 1 ]; then printf '\r\033[K'; fi
	@$(PIP) install --quiet --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(NODE_MODULES): package.json package-lock.json | need-node
	@echo "Installing the CDK command line into node_modules, and what the tests need of npm"
	@npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
