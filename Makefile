# What a developer runs; `make` alone lists it.  Everything needed is set up on the way: a virtual
# environment in .venv, and, where root can use apt, the programs that tests run.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
FUZZ_SECONDS ?= 60
ARGS ?=
export PATH := $(CURDIR)/$(BIN):$(PATH)

SOURCES := $(shell find src native meson.build meson.options pyproject.toml \
	-name __pycache__ -prune -o -print)
MESON_SANITIZE := -Db_sanitize=address,undefined -Dstatic=disabled -Dbuildtype=debugoptimized

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

.PHONY: run
run: $(VENV)/installed.stamp ## run a container that shows its own walls, and the time of each step
	@limits="--memory 2g --cpus 10%"; \
	$(BIN)/cloche explain run $$limits host true >/dev/null || limits= ; \
	[ "$$limits" ] || echo "so without limits, for this time:" >&2; \
	$(BIN)/cloche run --trace $$limits -i host sh <examples/first-light.sh

.PHONY: test
test: $(VENV)/installed.stamp $(VENV)/test.stamp packages ## run all tests (ARGS='-k wire' for some)
	$(BIN)/pytest --cov --cov-report=term $(ARGS)

.PHONY: lint
lint: $(VENV)/lint.stamp $(VENV)/test.stamp ## check formatting, types and who imports whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $$(find native bench -name '*.[ch]')
	PYTHONPATH=src $(BIN)/lint-imports --no-cache

.PHONY: format
format: $(VENV)/lint.stamp ## put every file into the one format
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format --quiet
	$(BIN)/clang-format -i $$(find native bench -name '*.[ch]')

.PHONY: sanitize
sanitize: $(VENV)/installed.stamp $(VENV)/test.stamp packages ## test the launcher with ASan and UBSan
	[ -d build/sanitize ] || $(BIN)/meson setup build/sanitize $(MESON_SANITIZE)
	$(BIN)/ninja --quiet -C build/sanitize
	CLOCHE_LAUNCHER=$(CURDIR)/build/sanitize/native/cloche-launch \
		$(BIN)/pytest tests/native $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)/build.stamp packages ## feed damaged plans to the launcher's decoder for FUZZ_SECONDS
	[ -d build/fuzz ] || CC=clang $(BIN)/meson setup build/fuzz -Dfuzz=true -Dstatic=disabled
	$(BIN)/ninja --quiet -C build/fuzz
	$(BIN)/python native/fuzz/make_corpus.py build/corpus
	build/fuzz/native/fuzz-decode -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 build/corpus

.PHONY: bench
bench: $(VENV)/installed.stamp ## compare with the peers found here, side by side (ARGS='--json FILE')
	$(BIN)/python -m bench.run $(ARGS)

.PHONY: docs
docs: $(VENV)/installed.stamp $(VENV)/test.stamp ## check the documents: links, and examples that really run
	$(BIN)/pytest tests/docs $(ARGS)

.PHONY: wheel
wheel: $(VENV)/build.stamp ## build sdist and wheel, and install the wheel where nothing else is
	rm -rf dist build/from-sdist
	$(BIN)/python -c 'import mesonpy; print(mesonpy.build_sdist("dist"))'
	tar -xzf dist/cloche-*.tar.gz --one-top-level=build/from-sdist --strip-components=1
	$(BIN)/pip wheel --quiet --no-build-isolation --no-deps --wheel-dir dist ./build/from-sdist
	rm -rf build/fresh && tools/venv build/fresh
	build/fresh/bin/pip install --quiet dist/cloche-*.whl
	build/fresh/bin/cloche --version

.PHONY: packages
packages: ## install the programs that tests run (root, with apt)
	@tools/packages

.PHONY: clean
clean: ## remove everything that was made here
	rm -rf $(VENV) build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# Tests and `make run` use the installed package, as users have it: its start-up time counts.
$(VENV)/installed.stamp: $(VENV)/build.stamp $(SOURCES)
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --force-reinstall \
		--config-settings=build-dir=build/package .
	@touch $@

$(VENV)/build.stamp $(VENV)/test.stamp $(VENV)/lint.stamp: pyproject.toml tools/venv
	tools/venv $(VENV) $(basename $(@F))
	@touch $@
