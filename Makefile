## nasflow: what to type in a clone
##
##   make run       set everything up, then run the whole pipeline on this computer
##   make test      set everything up, then run every check and test
##   make install   set everything up: .venv with pinned packages
##   make bench     run the quick benchmarks; each prints one JSON document
##   make clean     remove caches and builds (results stay: 'nasflow clean' is for those)
##   make distclean the same, and .venv
##
## Variables: PYTHON=python3.12 chooses the interpreter, ARGS='--seed 3' goes to nasflow run,
## PYTEST='-k store' to pytest, NASFLOW_APT=0 leaves Debian's package manager alone. pip heeds its own
## settings (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS): a CPU build of torch is taken where one is offered.

PYTHON ?= python3
ARGS ?=
PYTEST ?=
NASFLOW_APT ?= 1

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCHMARKS = $(filter-out _%,$(notdir $(basename $(wildcard benchmarks/*.py))))

export NASFLOW_APT

.ONESHELL:
.SHELLFLAGS := -euc
.DEFAULT_GOAL := help
.PHONY: help install run test bench clean distclean

help:
	@sed -n 's/^## \{0,1\}//p' Makefile

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@PYTHON='$(PYTHON)'
	say() { printf 'make install: %s\n' "$$*"; }
	stop() { printf 'make install: %s\n' "$$*" >&2; exit 1; }
	command -v "$$PYTHON" >/dev/null || stop "there is no '$$PYTHON'. Install Python 3.11, 3.12 or 3.13, or name yours: make $(MAKECMDGOALS) PYTHON=/path/to/python3"
	"$$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	    || stop "'$$PYTHON' is $$("$$PYTHON" --version 2>&1), but Python 3.11, 3.12 or 3.13 is needed: make $(MAKECMDGOALS) PYTHON=/path/to/python3"
	installed() { dpkg-query -W -f='$${Status}' "$$1" 2>/dev/null | grep -q 'ok installed'; }
	has_venv() { "$$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; }
	of_debian() { "$$PYTHON" -c 'import sys; sys.exit(sys.base_prefix != "/usr")'; }
	if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
	    missing=
	    for package in dataset-fashion-mnist bubblewrap mksh aapt android-framework-res chromium; do
	        installed "$$package" || missing="$$missing $$package"
	    done
	    if ! has_venv && of_debian; then missing="$$missing python3-venv"; fi
	    if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && [ "$$NASFLOW_APT" != 0 ]; then
	        say "installing the Debian packages$$missing (NASFLOW_APT=0 would leave them out)"
	        export DEBIAN_FRONTEND=noninteractive
	        { apt-get update && apt-get install -y --no-install-recommends $$missing; } \
	            || say "Debian's packages could not be installed; going on without:$$missing"
	    elif [ -n "$$missing" ]; then
	        say "these Debian packages are missing: sudo apt-get install$$missing"
	        case "$$missing" in *fashion*) say "(without dataset-fashion-mnist the first run downloads the images)";; esac
	        case "$$missing" in *bubblewrap*) say "(without bubblewrap there is no virtual phone, and its tests are skipped)";; esac
	        case "$$missing" in *aapt*|*framework*) say "(without aapt and android-framework-res, tests of packages for Android are skipped)";; esac
	        case "$$missing" in *chromium*) say "(without chromium, tests that look at pages in a browser are skipped)";; esac
	        case "$$missing" in *mksh*) say "(without mksh, Android's shell, the virtual phone takes /bin/sh, and tests that ask for it are skipped)";; esac
	    fi
	else
	    say "no Debian here: the first run downloads the images (30 MB) into your cache."
	fi
	has_venv || stop "'$$PYTHON' cannot make virtual environments (it lacks ensurepip). On Debian: sudo apt-get install python3-venv; else choose another Python: make $(MAKECMDGOALS) PYTHON=/path/to/python3"
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then
	    "$$PYTHON" -m venv --clear $(VENV)
	fi
	say "installing Python packages into $(VENV) (minutes, several GB the first time)"
	# What builds nasflow itself, and adb-shell, which comes as source alone.
	$(BIN)/python -m pip install --quiet -c constraints.txt hatchling editables setuptools wheel
	$(BIN)/python -m pip install --quiet --no-build-isolation -c constraints.txt -e '.[dev]'
	touch $(STAMP)

run: $(STAMP)
	@$(BIN)/nasflow run $(ARGS)

test: $(STAMP)
	@set -x
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	# Tests start Python some hundred times: compiled modules are kept, whatever the environment says.
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n auto --dist loadgroup -m 'not phone and not gpu' $(PYTEST)

bench: $(STAMP)
	@failed=
	for name in $(BENCHMARKS); do
	    printf 'benchmarks.%s --quick\n' "$$name" >&2
	    $(BIN)/python -m "benchmarks.$$name" --quick || failed="$$failed $$name"
	done
	if [ -n "$$failed" ]; then printf 'make bench: below the bar:%s\n' "$$failed" >&2; exit 1; fi

clean:
	@rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	@rm -rf $(VENV)
