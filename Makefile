# `make demo` and `make test` need nothing but Python 3.11 and make; both can be run again at any time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-full test-witness lint types imports check clean

demo: $(READY)
	$(BIN)/python -m examples.demo

# Threads of PyTorch that wait do not spin: two test processes share the processors.
test test-full test-witness: export OMP_WAIT_POLICY := passive

test: $(READY)
	$(BIN)/python -c 'from examples.digits import trained; trained()'  # once, not in two test processes at once
	$(BIN)/python -m pytest -n 2 -m "not full"

test-full: $(READY)
	$(BIN)/python -m pytest -n 2

# Beside engines that PyTorch does not bring along: ONNX Runtime, and XNNPACK in ExecuTorch's runtime.
test-witness: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[witness]'
	$(BIN)/python -c 'import executorch.runtime, onnx, onnxruntime'
	$(BIN)/python -m pytest -n 2 -m "witness and not full"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

check: lint types imports

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "accelsim needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) results build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
