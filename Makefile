# From a fresh clone, with Python 3.11 or newer and make: `make demo`, `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check test-browser lint docs setup

demo: setup  ## render a scene, find its events, compare them with the truth
	$(BIN)/davel demo

test: setup  ## the fast lane, a few minutes: all but what is marked slow, docs, browser or bench
	$(BIN)/pytest -n auto --dist worksteal

check: setup  ## every test, those of the page in Chromium too, with more examples
	HYPOTHESIS_PROFILE=ci $(BIN)/pytest -n auto --dist worksteal -m ""

test-browser: setup  ## the page in the system's Chromium, or the one that CHROMIUM names
	$(BIN)/pytest -n auto --dist worksteal -m browser

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: setup  ## the documentation's site, in site/
	$(BIN)/mkdocs build --strict

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,plots,tensorboard,ray,readers,web,onnx,browser,docs]'
	touch $@
