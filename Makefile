# Everything is set up in .venv by the first target that needs it. A second call does no work twice.
PYTHON ?= python3
BIN := .venv/bin
# pip's cache knows nothing of compiler flags or of the machine: a llama.cpp built elsewhere must not come back.
PIP := $(BIN)/pip --disable-pip-version-check
LLAMA_VERSION := $(shell sed -n 's/.*llama-cpp-python==\([0-9.]*\)".*/\1/p' pyproject.toml | head -n 1)
LLAMA_SOURCE := .venv/src/llama_cpp_python-$(LLAMA_VERSION)
# Some virtual machines report AMX and do not let it run; a native build then dies at the first token.
NO_AMX := -mno-amx-tile -mno-amx-int8 -mno-amx-bf16
NO_AMX_IF_KNOWN := $(shell $(or $(CC),cc) $(NO_AMX) -E -x c /dev/null >/dev/null 2>&1 && echo "$(NO_AMX)")
export CMAKE_ARGS := -DLLAVA_BUILD=OFF -DCMAKE_PROJECT_llama.cpp_INCLUDE=$(CURDIR)/images/llama-library-only.cmake \
  -DCMAKE_C_FLAGS='$(NO_AMX_IF_KNOWN)' -DCMAKE_CXX_FLAGS='$(NO_AMX_IF_KNOWN)'

.PHONY: demo test lint types soak bench lock install images image-check manifests
demo: install
	$(BIN)/lorry demo

# As many files of tests at a time as there are cores: what a file's tests share is made once.
test: install .venv/clients/made
	$(BIN)/pytest -q -n auto --dist loadfile

lint: install
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: install
	$(BIN)/mypy

soak: install
	$(BIN)/pytest -q -m slow

bench: install
	status=0; for program in demo serving quantization sweep split_data train_lora train_cpu stop chat_page chat_stop; do $(BIN)/python tests/benchmarks/$$program.py || status=1; done; exit $$status

install: .venv/made
	@$(MAKE) --no-print-directory -j2 .venv/packages .venv/llama

.venv/made:
	$(PYTHON) -m venv .venv && $(PIP) install --quiet pip==26.3 && touch $@

.venv/packages: pyproject.toml requirements.lock | .venv/made
	$(PIP) install --quiet -r requirements.lock && $(PIP) install --quiet --no-deps -e . && touch $@

.venv/llama: pyproject.toml images/llama-library-only.cmake Makefile | .venv/made
	$(PIP) download --quiet --no-deps --no-binary :all: --dest .venv/src llama-cpp-python==$(LLAMA_VERSION)
	rm -rf $(LLAMA_SOURCE) && tar -xzf $(LLAMA_SOURCE).tar.gz -C .venv/src && mkdir -p .venv/share
	$(PIP) install --quiet --no-cache-dir --no-deps --force-reinstall ./$(LLAMA_SOURCE)
	ln -sfn ../src/$(notdir $(LLAMA_SOURCE))/vendor/llama.cpp .venv/share/llama.cpp && touch $@

# The packages that tests/clients tries; kfp's pins do not go with them.
.venv/clients/made: tests/clients/requirements.txt tests/clients/package-lock.json | .venv/made
	$(PYTHON) -m venv .venv/clients
	.venv/clients/bin/pip --disable-pip-version-check install --quiet --no-deps --no-compile -r tests/clients/requirements.txt
	cp tests/clients/package*.json .venv/clients
	if command -v npm >/dev/null; then npm ci --prefix .venv/clients --ignore-scripts --no-audit --no-fund --loglevel=error; fi
	touch $@

# ENGINE: docker, podman or buildah; IMAGES: some of them; BUILD_FLAGS: for the engine's build; PUSH=1: to the registry as well;
# RELEASE=1: pinned bases only, what is in each image as .build/sbom/*.cdx.json, signed with COSIGN_KEY
images: install
	$(BIN)/python -m images.build $(if $(ENGINE),--engine $(ENGINE)) $(if $(RELEASE),--release) $(if $(PUSH),--push) --flags="$(BUILD_FLAGS)" $(IMAGES)

image-check: install
	$(BIN)/python -m images.check $(if $(ENGINE),--engine $(ENGINE))

manifests: install  # every overlay renders, is valid for old and new clusters, and its pods are locked down
	$(BIN)/pytest -q tests/manifests

lock: install  # llama-cpp-python is built apart; CUDA's packages come with the torch wheels that want them
	$(PIP) install --quiet uv && $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-annotate --no-header --no-emit-package llama-cpp-python pyproject.toml | grep -vE '^(nvidia|triton|cuda)' > requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header tests/clients/requirements.in > tests/clients/requirements.txt
	images/lock $(CURDIR)/$(BIN)/uv $(CURDIR)/$(BIN)/pip
