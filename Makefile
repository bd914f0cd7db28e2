# Commands come in, a working checkout goes out: everything that is built lies in .venv and rust/target.

SHELL := /bin/sh
# cargo is often installed for one user only; a user's PATH on Debian lacks the folders of nginx, nft, modprobe.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

PACKAGE := .venv/.package-installed
TOOLS := .venv/.tools-installed
# Only these are compiled; Python sources are used where they lie (an editable install).
COMPILED := pyproject.toml rust/Cargo.toml rust/Cargo.lock $(shell find rust/src -name '*.rs')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint lab bench accuracy readme clean

help:  ## list these targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

demo: $(PACKAGE)  ## set everything up and diagnose examples/gateway-502
	@scripts/demo

test: $(TOOLS)  ## set up what the tests need (apt, where it may) and run all of them; ARGS= for pytest
	@scripts/install-debian-packages
	@.venv/bin/python -m scripts.test $(ARGS)

lint: $(TOOLS)  ## style, types and formatting of Python and Rust
	@scripts/lint

lab: $(PACKAGE)  ## make a fault happen on a real kernel, as a case: make lab NAME=synack-lost (without NAME: list them)
	@scripts/install-debian-packages
	@.venv/bin/tcpwhy lab $(if $(NAME),run $(NAME),list)

bench: $(PACKAGE)  ## measure the scan beside cat, tcpdump and tshark; ARGS="--megabytes 1000" for the large file
	@.venv/bin/python -m benchmarks $(ARGS)

accuracy: $(PACKAGE)  ## hours: judge verdicts on many real cases, write docs/accuracy.md; ARGS="judge table --folder F" for a part
	@scripts/install-debian-packages .ci/debian-packages benchmarks/accuracy/debian-packages
	@.venv/bin/python -m benchmarks.accuracy $(ARGS)

readme: $(TOOLS)  ## write anew what the README shows of the program's own output
	@.venv/bin/python -m scripts.readme

clean:  ## remove what was built
	rm -rf .venv rust/target src/tcpwhy/_core.abi3.so

.venv/bin/python:
	@scripts/create-venv

$(PACKAGE): $(COMPILED) | .venv/bin/python
	@scripts/check-prerequisites build
	@echo "building tcpwhy in release mode (some minutes the first time)"
	.venv/bin/pip install --quiet --editable .
	@touch $@

$(TOOLS): pyproject.toml $(PACKAGE)
	@echo "installing what the tests need from pyproject.toml"
	@.venv/bin/python -m scripts.requirements test >$@.list
	.venv/bin/pip install --quiet --requirement $@.list
	@touch $@
