# Every target sets up .venv from the pinned constraints first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test suite test-slow lint unit bench-optimizer bench-evidence bench-control bench-density bench-serving bench-gateway protocol docs lock clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --no-deps 'torchprofile==0.0.4' # for FastNAS; it asks for torchvision, which it does not need
	$(BIN)/pip install --quiet --no-deps 'tritonclient==2.73.0' # for tests; it asks for an older protobuf, which it does not need
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true # on all cores, as pip does not; some files are for other Pythons
	touch $@

demo: $(STAMP)
	$(BIN)/burnish demo --home build/demo

test: lint suite

# In the order of the folders, which leaves the files that end soon, the unit tests, for the end: no process waits long.
suite: $(STAMP)
	$(BIN)/pytest tests -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(STAMP)
	$(BIN)/pytest tests --slow

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(STAMP)
	$(BIN)/pytest tests/unit tests/architecture

# Figures as ratios taken side by side in one run, beside their goals: build/bench/*.json. Exit code 1: a goal is missed.
bench-optimizer: $(STAMP)
	$(BIN)/python -m benchmarks.optimizer

bench-control: $(STAMP)
	$(BIN)/python -m benchmarks.control

bench-density: $(STAMP)
	$(BIN)/python -m benchmarks.density

bench-evidence: $(STAMP)
	$(BIN)/python -m benchmarks.evidence

bench-serving: $(STAMP)
	$(BIN)/python -m benchmarks.serving

bench-gateway: $(STAMP)
	$(BIN)/python -m benchmarks.gateway

# The messages of the gRPC door, from their definition.
protocol: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -Iserving/doors/protocol --python_out=serving/doors/protocol \
	  serving/doors/protocol/open_inference.proto

# What the plug-in folders hold, as a page; the schema of a result, which is committed.
docs: $(STAMP)
	$(BIN)/python -m tasks.optimizer.result_schema > docs/optimization-result.schema.json
	mkdir -p build/docs
	{ echo '# Passes and runtimes'; for kind in passes runtimes; do \
	  echo; echo '```'; $(BIN)/burnish $$kind list; echo '```'; done; } > build/docs/plugins.md

# The CUDA build's own libraries are left out: the CPU build of torch, which is what the pins are for, has none.
lock: $(STAMP)
	$(BIN)/uv pip compile --quiet --extra dev --extra postgres --no-annotate --no-header --output-file constraints.txt pyproject.toml
	sed -i -E '/^(cuda-|triton=|nvidia-(cu|nccl|nvjitlink|nvshmem|nvtx))/d' constraints.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
