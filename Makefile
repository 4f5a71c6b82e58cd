# Atoll. `make serve` runs an island with a demo organization; `make test` runs the tests. Both set up .venv themselves.
# CLIENTS=found make test    also without real clients that are missing (make test-deps fetches them)
# PYTHON=python3.12 make ... another interpreter (3.11 or newer)
# TESTS="tests/runtime -k stop" make test
PYTHON ?= python3
VENV := .venv/bin
DATA ?= data
OFFSET ?= 10000
TESTS ?=
JOBS ?= auto

.DEFAULT_GOAL := help
.PHONY: help serve test test-deps lint format bench soak fuzz docs lock fresh clean

help:  ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 20

serve: .setup-run  ## set up and run an island with a demo organization
	@exec $(VENV)/atoll --data $(DATA) serve --demo --port-offset $(OFFSET)

test: .setup-test  ## set up and run every test that needs no system package
	@$(VENV)/python -P tools/run_tests.py --jobs $(JOBS) $(TESTS)

test-deps: .setup-test  ## fetch the real mail clients that the tests use, under .cache/
	@$(VENV)/python tests/clients/deps.py

lint: .setup-lint  ## style, types, import contracts
	@$(VENV)/ruff check src tests bench tools
	@$(VENV)/mypy
	@$(VENV)/lint-imports --no-cache

format: .setup-lint  ## put imports in order and mend what can be mended
	@$(VENV)/ruff check --fix src tests bench tools

bench: .setup-test  ## measure Atoll beside Postfix and Dovecot
	@$(VENV)/python bench/run.py $(ROWS)

soak: .setup-test  ## the long tests
	@SOAK=1 $(VENV)/python -P -m pytest -m soak $(TESTS)

fuzz: .setup-fuzz  ## feed every parser garbage
	@$(VENV)/python -P tests/fuzz/run.py $(TARGETS)

docs: .setup-test  ## write the reference pages that are made from the code
	@$(VENV)/python -P tools/make_docs.py

lock:  ## take newer versions of the libraries into uv.lock and requirements/ (needs uv)
	uv lock --upgrade
	@for group in test lint fuzz; do uv export --quiet --frozen --no-emit-project --no-default-groups --group $$group \
	  --no-header --no-annotate -o requirements/$$group.lock >/dev/null || exit 1; done
	@uv export --quiet --frozen --no-emit-project --no-default-groups --no-header --no-annotate \
	  -o requirements/run.lock >/dev/null

fresh:  ## the two commands of the README in a minimal Debian, as an unprivileged user (needs root)
	@.ci/fresh

clean:  ## remove everything that was made here but DATA
	rm -rf .venv .cache .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis

.setup-%:
	@$(PYTHON) tools/setup.py $*
