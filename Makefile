# `make help` lists what there is. GNU make 3.81 (as on macOS) is enough.

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
SIDE_BY_SIDE := -n 2 --dist loadgroup
# The first interpreter that runs and is new enough. Asked only when the environment has to be made.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps
COMPILE := $(BIN)/uv pip compile -q --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
	--no-annotate --no-header
# Static checks need settings, and no server and no state.
LINT := DJANGO_SECRET_KEY=lint $(BIN)
# The local state: deleted by `make clean`.
DATA := $(if $(DATA_DIR),$(DATA_DIR),.data)

.DEFAULT_GOAL := help
.PHONY: help run test test-faults lint docs bench lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.installed ## Run the whole platform in the foreground (PORT=8000, DATA_DIR=.data, …)
	@exec $(BIN)/python manage.py run_platform

# All of them run in two processes side by side (chatplatform/testing/plugin.py); with ARGS in one, if they do not say so.
test: $(VENV)/.installed-dev ## Run every test, with servers and data of their own (ARGS="-k name")
	@data="$$(mktemp -d "$${TMPDIR:-/tmp}/chatplatform-test.XXXXXX")" && trap 'rm -rf "$$data"' EXIT && \
	trap 'exit 130' INT && trap 'exit 143' TERM && DATA_DIR="$$data" $(BIN)/python -m pytest $(or $(ARGS),$(SIDE_BY_SIDE))

test-faults: $(VENV)/.installed-dev ## Break real processes while clients chat (SEEDS=20, or SEED=123 again)
	@data="$$(mktemp -d "$${TMPDIR:-/tmp}/chatplatform-test.XXXXXX")" && trap 'rm -rf "$$data"' EXIT && \
	trap 'exit 130' INT && trap 'exit 143' TERM && DATA_DIR="$$data" $(BIN)/python -m chatplatform.testing.faults \
	$(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1)) $(ARGS)

lint: $(VENV)/.installed-dev ## Check style, types, imports, templates and migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(LINT)/mypy .
	$(LINT)/lint-imports
	$(BIN)/djlint templates --quiet --lint
	$(LINT)/python manage.py makemigrations --check --dry-run
	$(LINT)/python manage.py check
	DJANGO_SECRET_KEY=a-key-for-lint-that-is-as-long-as-one-of-a-deployment PUBLIC_SCHEME=https \
		$(BIN)/python manage.py check --deploy --fail-level WARNING
	$(BIN)/python -m chatplatform.management.document --check

docs: $(VENV)/.installed ## Write docs/settings.md and docs/commands.md anew, out of the code
	$(BIN)/python -m chatplatform.management.document

bench: $(VENV)/.installed ## Measure every figure of docs/performance.md (ARGS="--only streams --server both")
	@exec $(BIN)/python -m loadtests.bench $(ARGS)

lock: $(VENV)/.installed-dev ## Pin the requirements anew, for all systems
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) requirements-dev.in -o requirements-dev.txt

clean: ## Delete caches and the local data (refused while something runs)
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m chatplatform.embedded.clear "$(DATA)"; fi
	rm -rf .mypy_cache .ruff_cache .import_linter_cache .hypothesis staticfiles
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then echo "Python 3.11 or newer is needed, and none was found (or: make PYTHON=…)" >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "$(PYTHON) is too old: Python 3.11 or newer is needed" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt | $(BIN)/python
	@echo "Installing what the platform runs on"
	@$(PIP_INSTALL) -r requirements.txt
	@touch $@

# The development lock contains the other one.
$(VENV)/.installed-dev: requirements-dev.txt | $(BIN)/python
	@echo "Installing what the platform and its tests run on"
	@$(PIP_INSTALL) -r requirements-dev.txt
	@touch $(VENV)/.installed $@
