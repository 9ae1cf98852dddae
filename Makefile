# What is needed beforehand: Python 3.11 or later with pip and venv. The rest is made in .venv.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTHON ?=

# Tests at a time, each process with a virtual display of its own where Xvfb is installed.
JOBS ?= 2

# Programs write their caches below HOME: where there is none, give them one.
ifneq ($(shell [ -n "$$HOME" ] && [ -d "$$HOME" ] && [ -w "$$HOME" ] && echo yes),yes)
export HOME := $(CURDIR)/$(VENV)/home
endif

# Without a display, windows open in a virtual one.
VIRTUAL_DISPLAY :=
ifeq ($(shell uname -s),Linux)
ifeq ($(DISPLAY)$(WAYLAND_DISPLAY),)
VIRTUAL_DISPLAY := xvfb-run -a -s "-screen 0 1400x900x24"
endif
endif
DEMO_OPTIONS := $(if $(VIRTUAL_DISPLAY),--out demo-output)

.DEFAULT_GOAL := help
.PHONY: help demo test lint clean system-libraries

help: ## Show these lines.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 20

demo: system-libraries $(INSTALLED) ## Segment a sample volume and show it; without a display, save pictures in demo-output.
	$(VIRTUAL_DISPLAY) $(BIN)/medattn demo $(DEMO_OPTIONS)

test: system-libraries lint ## Run all checks: lint, then the tests.
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist worksteal

lint: $(INSTALLED) ## Check style, types and the layering of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy napari_medattn
	$(BIN)/lint-imports

system-libraries: ## Check for the system libraries that Qt needs; as root on Debian, install them.
	@sh tools/system-libraries.sh

$(INSTALLED): pyproject.toml constraints.txt
	@mkdir -p "$$HOME"
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		python=$$(sh tools/find-python.sh "$(PYTHON)") || exit 1; \
		echo "Making $(VENV) with $$python"; \
		"$$python" -m venv --clear $(VENV) || exit 1; \
		mkdir -p "$$HOME"; \
	fi
	$(BIN)/python -m pip install --no-input --disable-pip-version-check -c constraints.txt -e ".[pyqt6,test]" </dev/null
	@touch $@

clean: ## Remove the virtual environment and everything else that was made here.
	rm -rf $(VENV) build dist demo-output *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
