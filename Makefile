.DEFAULT_GOAL := help
.PHONY: help dev test lint types suite coverage format openapi bench

# uv makes the environment from the lock file. Where it is not installed, it is put into .uv.
# The redirection makes make ask a shell: older ones look for a program called "command".
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
RUN := .venv/bin/

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

dev: $(UV) ## set up, and serve on http://127.0.0.1:8000 from taskwell.db; ARGS go to taskwell dev
	@echo 'Installing the dependencies from uv.lock into .venv (the first time, this downloads about 25 MB) ...'
	@$(UV) sync --locked --no-dev --inexact
	@echo 'Starting the service ...'
	@exec $(RUN)taskwell dev $(ARGS)

test: lint types suite ## set up, and run every check there is

lint: .venv ## formatting, lint, import rules
	$(RUN)ruff format --check .
	$(RUN)ruff check .
	$(RUN)lint-imports --config pyproject.toml

types: .venv ## mypy and pyright, both strict
	$(RUN)mypy
	$(RUN)basedpyright

suite: .venv ## the tests, on SQLite and on PostgreSQL; ARGS go to pytest
	$(RUN)pytest $(ARGS)

coverage: .venv ## the tests, and the code they run: it fails below 97 %, and below 100 % of auth/
	$(RUN)coverage erase
	$(RUN)coverage run -m pytest $(ARGS)
	$(RUN)coverage combine --quiet
	$(RUN)coverage report
	$(RUN)coverage report --include '*/taskwell/auth/*' --fail-under 100

format: .venv ## put the code into its form
	$(RUN)ruff format .
	$(RUN)ruff check --fix .

openapi: .venv ## write the OpenAPI document to docs/openapi.json
	$(RUN)taskwell openapi --output docs/openapi.json

bench: $(UV) ## measure beside three peers, with ARGS; BENCH=scale or BENCH=levels measures the rest
	@$(UV) sync --locked --quiet --group bench --inexact
	@PYTHONPATH=tests $(RUN)python bench/$(or $(BENCH),table).py $(ARGS)

.PHONY: .venv
.venv: $(UV)
	@$(UV) sync --locked --quiet

.uv/bin/uv:
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Taskwell needs Python 3.11 or newer")'
	@echo 'Installing uv into .uv ...'
	@python3 -m venv .uv
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check uv
