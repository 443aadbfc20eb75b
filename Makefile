# make demo          the whole chain on the built-in demo set; make demo DATA=FOLDER on photographs, from scratch or,
#                    with WEIGHTS=squeezenet-v1.1 or a file of published weights, fine-tuned
# make test          the tests, but for those marked slow
# make test-all      all of them
# make test-part PART=0/8   every eighth of the slow tests, from the first on
# make test-wheel    the tests of the wheel: installed into empty environments
# make test-pythons  make check and make test on each supported Python that is found, each in a .venv-3.N of its own
# make check         lint, types and layers
# make install       .venv with everything; the others call it. PYTHON=python3.N names another Python

PYTHONS := 3.13 3.12 3.11 3.10
# The newest that runs: a program of this name may exist and not run, such as a shim of pyenv.
PYTHON ?= $(firstword $(foreach version,$(PYTHONS),$(shell python$(version) -c 'print("python$(version)")' 2>/dev/null)))
DATA ?=
WEIGHTS ?=
VENV := .venv
BIN := $(VENV)/bin

ifeq ($(DATA),)
NAME := demo
SOURCE := synthetic
RECIPE := demo
else
# One word: the name becomes part of paths, one of which is removed.
ifneq ($(words $(notdir $(abspath $(DATA)))),1)
$(error DATA=$(DATA) must be a folder whose path has no spaces)
endif
NAME := demo-$(notdir $(abspath $(DATA)))
SOURCE := folder:$(DATA)
RECIPE := $(if $(WEIGHTS),finetune --init_weights=$(WEIGHTS),imagenette)
endif
RUN := runs/$(NAME)

.PHONY: install demo test test-all test-part test-wheel test-pythons check clean

install: $(VENV)/installed

$(VENV)/installed: setup.cfg constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python of 3.10 to 3.13 is found; name one: make install PYTHON=/path/to/python3.12" >&2; exit 2; }
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed; name a Python of 3.10 to 3.13: make install PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 10) or sys.exit("sqznet needs Python 3.10 or newer, and $(PYTHON) is %d.%d: make install PYTHON=python3.12" % v[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip check
	touch $@

# On the processor, also where there are GPUs: two logical devices show what several replicas do.
demo: export CUDA_VISIBLE_DEVICES := -1
demo: install
	rm -rf $(RUN)
	$(BIN)/python -m sqznet.data --source=$(SOURCE) --out=data/$(NAME)
	$(BIN)/python -m sqznet.train --data=data/$(NAME) --recipe=$(RECIPE) --strategy=mirrored --replicas=2 --run_dir=$(RUN)
	$(BIN)/python -m sqznet.evaluate --model=$(RUN) --data=data/$(NAME)
	$(BIN)/python -m sqznet.export --model=$(RUN) --data=data/$(NAME) --format=all --out=export/artifacts/$(NAME)

test: SELECT := -m "not slow and not wheel"
test-part: PART ?= 0/8
test-part: SELECT = -m slow --part=$(PART)
test-all: SELECT := -m "not wheel"
test test-all test-part: install
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder $(SELECT)

# In one process: the tests share one installed environment of 3 GB.
test-wheel: SELECT ?= -m wheel
test-wheel: install
	$(BIN)/python -m pytest $(SELECT) tests/test_wheel.py

test-pythons:
	@for version in $(PYTHONS); do \
	    if ! python$$version -c "" 2>/dev/null; then echo "python$$version is not found"; continue; fi; \
	    echo "python$$version"; \
	    $(MAKE) check test PYTHON=python$$version VENV=.venv-$$version || exit; \
	done

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

clean:
	rm -rf $(VENV) .venv-3.* build *.egg-info .mypy_cache .pytest_cache .ruff_cache
