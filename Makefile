# make demo    installs, starts a local OpenSearch, ingests real text, answers questions
# make test    installs, checks and tests
# make docs    builds the documentation into site/; a broken link fails
PYTHON ?= python3
PORT ?= 9200

BIN := .venv/bin
INSTALLED := .venv/.installed
PINS := $(shell $(PYTHON) -c 'import sys; print("constraints.txt" if sys.version_info >= (3, 11) else "constraints-py310.txt")')
PACKAGES := -p latent_ingest.connector -p latent_ingest.mappings -p latent_ingest.cli

.PHONY: demo test docs check format install clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	@echo "installing (on Linux PyTorch comes with CUDA, about 3 GB)"
	$(BIN)/python -m pip install -c $(PINS) -e '.[async,aws,backbone,engine,evaluate,ir-datasets,sentence-transformers,train,dev]'
	@mkdir -p .venv/src/latent_ingest
	@cd .venv/src/latent_ingest && ln -sfn ../../../connector ../../../mappings ../../../cli .
	@touch $@

demo: $(INSTALLED)
	$(BIN)/latent-ingest engine up --port $(PORT)
	@mkdir -p demo
	$(BIN)/latent-ingest docstrings --out demo/stdlib.jsonl
	$(BIN)/latent-ingest demo/stdlib.jsonl --index stdlib --failures demo/failed.jsonl
	$(BIN)/latent-ingest search "find files whose names look like a pattern" --index stdlib --compare --size 3
	$(BIN)/latent-ingest search "pick a random item, bigger chance for some" --index stdlib --compare --size 3
	$(BIN)/latent-ingest search "stop waiting after some seconds" --index stdlib --compare --size 3
	@echo
	@echo 'Ask your own: $(BIN)/latent-ingest search "..." --index stdlib'
	@echo 'OpenSearch keeps running; stop it with: $(BIN)/latent-ingest engine down'

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(PACKAGES)

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: check
	$(BIN)/pytest

docs: $(INSTALLED)
	$(BIN)/python -m pip install -q -c $(PINS) -e '.[docs]'
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv demo site .mypy_cache .pytest_cache .ruff_cache .hypothesis
