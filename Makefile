# Everything a fresh machine needs: Python, make and a package index.
PYTHON ?= python3
VENV := .venv
BACKENDS_VENV := .venv-backends
ADDONS_VENV := .venv-addons
# tensorflow-addons has no wheels for newer ones.
ADDONS_PYTHON ?= $(shell command -v python3.11 || command -v python3.10 || echo $(PYTHON))
CONSTRAINTS ?= constraints.txt
PIP_FLAGS := --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)
# Compiling what is imported takes less time than compiling everything.
PIP_INSTALL := install --no-compile
export TF_CPP_MIN_LOG_LEVEL ?= 1

.PHONY: help demo test ci others soak test-tensorflow test-backends test-addons lint format docs notebooks dist environments clean-install clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: $(or $(wildcard $(VENV)/.installed),$(VENV)/.package) ## train, evaluate and export a ResNet-20 on embedded real images
	$(VENV)/bin/python examples/demo.py

test: lint test-tensorflow test-backends ## all checks and tests, on TensorFlow, and on JAX and PyTorch without it

test-tensorflow: $(VENV)/.installed ## the tests on the main stack
	$(VENV)/bin/python -m pytest --ignore=tests/backends --numprocesses=2 --dist=worksteal -m 'not soak'

ci: test-tensorflow others ## all checks and tests on both stacks; with --jobs=2 at once

# One after another beside the tests on the main stack, which leave a tenth of two cores idle.
others: $(VENV)/.installed $(BACKENDS_VENV)/.installed $(ADDONS_VENV)/.installed
	$(MAKE) lint
	$(MAKE) test-backends
	$(MAKE) test-addons

soak: $(VENV)/.installed ## benchmarks, random kills, mutated files, load and long variants, for minutes
	$(VENV)/bin/python -m pytest --ignore=tests/backends -m soak

test-backends: $(BACKENDS_VENV)/.installed ## the tests on Keras with JAX and PyTorch, in an environment without TensorFlow
	KERAS_BACKEND=jax $(BACKENDS_VENV)/bin/python -m pytest tests/backends
	KERAS_BACKEND=torch $(BACKENDS_VENV)/bin/python -m pytest tests/backends

test-addons: $(VENV)/.installed $(ADDONS_VENV)/.installed ## the tests on TensorFlow 2.15 with tensorflow-addons
	KERAS_RESNET_OTHER_PYTHON=$(VENV)/bin/python $(ADDONS_VENV)/bin/python -m pytest --numprocesses=2 --dist=worksteal -m 'not slow and not soak'

lint: $(VENV)/.installed ## check style, format and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.installed ## fix style and format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

docs: $(VENV)/.installed ## build the guides and the reference of the code into site/
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict  # --quiet would hide warnings from --strict

notebooks: $(VENV)/.installed ## execute the notebooks and keep their outputs, for minutes
	$(VENV)/bin/pip $(PIP_INSTALL) $(PIP_FLAGS) ipykernel nbclient
	cd examples/notebooks && $(abspath $(VENV)/bin/python) execute.py

dist: $(VENV)/.installed ## build the wheel into dist/
	rm -rf build dist
	$(VENV)/bin/pip wheel $(PIP_FLAGS) --no-deps --wheel-dir dist .

environments: $(VENV)/.installed $(BACKENDS_VENV)/.installed $(ADDONS_VENV)/.installed ## install what all tests need; with --jobs at once

clean-install: ## install a wheel into a new environment and use it there, for minutes
	$(PYTHON) tests/clean_install.py

clean: ## remove the environments and what was built
	rm -rf $(VENV) $(BACKENDS_VENV) $(ADDONS_VENV) build dist site

# The package and what runs its TFLite files, without what the tests need; pip lists what it downloads.
$(VENV)/.package: setup.py constraints.txt
	@echo 'installing TensorFlow and what the demo uses into $(VENV): 2.2 GB, for a few minutes, once'
	$(PYTHON) -m venv $(VENV)
	KERAS_RESNET_TENSORFLOW=tensorflow-cpu $(VENV)/bin/pip install --disable-pip-version-check \
		--constraint constraints.txt -e '.[tflite]'
	touch $@

# The small CPU build of TensorFlow stands in for the one that users get; see setup.py.
$(VENV)/.installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	KERAS_RESNET_TENSORFLOW=tensorflow-cpu $(VENV)/bin/pip $(PIP_INSTALL) $(PIP_FLAGS) -e '.[detection,docs,test,tflite]'
	touch $@

$(BACKENDS_VENV)/.installed: setup.py constraints.txt
	$(PYTHON) -m venv $(BACKENDS_VENV)
	$(BACKENDS_VENV)/bin/pip $(PIP_INSTALL) $(PIP_FLAGS) jax keras torch absl-py pytest safetensors tqdm
	$(BACKENDS_VENV)/bin/pip $(PIP_INSTALL) $(PIP_FLAGS) --no-deps -e .
	touch $@

$(ADDONS_VENV)/.installed: setup.py constraints-addons.txt
	$(ADDONS_PYTHON) -m venv $(ADDONS_VENV)
	KERAS_RESNET_TENSORFLOW=tensorflow-cpu $(ADDONS_VENV)/bin/pip $(PIP_INSTALL) --quiet --disable-pip-version-check \
		--constraint constraints-addons.txt -e '.[addons,tflite]' psutil pytest pytest-xdist
	touch $@
