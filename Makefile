# `make` lists the targets. Every target brings what it needs: Debian packages (as root), .venv, a kernel.

PYTHON  := $(shell for p in python3 python3.13 python3.12 python3.11; do \
             $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV    := .venv
PY      := $(VENV)/bin/python
READY   := $(VENV)/.ready
LAB     := tests/lab/lab
# pytest for any kernel: no cache, since the guest sees the tree read-only.
PYTEST  := $(PY) -m pytest -p no:cacheprovider
IN_LAB   = $(LAB) run --kernel $(1) --writable build --

PREFIX  ?= /usr
DESTDIR ?=
LIBDIR   = $(PREFIX)/lib/kl2tp
DOCDIR   = $(PREFIX)/share/doc/kl2tp

.DEFAULT_GOAL := help
.PHONY: help venv lint unit lab kernel kernel-6.1 interop test bench demo install uninstall clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9.-]*:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

venv: $(READY) ## make .venv with kl2tp (editable) and the development tools

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "kl2tp needs Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(LAB) packages python3-venv
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

lint: $(READY) ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

unit: $(READY) ## tests that need no kernel
	$(PY) -m pytest tests/unit

lab: $(READY) ## tests of the lab itself
	$(PY) -m pytest tests/lab

kernel: $(READY) ## tests on a real 6.12 kernel, in the lab
	$(call IN_LAB,6.12) $(PYTEST) tests/kernel

kernel-6.1: $(READY) ## the same on a 6.1 kernel
	$(call IN_LAB,6.1) $(PYTEST) tests/kernel

interop: $(READY) ## tests against xl2tpd, pppd and strongSwan, in the lab
	@if [ -d tests/interop ]; then set -x; $(call IN_LAB,6.12) $(PYTEST) tests/interop; fi

test: lint unit lab kernel kernel-6.1 interop ## everything above

bench: $(READY) ## hundreds of tunnels and sessions: prints a table
	$(call IN_LAB,6.12) $(PY) tests/scale/bench.py

demo: $(READY) ## a hub and its branches on this machine, in a throw-away kernel
	@if [ -t 0 ] && [ -t 1 ]; then tty=-i; fi; set -x; $(LAB) run $$tty --kernel 6.12 -- $(PY) tests/demo/demo.py

install: ## install into $(DESTDIR)$(PREFIX): a venv of its own, the command, units, examples
	$(PYTHON) -m venv $(DESTDIR)$(LIBDIR)
	$(DESTDIR)$(LIBDIR)/bin/python -m pip install --quiet --disable-pip-version-check .
	@# pip wrote the staging path into the scripts; the module form has no path to go stale.
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(DOCDIR)/examples
	printf '#!/bin/sh\nexec $(LIBDIR)/bin/python -P -m kl2tp "$$@"\n' > $(DESTDIR)$(LIBDIR)/bin/kl2tp
	chmod 755 $(DESTDIR)$(LIBDIR)/bin/kl2tp
	ln -sf $(LIBDIR)/bin/kl2tp $(DESTDIR)$(PREFIX)/bin/kl2tp

clean: ## remove what the targets made in the tree (kernels stay: tests/lab/lab clean --all)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
