PYTHON ?= python3
PORT ?= 9200
# Processes that test. They cannot share an engine: one where OPENSEARCH_URL names it.
WORKERS ?= $(if $(OPENSEARCH_URL),0,2)

BIN := .venv/bin
DEMO_EXTRAS := backbone,engine
ALL_EXTRAS := async,aws,backbone,backbone-mpnet,docs,engine,evaluate,files,haystack,ir-datasets,langchain,llama-index,mcp,ray,scikit-learn,sentence-transformers,serve,train,dev
# Stamps of the two installations; the second contains the first.
DEMO := .venv/.installed-demo
ALL := .venv/.installed
PINS := $(shell $(PYTHON) -c 'import sys; print("constraints.txt" if sys.version_info >= (3, 11) else "constraints-py310.txt")')
PACKAGES := -p latent_ingest.connector -p latent_ingest.mappings -p latent_ingest.cli
# A file's tests run in one process, so that they share its fixtures; one thread per process.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile

.NOTPARALLEL:
.PHONY: help demo install check format test test-slow bench-scale docs clean about-demo about-test

help:
	@echo 'make demo       install what the demo needs, index 1,500 docstrings, ask three questions'
	@echo 'make test       install everything, run the checks and the fast tests'
	@echo 'make test-slow  the other tests: whole collections, clusters, killed runs, long random tests'
	@echo 'make bench-scale   what questions cost in large indices: COLLECTION=scifact/ OPTIONS="..."'
	@echo 'make docs       build the documentation into site/; a broken link fails'
	@echo 'make check      format, lint and types'
	@echo 'make format     format the code and fix what the linter can'
	@echo 'make install    install everything into .venv'
	@echo 'make clean      delete .venv, the demo, the site and caches'
	@echo
	@echo 'Variables: PYTHON=python3.12 (for .venv), PORT=9200 (demo), WORKERS=2 (test processes)'

# $(call install,EXTRAS): with uv, which downloads in parallel; with pip where uv cannot be used.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv || true
	@PATH="$$PATH:$$PWD/$(BIN)" uv pip install --python $(BIN)/python -c $(PINS) -e '.[$(1)]' || \
	{ echo 'installing with pip'; $(BIN)/python -m pip install -c $(PINS) -e '.[$(1)]'; }
endef

install: $(ALL)

$(DEMO): pyproject.toml $(PINS)
	$(call install,$(DEMO_EXTRAS))
	@touch $@

$(ALL): pyproject.toml $(PINS)
	$(call install,$(ALL_EXTRAS))
	@mkdir -p .venv/src/latent_ingest
	@cd .venv/src/latent_ingest && ln -sfn ../../../connector ../../../mappings ../../../cli .
	@touch $(DEMO) $@

about-demo:
	@if $(MAKE) -q --no-print-directory $(DEMO); then echo 'Takes about 1 minute.'; else \
	echo 'Downloads about 3 GB into .venv (PyTorch with CUDA; 6 GB on disk); takes about 4 minutes, 1 minute when installed.'; fi

demo: about-demo $(DEMO)
	$(BIN)/latent-ingest engine up --port $(PORT)
	@mkdir -p demo
	$(BIN)/latent-ingest docstrings --limit 1500 --out demo/stdlib.jsonl
	$(BIN)/latent-ingest demo/stdlib.jsonl --index stdlib --failures demo/failed.jsonl
	$(BIN)/latent-ingest search "find files whose names look like a pattern" --index stdlib --compare --size 3
	$(BIN)/latent-ingest search "pick a random item, bigger chance for some" --index stdlib --compare --size 3
	$(BIN)/latent-ingest search "stop waiting after some seconds" --index stdlib --compare --size 3
	@echo
	@echo 'Ask your own: $(BIN)/latent-ingest search "..." --index stdlib'
	@echo 'OpenSearch keeps running; stop it with: $(BIN)/latent-ingest engine down'

check: $(ALL)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(PACKAGES)

format: $(ALL)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

about-test:
	@$(MAKE) -q --no-print-directory $(ALL) || \
	echo 'Downloads about 3 GB into .venv (PyTorch with CUDA; 6 GB on disk): about 4 minutes.'
	@echo 'Checks format, lint and types, then runs the fast tests: about 20 minutes on two cores.'
	@echo '"make test-slow" runs the other tests: about 20 minutes.'

test: about-test check
	$(PYTEST) -m "not slow"

test-slow: $(ALL)
	$(PYTEST) --no-loadscope-reorder -m slow

bench-scale: $(ALL)
	@test -n "$(COLLECTION)" || { echo 'name a judged collection: make bench-scale COLLECTION=scifact/'; exit 2; }
	$(BIN)/python benchmarks/scale.py $(COLLECTION) $(OPTIONS)

docs: $(ALL)
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv demo site .mypy_cache .pytest_cache .ruff_cache .hypothesis
