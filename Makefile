# Every target runs in $(VENV), which is made on first use.
.DEFAULT_GOAL := help
.PHONY: help demo test test-spark test-fast lint types docs notebooks dist bench bench-full clean distclean

# Tried in this order; `make PYTHON=python3.12 ...` names one.
PYTHON = python3.11 python3.12 python3.13 python3.10 python3
VENV = .venv
PACKAGES = -e '.[dev]'
PY = $(VENV)/bin/python
CODE = $(wildcard spark_cnn_ensemble tests benchmarks docs/conf.py docs/_ext scripts/run-notebooks scripts/archive-classes)

# Spark starts its Python workers by this name; without it, they would be the python3 of PATH.
export PYSPARK_PYTHON = $(CURDIR)/$(PY)
# Some container images set it; each process that the tests start would compile the package again.
unexport PYTHONDONTWRITEBYTECODE
with_java = JAVA_HOME=$$(scripts/java-home) && export JAVA_HOME &&

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## train and score a small ensemble
	@$(with_java) $(PY) -m spark_cnn_ensemble demo $(ARGS)

test: $(VENV)/spark.jsa ## run the tests (ARGS="-k vote" goes to pytest)
	@$(with_java) $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-spark: ## run the tests on another Spark, in .spark/ (SPARK=3.5.8 PYTHON=python3.10 ARGS=tests/test_checks.py)
	@[ -n "$(SPARK)" ] || { echo "Name the version: make test-spark SPARK=3.5.8" >&2; exit 1; }
	@$(MAKE) --no-print-directory test VENV=.spark/$(SPARK) PACKAGES="-e '.[test]' pyspark==$(SPARK)"

# Without Java, so that a test that starts Spark and is not marked fails here.
test-fast: $(VENV)/.installed ## run the quick tests that need no Spark session
	@JAVA_HOME=/nonexistent $(PY) -m pytest -n 2 --dist loadfile -m "not spark and not slow" $(ARGS)

lint: $(VENV)/.installed ## check style and format with ruff
	@$(PY) -m ruff check $(CODE)
	@$(PY) -m ruff format --check $(CODE)

types: $(VENV)/.installed ## check types with mypy
	@$(PY) -m mypy spark_cnn_ensemble

docs: $(VENV)/.installed ## build the documentation in docs/_build/html; warnings are errors
	@$(PY) -m sphinx -b html -W --keep-going -q docs docs/_build/html
	@! grep -rlE '<(script|link|img|iframe)[^>]* (src|href)="(https?:)?//' --include='*.html' docs/_build/html || \
	  { echo "These pages load files from another host." >&2; exit 1; }
	@echo "Built docs/_build/html/index.html."

notebooks: $(VENV)/.installed ## run the notebooks in place (ARGS=--check: write nothing)
	@$(with_java) $(PY) scripts/run-notebooks $(ARGS) $(wildcard notebooks/*.ipynb)

dist: $(VENV)/.installed ## build sdist and wheel, and run README's lines from the wheel in an empty environment
	@rm -rf dist
	@$(PY) -m build --quiet .
	@$(PY) -m twine check --strict dist/*
	@$(with_java) scripts/check-dist dist/*.whl

# Benchmarks that take minutes and little disk.
BENCHMARKS = text_reading training_against_bare_loop scoring_speed small_partitions early_decision param_maps scaling large_members

bench: $(VENV)/.installed ## run the benchmarks that take minutes; results go to benchmarks/RESULTS.md
	@$(with_java) for name in $(BENCHMARKS); do \
	  echo "$$name"; $(PY) benchmarks/$$name.py || exit 1; \
	done

bench-full: ## run all benchmarks: hours, 30 GiB of disk, and peers in environments of their own
	@$(MAKE) bench BENCHMARKS="$(basename $(notdir $(wildcard benchmarks/[a-z]*.py)))"

clean: ## remove caches, build outputs and what Spark leaves behind
	@rm -rf build dist docs/_build docs/notebooks .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . \( -path ./.venv -o -path ./.spark -o -path ./.git \) -prune -o \( -name __pycache__ -o -name '*.egg-info' \
	  -o -name .ipynb_checkpoints -o -name spark-warehouse -o -name metastore_db -o -name derby.log \) \
	  -prune -exec rm -rf {} +

distclean: clean ## clean, and remove the environments
	@rm -rf .venv .spark .peers

$(VENV)/spark.jsa: $(VENV)/.installed scripts/archive-classes
	@echo "Archiving Spark's Java classes, once; each session of the tests starts faster with them ..."
	@$(with_java) $(PY) scripts/archive-classes $@ >$@.log 2>&1 || { echo "Without it, as $@.log explains."; touch $@; }

# A name on PATH may be a shim without a Python behind it, so each is run, not only looked up.
# Debian's python3 has no ensurepip; its own pip then installs pip into $(VENV).
$(VENV)/.installed: setup.cfg pyproject.toml
	@set -e; \
	if ! $(PY) -c '' 2>/dev/null; then \
	  found=; \
	  for p in $(PYTHON); do \
	    if $$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	    then found=$$p; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "No Python 3.10 to 3.13 among: $(PYTHON); install one, or name it with make PYTHON=..." >&2; \
	    exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$found." >&2; \
	  if $$found -c 'import ensurepip' 2>/dev/null; then $$found -m venv $(VENV); \
	  else $$found -m venv --without-pip $(VENV); $$found -m pip --python $(PY) install -q pip; fi; \
	fi
	@echo "Installing into $(VENV) (the first time takes minutes)." >&2
	@$(PY) -m pip install -q $(PACKAGES)
	@touch $@
