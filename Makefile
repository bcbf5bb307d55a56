# make run    set up, then start rvcd        make test   set up, then everything CI checks
# Both can be called again at any time: what is done already is not done twice. `make help` lists the rest.
#
# PYTHON=python3.12               the Python to use; default: the first suitable one of tools/find_python.sh
# ARGS="--config my.toml"         arguments for `rvcd run`, or for pytest with `make test` (ARGS="-k config")
# JOBS=4                          how many tests run at once, instead of 2; JOBS=0: one after the other, in one process
# TORCH, TORCH_PIP_ARGS           which PyTorch, and pip's arguments to get it: see tools/install_torch.sh

SHELL := /bin/bash
VENV ?= .venv
ARGS ?=
JOBS ?= 2
export PYTHON TORCH TORCH_PIP_ARGS
export PIP_DISABLE_PIP_VERSION_CHECK := 1

BIN := $(VENV)/bin
C_FOLDERS := rvcd/ipc rvcd/audio rvcd/nets/_conv
C_MADE := $(foreach folder,rvcd/ipc rvcd/nets/_conv,$(folder)/_native*.so $(folder)/_native.c)
C_SOURCES := $(filter-out %/_native.c,$(foreach folder,$(C_FOLDERS),$(wildcard $(folder)/*.[ch] $(folder)/_build.py)))

.PHONY: help
help:  ## say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | column -t -s '|'

.PHONY: run
run: packages-run $(VENV)/.installed  ## set up, then start rvcd on the default devices (or on the virtual one, with demo speech)
	@echo
	@echo "Starting rvcd. To see and steer it, open another terminal here and type:  $(BIN)/rvcctl"
	@echo "Ctrl-C ends it."
	@echo
	@exec $(BIN)/rvcd run $(ARGS)

.PHONY: test
test: packages-test $(VENV)/.installed-dev  ## set up, then check style, types, boundaries and behaviour
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n $(JOBS) $(ARGS)

.PHONY: soak
soak: packages-test $(VENV)/.installed-dev  ## set up, then run the tests that stream for minutes, one after the other
	$(BIN)/pytest -m soak $(ARGS)

.PHONY: setup
setup: packages-run $(VENV)/.installed  ## set up only

.PHONY: format
format: $(VENV)/.installed-dev  ## let ruff write the code's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: install-service
install-service: $(VENV)/.installed  ## install the systemd user unit for this clone
	@tools/install_service.sh $(VENV)

.PHONY: clean
clean:  ## remove the environment and everything built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f $(C_MADE)
	find rvcd rvcctl tests tools -name __pycache__ -prune -exec rm -rf {} +

.PHONY: packages-run packages-test
packages-run packages-test: packages-%:
	@tools/system_packages.sh $*

# The environment is made again when its Python has gone (an upgraded system, a moved clone).
$(VENV)/.made: $(if $(shell $(BIN)/python -c '' 2>/dev/null && echo there),,remake)
	@python=$$(tools/find_python.sh) || { echo "no Python 3.10 to 3.13 that can make a virtual environment" >&2; exit 1; }; \
	echo "environment: $(VENV) with $$python"; rm -rf $(VENV) && "$$python" -m venv $(VENV)
	@touch $@

.PHONY: remake
remake:

$(VENV)/.torch: $(VENV)/.made
	@tools/install_torch.sh $(BIN)/python
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml setup.py $(C_SOURCES)
	@echo "installing rvcd and what it needs into $(VENV) (the first time takes some minutes)"
	@rm -rf build $(C_MADE)
	@$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing the tools for the tests"
	@$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@
