# Everything a developer does here, each in one word. `make help` lists it.
# Needs: GNU make and a Python 3.11, 3.12 or 3.13 with venv. The first target that needs it puts everything else into .venv.

.DEFAULT_GOAL := help
SHELL := /bin/sh

# The first Python that fits; `make test PYTHON=python3.12` takes another one.
PYTHON ?= $(shell for each in python3 python3.12 python3.13 python3.11; do \
	$$each -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$each && break; \
	done)
PORT ?= 8080

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH := .venv-bench
BENCH_STAMP := $(BENCH)/.installed
MATRIX := .venv-matrix
# The oldest Airflow we support, the newest of each later minor version.
AIRFLOWS ?= 3.1.8 3.2.2 3.3.2
# Libraries are those of the week after an Airflow came out. Airflow does not exclude later ones, but does not work with all
# of them: 3.2.2 fails with those of November 2026, 3.3.2 with the Celery of that month.
WEEK_AFTER_3.1.8 := 2026-03-18
WEEK_AFTER_3.2.2 := 2026-06-05
WEEK_AFTER_3.3.2 := 2026-09-24
# What meets Airflow itself: run under each supported version of it.
AIRFLOW_TESTS := $(addprefix tests/,bridge decorators monitoring operators plugins system test_get_provider_info.py)
# See tests/support/lanes.py.
LANES := -n 3 --dist loadscope
FAST := not airflow and not system and not slow
# It depends on 120 packages, some of them older than those that Airflow needs. The two parts that are tested here need a
# dozen, which are in the extra `dev`.
GOOGLE := apache-airflow-providers-google==22.8.0

# An Airflow of the caller must not affect this one: neither its settings nor its connections, nor options of other tools.
$(foreach name,$(filter AIRFLOW% _AIRFLOW% __AIRFLOW%,$(.VARIABLES)),$(eval unexport $(name)))
unexport PYTHONPATH PYTHONHOME PYTEST_ADDOPTS VIRTUAL_ENV
# Compiling Airflow at every start of an interpreter takes seconds, and no deployment does that.
unexport PYTHONDONTWRITEBYTECODE
export AIRFLOW_HOME := $(CURDIR)/.airflow
# Like pip, trust the certificates that this machine trusts: behind a company's proxy uv's own list is not enough.
UV_SYSTEM_CERTS ?= 1
export UV_SYSTEM_CERTS

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(STAMP) ## score 336 776 flights in a real Airflow, then look at the table (about a minute)
	@$(BIN)/python -m dev.demo

.PHONY: ui
ui: $(STAMP) ## Airflow with the example DAGs on http://127.0.0.1:8080 until Ctrl-C (PORT=... for another port)
	@$(BIN)/python -m dev.ui --port $(PORT)

APT := apt-get update --quiet --quiet && DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends
AS_ROOT = test "$$(id -u)" = 0 || { echo "No $(1) found; run this as root, or install one" >&2; exit 1; }

.PHONY: browser
browser: ## install the Chromium that the tests of the Pipeline tab need (Debian and Ubuntu, as root)
	@command -v chromium chromium-browser google-chrome >/dev/null || { $(call AS_ROOT,Chromium); $(APT) chromium fonts-dejavu-core >/dev/null; }

.PHONY: pooler
pooler: ## install the pgbouncer that a test of PostgreSQL needs (Debian and Ubuntu, as root)
	@PATH="$$PATH:/usr/sbin" command -v pgbouncer >/dev/null || { $(call AS_ROOT,pgbouncer); $(APT) pgbouncer >/dev/null; }

.PHONY: pictures
pictures: $(STAMP) browser ## take the README's pictures of the Pipeline tab again (two minutes)
	@$(BIN)/python -m dev.pictures

.PHONY: test
test: $(STAMP) ## all tests but the long forms marked slow, in three lanes (ARGS="-k name" to choose, "-n 0": one lane)
	$(BIN)/python -m pytest -m "not slow" $(LANES) $(ARGS)

.PHONY: test-slow
test-slow: $(STAMP) ## the long forms, and every property test with many random examples
	PARALLEL_TESTS_PROPERTIES=long $(BIN)/python -m pytest -m "slow or hypothesis" $(ARGS)

.PHONY: test-matrix
test-matrix: $(STAMP) ## the Airflow and system tests under each supported Airflow (AIRFLOWS="3.1.8" to choose, ARGS as above)
	@for each in $(AIRFLOWS); do $(MAKE) --no-print-directory $(MATRIX)/$$each/.installed || exit 1; done
	@failed=; for each in $(AIRFLOWS); do echo "== Airflow $$each"; \
		$(MATRIX)/$$each/bin/python -m pytest -q -m "not slow or system" $(AIRFLOW_TESTS) $(ARGS) \
		|| failed="$$failed $$each"; done; test -z "$$failed" || { echo "failed under:$$failed" >&2; exit 1; }

# Without constraints.txt, whose versions go with one Airflow only. The DuckDB provider and the PyIceberg that we need are
# younger than some of them.
$(MATRIX)/%/.installed: pyproject.toml $(STAMP)
	@$(@D)/bin/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(@D)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(@D)/bin/python "apache-airflow==$*" -e '.[dev]' \
		$(if $(WEEK_AFTER_$*),--exclude-newer $(WEEK_AFTER_$*) --exclude-newer-package apache-airflow-providers-duckdb=2026-11-01 \
		--exclude-newer-package pyiceberg=2026-11-01)
	@touch $@

.PHONY: test-dask
test-dask: .venv-dask/.installed ## shards on a real Dask cluster of this machine
	.venv-dask/bin/python -m pytest -q tests/engine/shards/test_on_dask.py $(ARGS)

.PHONY: test-ray
test-ray: .venv-ray/.installed ## shards on a real Ray of this machine (200 MB to install)
	.venv-ray/bin/python -m pytest -q tests/engine/shards/test_on_ray.py $(ARGS)

.PHONY: test-snowflake
test-snowflake: .venv-snowflake/.installed ## the writer for Snowflake on fakesnow (it needs an older connector than the newest)
	.venv-snowflake/bin/python -m pytest -q tests/sql/backends/snowflake $(ARGS)

# fakesnow does not work with the connector of version 5. The dialect asks for it, but works with version 4; the Airflow
# provider brings more than is needed.
.venv-snowflake/.installed: pyproject.toml constraints.txt $(STAMP)
	@$(@D)/bin/python -c '' 2>/dev/null || $(BIN)/python -m venv --clear $(@D)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(@D)/bin/python -c constraints.txt -b constraints.txt -e '.[dev]' \
		'fakesnow[server]==0.12.1' snowflake-connector-python==4.8.1
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(@D)/bin/python --no-deps snowflake-sqlalchemy==2.1.0 \
		apache-airflow-providers-snowflake==6.20.0
	@touch $@

.PHONY: test-edge
test-edge: .venv-edge/.installed ## shards over two hosts of this machine with the Edge executor (as root)
	.venv-edge/bin/python -m pytest -q -s tests/system/hosts/test_edge_hosts.py $(ARGS)

.PHONY: test-hosts
test-hosts: $(STAMP) ## shards over two hosts of this machine with Celery: one dies, one is cut off, one is slow (as root)
	$(BIN)/python -m pytest -q -s tests/system/hosts/test_celery_hosts.py $(ARGS)

# Engines that shards may run on: nothing else needs them, and one of them is large. With their own pins beside ours.
.venv-dask/.installed: ENGINE := dask==2026.8.0 distributed==2026.8.0
.venv-ray/.installed: ENGINE := ray==2.60.0
.venv-edge/.installed: ENGINE := apache-airflow-providers-edge3==5.1.0 retryhttp==1.5.0
.venv-dask/.installed .venv-ray/.installed .venv-edge/.installed: pyproject.toml constraints.txt $(STAMP)
	@$(@D)/bin/python -c '' 2>/dev/null || $(BIN)/python -m venv --clear $(@D)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(@D)/bin/python -c constraints.txt -b constraints.txt -e '.[dev]' $(ENGINE)
	@touch $@

.PHONY: chaos
chaos: $(STAMP) ## kill loads 200 times per database, crash the servers, cut connections; nothing may be lost or twice
	$(BIN)/python -m pytest -q -m slow -o faulthandler_timeout=0 tests/chaos $(ARGS)

.PHONY: soak
soak: $(STAMP) ## loads into PostgreSQL for 30 minutes, a worker killed every second; nothing may be lost, twice or grow (MINUTES=3)
	$(BIN)/python -m tests.chaos.soak --minutes $(or $(MINUTES),30) $(ARGS)

.PHONY: check
check: lint types ## what must pass before a commit: lint, types and the tests that take milliseconds
	$(BIN)/python -m pytest -q -m "$(FAST)" $(ARGS)

.PHONY: lint
lint: $(STAMP) ## ruff (rules and format) and codespell
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell

.PHONY: types
types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

.PHONY: format
format: $(STAMP) ## format the code, with the fixes that ruff knows
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: bench
bench: $(BENCH_STAMP) ## the engine and its peers side by side (ARGS="--quick" or a workload's name; --help says more)
	@$(BENCH)/bin/python -m benchmarks $(ARGS)

# The contestants' requirements must not decide what the project is tested with, so they get their own environment.
$(BENCH_STAMP): benchmarks/requirements.txt $(STAMP)
	@$(BENCH)/bin/python -c '' 2>/dev/null || $(BIN)/python -m venv --clear $(BENCH)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BENCH)/bin/python -c constraints.txt -b constraints.txt -e '.[sqlite,postgres,mysql,arrow,duckdb,delta,iceberg]'
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BENCH)/bin/python -r benchmarks/requirements.txt
	@touch $@

.PHONY: docs
docs: $(STAMP) ## the documentation as a site: build/docs/index.html
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

.PHONY: tables
tables: $(STAMP) ## write the tables of arguments in docs/ again, from the docstrings
	$(BIN)/python docs/argument_tables.py

# Without build isolation: hatchling is in .venv, so nothing is downloaded, and its version is the one in constraints.txt.
.PHONY: dist
dist: $(STAMP) ## a wheel and an sdist in dist/, the wheel built from the sdist
	rm -rf dist
	$(BIN)/uv build --quiet --offline --no-build-isolation --python $(BIN)/python --out-dir dist

.PHONY: install
install: $(STAMP) ## create .venv; every other target does it when needed

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found; say where one is: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -b constraints.txt -e '.[dev,demo,docs]'
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps '$(GOOGLE)'
	@touch $@

.PHONY: constraints
constraints: $(STAMP) ## write constraints.txt again for what pyproject.toml asks for (ARGS=--upgrade: newest versions)
	@cp constraints.txt $(VENV)/pins.txt
	printf 'uv\nhatchling\neditables\n' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras \
		--no-header --no-annotate $(ARGS) pyproject.toml - -o $(VENV)/pins.txt >/dev/null
	@{ sed '/^[^#]/,$$d' constraints.txt; sed -e '/^#/d' -e 's/ *;.*//' $(VENV)/pins.txt; } > $(VENV)/constraints.txt
	@twice=$$(sed -n 's/==.*//p' $(VENV)/constraints.txt | uniq -d); test -z "$$twice" || \
		{ echo "more than one version is needed, add markers by hand: $$twice" >&2; exit 1; }
	@cp $(VENV)/constraints.txt constraints.txt

.PHONY: clean
clean: ## remove everything that make creates: .venv, .airflow, caches, builds
	rm -rf $(VENV) $(BENCH) $(MATRIX) .venv-dask .venv-ray .venv-snowflake .venv-edge .airflow .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
