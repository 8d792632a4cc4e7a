# make quickstart   train, evaluate and look at the default detector, from nothing: under 10 minutes after the install
# make test         the tests that need nothing but a CPU; make test-all adds slow, real-data and GPU tests
# PYTHON=python3.12 picks the interpreter, VENV=DIR the virtual environment, WORKERS=4 how many tests run at once.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= auto
INSTALLED := $(VENV)/installed-by-make
ifndef RUN
RUN := outputs/quickstart/$(shell date +%Y-%m-%d_%H-%M-%S)
endif

.PHONY: help install quickstart test test-all lint format bench gpu-check clean

help:
	@grep -E '^#' Makefile | sed 's/^# //'

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("detkit needs Python 3.10 or newer" if sys.version_info < (3, 10) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV); PyTorch is large, so the first time takes some minutes."
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[dev,pretrained,onnx]"
	@touch $@

quickstart: $(INSTALLED)
	$(BIN)/detkit train experiment=quickstart hydra.run.dir=$(RUN)
	@echo
	@echo "annotated pictures: $(RUN)/pictures"
	@echo "report:             $(RUN)/report.html"
	@echo "use it on your own: $(BIN)/detkit predict checkpoint=$(RUN) source=FILE"

# One thread for each worker: tests are small, and threads of several workers would wait for each other.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m "not slow and not real_data and not gpu"

test-all: $(INSTALLED)
	$(BIN)/python -m pytest -q

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)
	$(BIN)/python benchmarks/speed.py --device cpu
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/loader.py
	$(BIN)/python benchmarks/assignment.py

# Fails where there is no CUDA device: an unchecked GPU must not look like a checked one.
gpu-check: $(INSTALLED)
	@$(BIN)/python -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "make gpu-check: torch sees no CUDA device")'
	$(BIN)/python -m pytest -q -m gpu
	$(BIN)/python benchmarks/speed.py --device cuda --models faster_rcnn_fpn ssd300 yolox fast_rcnn rcnn \
		--precisions fp32 bf16 --runtimes eager compiled --batch 16 --seconds 5

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
	find detkit tests tools benchmarks -name __pycache__ -prune -exec rm -rf {} +
