# Every target sets up .venv by itself, with uv when it is on the path, else with venv and pip.
# Other interpreter: make test PYTHON=python3.13 (after `make clean`).

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CORE   := $(VENV)/.core
TOOLS  := $(VENV)/.tools
JOBS   ?= 2
SECONDS ?= 60
ARGS   ?=

# The tests start more than a thousand processes. That each compile all it imports once more takes a minute or two.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo demo-crash test test-all check simulate sweep strace pgbouncer redis bench bench-redis bench-stores bench-shop soak postgres redis-kinds clean

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(CORE) ## Measure the standard library in pieces, on two worker processes (ARGS=folder for another)
	@$(BIN)/python -m demo.run $(ARGS)

demo-crash: $(CORE) ## The same, with workers killed by SIGKILL in the middle
	@$(BIN)/python -m demo.run --crash $(ARGS)

test: SECONDS = 30
test: check strace pgbouncer redis ## Check, then run every ring of tests (ARGS=tests/store for some)
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

test-all: export PIECEWORK_WHOLE_RINGS = 1
test-all: test ## The same, and what is the engine's not on SQLite alone but on every store

check: $(TOOLS) ## Format, lint, types, and a minute of simulated faults, half of one in make test (SECONDS=…)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy --strict src demo
	@$(BIN)/python -m piecework.testing.simulation --seconds $(SECONDS) --jobs $(JOBS)

simulate: $(TOOLS) ## The simulated faults alone (SECONDS=600 for longer; ARGS='--seed 3423' for one history, told)
	@$(BIN)/python -m piecework.testing.simulation --seconds $(SECONDS) --jobs $(JOBS) $(ARGS)

sweep: $(TOOLS) strace ## Kill small programs at every single system call (some minutes; ARGS=work for one)
	@$(BIN)/python -m tests.proof.sweep $(ARGS)

bench: $(CORE) ## Measure speed against the limits of the same database; run it alone
	@$(BIN)/python -m bench $(ARGS)

bench-redis: $(TOOLS) ## Measure speed on Redis against a bare loop (ARGS=--peers for Celery and others beside, pip install piecework[bench])
	@$(BIN)/python -m bench.redis $(ARGS)

bench-stores: $(TOOLS) ## Measure the stores side by side in one run: adding, draining, latency
	@$(BIN)/python -m bench.stores $(ARGS)

bench-shop: $(TOOLS) ## 6 purchases a second of 7 s each on 42 places of 5 processes, in real time (ARGS='--slots 40')
	@$(BIN)/python -m bench.shop $(ARGS)

soak: $(TOOLS) ## Torture SQLite: 200,000 jobs, a worker killed every second (ARGS=URL for another); then an outage of PostgreSQL
	@$(BIN)/piecework torture --jobs 200000 --kill-every 1 $(ARGS)
	@$(BIN)/python -m tests.crash.outage
	@$(BIN)/python -m tests.proof.crossing --seconds $(SECONDS)

# Every PostgreSQL that is found here, and the first one with the plans that it keeps for all arguments.
postgres: $(TOOLS) pgbouncer ## The rings on every PostgreSQL that is here, whole, and with generic plans (ARGS=18 for one)
	@$(BIN)/python -m tests.every_postgres $(ARGS)

redis-kinds: $(TOOLS) redis ## The rings on Redis, on Valkey and on a Cluster of six nodes, whole (ARGS=cluster for one; also valkey-cluster, sentinel)
	@$(BIN)/python -m tests.every_redis $(ARGS)

clean: ## Remove .venv and everything that was made
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage htmlcov forest-report.txt
	find src tests demo bench examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

strace: ## Install strace, which make test and make sweep need (Linux; does nothing where it is)
	@command -v strace >/dev/null || { test "$$(id -u)" = 0 && apt-get install -qy strace >/dev/null 2>&1; } || \
		echo 'strace is missing, and tests/proof needs it: apt-get install strace' >&2

pgbouncer: ## Install PgBouncer, which make test needs (does nothing where it is)
	@command -v pgbouncer >/dev/null || test -x /usr/sbin/pgbouncer || \
		{ test "$$(id -u)" = 0 && apt-get update -qq >/dev/null 2>&1; apt-get install -qy --no-install-recommends pgbouncer >/dev/null 2>&1; } || \
		echo 'PgBouncer is missing, and tests/store/test_pooler.py needs it: apt-get install pgbouncer' >&2

redis: ## Install Redis, so that make test runs on it and not on Valkey alone (does nothing where it is)
	@command -v redis-server >/dev/null || \
		{ test "$$(id -u)" = 0 && apt-get update -qq >/dev/null 2>&1; apt-get install -qy --no-install-recommends redis-server >/dev/null 2>&1; } || \
		echo 'redis-server is missing, and the tests use Valkey in its place: apt-get install redis-server' >&2

# Two stamps, done again when pyproject.toml changes: to see the demo nobody should wait for type checkers.
$(CORE): pyproject.toml
	$(call install,.)
	@touch $(CORE)

$(TOOLS): pyproject.toml
	$(call install,.[dev])
	@touch $(CORE) $(TOOLS)

define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo 'piecework needs Python 3.11 or newer; name one with make PYTHON=python3.12' >&2; exit 1; }
	@echo 'Setting up $(VENV) …'
	@if command -v uv >/dev/null; then \
		{ test -x $(BIN)/python || uv venv --quiet --python "$$(command -v $(PYTHON))" $(VENV); } && \
		uv pip install --quiet --python $(BIN)/python -e '$(1)'; \
	else \
		{ test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); } && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '$(1)'; \
	fi
endef
