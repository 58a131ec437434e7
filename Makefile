# `make` lists the targets. Each brings what it needs by itself: Debian packages (as root), .venv, a kernel.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help venv packages lint unit lab kernel kernel-6.1 interop test bench bench-tunnels bench-calls bench-ike fuzz soak soak-ike bench-smp demo install uninstall clean

FIND_PYTHON = $(firstword $(foreach p,$(1),$(shell $p -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
                2>/dev/null && echo $p)))
PYTHON  ?= $(call FIND_PYTHON,python3 python3.13 python3.12 python3.11)
VENV    := .venv
PY      := $(VENV)/bin/python
READY   := $(VENV)/.ready
LAB     := $(PYTHON) tests/lab/lab
# The guest sees the tree read-only, so pytest's cache would be lost; what is written to build/ stays.
IN_LAB   = $(LAB) run --kernel $(1) --timeout 3600 --writable build --
PYTEST   = $(PY) -m pytest -p no:cacheprovider

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9.-]*:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

venv: $(READY) ## make .venv: kl2tp (editable) and the tools for development

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "kl2tp needs Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(LAB) packages python3-venv
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PY) -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@

packages:
	@$(LAB) packages iproute2 iputils-ping nftables

lint: $(READY) ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

unit: $(READY) ## tests that need neither root nor a special kernel
	$(PY) -m pytest -n auto tests/unit

lab: $(READY) ## tests of the lab itself
	@$(LAB) build 6.12
	$(PY) -m pytest tests/lab

kernel: $(READY) packages ## tests on a real 6.12 kernel, in the lab
	$(call IN_LAB,6.12) $(PYTEST) tests/kernel tests/demo

kernel-6.1: $(READY) packages ## the same on a 6.1 kernel
	$(call IN_LAB,6.1) $(PYTEST) tests/kernel

ifneq ($(wildcard tests/interop),)
interop: $(READY) packages ## tests against other implementations, in the lab
	@$(LAB) packages $$(cat tests/interop/packages.txt 2>/dev/null)
	$(call IN_LAB,6.12) $(PYTEST) tests/interop
	$(call IN_LAB,6.1) $(PYTEST) tests/interop/ike/test_same_nat.py
else
interop:
endif

test: lint unit lab kernel kernel-6.1 interop ## all of the above

bench: bench-tunnels bench-calls bench-ike ## thousands of tunnels, calls and IKE connections: prints tables, writes build/bench.json

# A process of a User Mode Linux with thousands of devices has more mappings than hosts allow by default.
bench-tunnels: $(READY) packages
	-sysctl -q -w vm.max_map_count=1048576
	$(LAB) run --kernel 6.12 --timeout 5400 --writable build -- $(PY) tests/scale/bench.py

bench-calls: $(READY) packages
	@$(LAB) packages $$(cat tests/interop/packages.txt)
	-sysctl -q -w vm.max_map_count=1048576
	$(LAB) run --kernel 6.12 --timeout 3600 --writable build -- $(PY) tests/scale/ppp_bench.py

bench-ike: $(READY) packages
	@$(LAB) packages $$(cat tests/interop/packages.txt)
	$(LAB) run --kernel 6.12 --timeout 3600 --writable build -- $(PY) tests/scale/ike_bench.py

SECONDS ?= 60
fuzz: $(READY) ## every decoder and protocol machine for SECONDS (60) each, guided by coverage
	@$(PY) -c 'import atheris' 2>/dev/null || $(PY) -m pip install -qq --disable-pip-version-check atheris
	$(PY) tests/fuzz/run.py --seconds $(SECONDS)

soak: $(READY) packages ## ten minutes with five hundred calls over a line that loses, doubles and reorders packets
	@$(LAB) packages $$(cat tests/interop/packages.txt)
	$(LAB) run --kernel 6.12 --timeout 2400 --writable build -- env KL2TP_SOAK=600 $(PYTEST) -s -o faulthandler_timeout=0 tests/interop/test_bad_line.py

soak-ike: $(READY) packages ## a hundred tunnels get new keys every five seconds for two minutes; strongSwan hangs for one
	@$(LAB) packages $$(cat tests/interop/packages.txt)
	$(LAB) run --kernel 6.12 --timeout 2400 --writable build -- env KL2TP_SOAK=120 $(PYTEST) -s -o faulthandler_timeout=0 tests/interop/ike/test_rekeys.py tests/interop/ike/test_restarts.py

bench-smp: $(READY) packages ## deletion on a multiprocessor kernel, against one by one (slow)
	$(call IN_LAB,vng) $(PY) tests/scale/delete_smp.py
	$(call IN_LAB,vng) $(PY) tests/scale/ppp_kernel.py --smp

demo: $(READY) packages ## a hub and its branches: tunnels, then calls, in a throw-away kernel
	@if [ -t 0 ] && [ -t 1 ]; then tty=-i; fi; set -x; $(LAB) run $$tty --kernel 6.12 -- $(PY) tests/demo/demo.py

# --- installation -------------------------------------------------------------------------------------------------
# A virtual environment of its own, so that the system's Python stays as it is. The system's interpreter comes first:
# one in somebody's home directory is of no use to a service. With DESTDIR, for packagers, nothing is activated.

PREFIX         ?= /usr
DESTDIR        ?=
INSTALL_PYTHON ?= $(call FIND_PYTHON,/usr/bin/python3 /usr/local/bin/python3 $(PYTHON))
LIBDIR   = $(PREFIX)/lib/kl2tp
DOCDIR   = $(PREFIX)/share/doc/kl2tp
# How the files in systemd/ are called where they belong. The others are examples.
INSTALLED = kl2tp.service:lib/systemd/system/kl2tp.service \
            kl2tp-keeper.service:lib/systemd/system/kl2tp-keeper.service \
            kl2tp.sysusers:lib/sysusers.d/kl2tp.conf \
            kl2tp.tmpfiles:lib/tmpfiles.d/kl2tp.conf \
            kl2tp.rules:lib/udev/rules.d/90-kl2tp.rules \
            kl2tp.link:lib/systemd/network/70-kl2tp.link \
            kl2tp.network:lib/systemd/network/05-kl2tp.network \
            kl2tp-calls.network:lib/systemd/network/05-kl2tp-calls.network

install: ## install under PREFIX (/usr), as root: the command, the systemd unit, examples
	@$(INSTALL_PYTHON) -c 'import ensurepip' 2>/dev/null || $(LAB) packages python3-venv
	@echo "installing kl2tp under $(DESTDIR)$(PREFIX) with $$($(INSTALL_PYTHON) --version)"
	@$(INSTALL_PYTHON) -m venv --clear $(DESTDIR)$(LIBDIR)
	@$(DESTDIR)$(LIBDIR)/bin/python -m pip install -qq --disable-pip-version-check .
	@printf '#!%s -I\nimport sys\n\nfrom kl2tp.cli import main\n\nsys.exit(main())\n' $(LIBDIR)/bin/python \
		> $(DESTDIR)$(LIBDIR)/bin/kl2tp
	@install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(DOCDIR)/examples
	@ln -sfn $(LIBDIR)/bin/kl2tp $(DESTDIR)$(PREFIX)/bin/kl2tp
	@install -m 644 README.md LICENSE $(DESTDIR)$(DOCDIR)
	@install -m 644 config/* systemd/kl2tp.sysctl systemd/*.conf $(DESTDIR)$(DOCDIR)/examples
	@for pair in $(INSTALLED); do \
		file=systemd/$${pair%%:*} target=$(DESTDIR)$(PREFIX)/$${pair#*:}; \
		test -f $$file || continue; \
		install -D -m 644 $$file $$target && sed -i 's|/usr/bin/kl2tp|$(PREFIX)/bin/kl2tp|' $$target; \
	done
	@test -n "$(DESTDIR)" || ! test -d /run/systemd/system || \
		{ systemd-sysusers && systemd-tmpfiles --create; systemctl daemon-reload; }
	@test -n "$(DESTDIR)" || ! test -S /run/udev/control || \
		{ udevadm control --reload && udevadm trigger --subsystem-match=ppp; }
	@echo "next: write /etc/kl2tp/kl2tp.yaml (examples in $(DOCDIR)/examples), then: systemctl enable --now kl2tp-keeper kl2tp"

uninstall: ## remove what install put there; configuration, keys and tunnels stay
	@test -n "$(DESTDIR)" || ! test -d /run/systemd/system || systemctl disable --now kl2tp kl2tp-keeper || true
	rm -rf $(DESTDIR)$(LIBDIR) $(DESTDIR)$(DOCDIR)
	rm -f $(DESTDIR)$(PREFIX)/bin/kl2tp
	rm -f $(foreach pair,$(INSTALLED),$(DESTDIR)$(PREFIX)/$(lastword $(subst :, ,$(pair))))

clean: ## remove what the targets made in the tree; kernels stay (tests/lab/lab clean --all)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
