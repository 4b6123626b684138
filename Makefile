# The commands of the house. `make` alone lists them.
#
# What pip and npm need on a special machine (an index, a proxy, a folder of wheels) comes from their
# own settings and variables; TORCH_INDEX names an index that has a smaller torch (see README.md).

SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# The first of these that is Python 3.11 or 3.12 with venv makes the environment.
PYTHONS := $(PYTHON) python3.11 python3.12 python3 python
export DJANGO_SETTINGS_MODULE := config.settings

.PHONY: help install demo test tour bench lint clean

help: ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## the virtual environment .venv with everything

$(STAMP): pyproject.toml constraints.txt
	@set -e; python=; \
	for name in $(PYTHONS); do \
	  if "$$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; \
	  then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "OpenLedger needs Python 3.11 or 3.12 with its venv module; name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; \
	fi; \
	test -x $(BIN)/python || "$$python" -m venv $(VENV)
	@echo "Installing into $(VENV) (a cold cache takes minutes; torch is the largest part) …"
	$(BIN)/python -m pip install -qq --upgrade pip
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install -qq --no-deps --index-url "$(TORCH_INDEX)" --constraint constraints.txt torch)
	$(BIN)/python -m pip install -qq --constraint constraints.txt '.[worker,embedded,prod,dev]'
	$(BIN)/python -m config.embedded install
	$(BIN)/python -m serving.engine.native.build
	@touch $@

demo: install ## everything up with sample data on http://localhost:8000, until Ctrl-C
	@exec $(BIN)/python -m config.embedded demo

tour: install ## the ten steps of the main job on a file: make tour FILE=path [ARGS="--format json"]
	@test -n "$(FILE)" || { echo "make tour FILE=path/to/records.jsonl" >&2; exit 2; }
	@exec $(BIN)/python -m config.embedded tour -- $(BIN)/python manage.py tour "$(FILE)" $(ARGS)

test: install ## all tests and checks, what CI runs; one part of them: ARGS="tests/ledger -k hold"
	@exec $(BIN)/python -m config.embedded services -- $(BIN)/python -m tests.house.run $(ARGS)

lint: install ## the checks alone: style, types, imports, migrations, deployment settings
	@exec $(BIN)/python -m config.embedded services -- $(BIN)/python -m tests.house.run --checks-only

bench: install ## one benchmark: make bench NAME=attribution [ARGS="--json out.json"]
	@test -n "$(NAME)" || { echo "make bench NAME=attribution" >&2; exit 2; }
	@test -e "bench/$(NAME)" -o -e "bench/$(NAME).py" || { echo "There is no benchmark bench/$(NAME) in this version." >&2; exit 2; }
	$(BIN)/python -m pip install -qq --constraint constraints.txt '.[bench]'
	@exec $(BIN)/python -m config.embedded services -- $(BIN)/python -m bench.$(NAME) $(ARGS)

clean: ## remove what the commands made here, the demo's data included
	rm -rf $(VENV) .data .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -not -path './node_modules/*' -prune -exec rm -rf {} +
