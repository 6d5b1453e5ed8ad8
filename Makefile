.DEFAULT_GOAL := help
.PHONY: help dev test quick lint types suite coverage format openapi docs client example audit sbom bench

# Each Python version that is asked for by PYTHON has an environment of its own beside .venv.
PYTHON :=
VENV := .venv$(addprefix -,$(PYTHON))
RUN := $(VENV)/bin/

# uv creates the environment from the lock file. If it is not installed, it is installed into .uv.
# Without the redirection, old versions of make run "command" as a program, which does not exist.
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
# uv looks for Python on PATH. pyenv's programs on PATH only start the version that PYENV_VERSION names.
PYENV := $(if $(PYTHON),$(shell pyenv latest $(PYTHON) 2>/dev/null))
SYNC := UV_PROJECT_ENVIRONMENT=$(VENV) $(if $(PYENV),PYENV_VERSION=$(PYENV)) \
	$(UV) sync --locked --quiet $(if $(PYTHON),--python $(PYTHON))

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  PYTHON=3.13 runs a command on that version, in its own environment. ARGS go to the program that it runs."

dev: $(UV) ## set up, and serve on http://127.0.0.1:8000 from taskwell.db; ARGS go to taskwell dev
	@echo 'Installing the dependencies from uv.lock into $(VENV) (the first time, this downloads about 25 MB) ...'
	@$(SYNC) --no-dev --inexact
	@echo 'Starting the service ...'
	@exec $(RUN)taskwell dev $(ARGS)

test: lint types suite ## set up, and run every check

quick: lint types ## set up, and run lint, types and the fast tests on SQLite, in less than a minute
	PYTHONPATH=tests $(RUN)pytest -p support.quick -rfE $(ARGS)

lint: $(VENV) ## check formatting, lint and import rules
	$(RUN)ruff format --check .
	$(RUN)ruff check .
	$(RUN)lint-imports --config pyproject.toml

types: $(VENV) ## check types with mypy and pyright, both strict
	$(RUN)mypy
	$(RUN)basedpyright --pythonpath $(RUN)python

suite: $(VENV) ## run the tests on SQLite and PostgreSQL
	$(RUN)pytest $(ARGS)

coverage: $(VENV) ## run the tests and fail below 97 % coverage, or 100 % of auth/
	$(RUN)coverage erase
	$(RUN)coverage run -m pytest $(ARGS)
	$(RUN)coverage combine --quiet
	$(RUN)coverage report
	$(RUN)coverage report --include '*/taskwell/auth/*' --fail-under 100

format: $(VENV) ## format the code and fix lint
	$(RUN)ruff format .
	$(RUN)ruff check --fix .

openapi: $(VENV) ## write the OpenAPI document to docs/openapi.json
	$(RUN)taskwell openapi --output docs/openapi.json

docs: $(VENV) ## write docs/errors.md, and build the site of the documentation in site/
	$(RUN)python docs/errors.py > docs/errors.md
	rm -rf site
	$(RUN)sphinx-build --fail-on-warning --keep-going --quiet --fresh-env --doctree-dir .sphinx_cache docs site
	@echo 'To read it: python3 -m http.server --directory site'

client: ## install the tools of clients/typescript, write its types, build it, and check the package
	cd clients/typescript && npm ci --ignore-scripts && npm run types && npm run build && npm run lint

example: $(UV) examples/nextjs/node_modules ## set up, and serve the Next.js example with Taskwell; ARGS=dev compiles changes
	@$(SYNC) --no-dev --inexact
	@TASKWELL=$(abspath $(RUN)taskwell) exec node examples/nextjs/start.mjs $(ARGS)

examples/nextjs/node_modules: examples/nextjs/package-lock.json clients/typescript/dist
	cd examples/nextjs && npm ci --ignore-scripts --no-audit --no-fund && touch node_modules

clients/typescript/dist: $(shell find clients/typescript/src -name '*.ts' 2>/dev/null)
	cd clients/typescript && npm ci --ignore-scripts --no-audit --no-fund && npm run build

audit: $(UV) ## look up known vulnerabilities of the locked dependencies, in a database on the network
	@$(UV) export --locked --quiet --no-dev --all-extras --no-emit-project --output-file .audit.txt
	@$(UV) tool run --quiet pip-audit --require-hashes --disable-pip --strict -r .audit.txt; s=$$?; rm .audit.txt; exit $$s

sbom: $(UV) ## write a software bill of materials (CycloneDX) to sbom.json
	@$(UV) export --locked --quiet --no-dev --all-extras --format cyclonedx1.5 --output-file sbom.json

bench: $(UV) ## compare with three other services; BENCH=scale, levels, pages or sync measures the rest
	@$(SYNC) --group bench --inexact
	@PYTHONPATH=tests $(RUN)python bench/$(or $(BENCH),table).py $(ARGS)

.PHONY: $(VENV)
$(VENV): $(UV)
	@$(SYNC)

.uv/bin/uv:
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Taskwell needs Python 3.11 or newer")'
	@echo 'Installing uv into .uv ...'
	@python3 -m venv .uv
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check uv
