# The only list of commands. `make` alone shows it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

export CARGO_TARGET_DIR ?= $(CURDIR)/target
TOOLS := $(CURDIR)/.tools
PYTHON := $(TOOLS)/venv/bin/python
DEBUG := $(CARGO_TARGET_DIR)/debug
RELEASE := $(CARGO_TARGET_DIR)/release

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-8s %s\n", $$1, $$2 }'

setup: $(TOOLS)/python.done $(TOOLS)/node.done redis ## Install what the project needs, into .tools and node_modules

$(TOOLS)/python.done: sdk-python/pyproject.toml sdk-python/dev-requirements.txt
	@mkdir -p $(TOOLS)
	[ -x $(PYTHON) ] || python3 -m venv $(TOOLS)/venv
	$(PYTHON) -m pip install -q --disable-pip-version-check -r sdk-python/dev-requirements.txt -e sdk-python
	touch $@

$(TOOLS)/node.done: sdk-node/package-lock.json
	@mkdir -p $(TOOLS)
	(cd sdk-node && npm ci --no-audit --no-fund --loglevel=error)
	touch $@

# Tests start their own Redis processes, on free ports, and end them. REDIS_SERVER=… names another program.
redis:
	@tests/setup-redis.sh

gen: setup ## Write the generated code anew
	cargo run -q -p protoc-gen-jobwire --bin gen
	sdk-python/gen.sh $(PYTHON) sdk-python/src
	sdk-node/gen.sh

gen-check: setup ## Fail if `make gen` would change anything
	@out=$$(mktemp -d)
	trap 'rm -rf "$$out"' EXIT
	cargo run -q -p protoc-gen-jobwire --bin gen "$$out/rust"
	diff -r "$$out/rust" proto/src/gen
	sdk-python/gen.sh $(PYTHON) "$$out/python"
	diff -r -x '*.py[co]' -x __pycache__ -x __init__.py -x '__init__.pyi' "$$out/python/jobwire/v1" sdk-python/src/jobwire/v1
	sdk-node/gen.sh "$$out/node"
	diff -r "$$out/node" sdk-node/src/gen
	echo "generated code is what the contract gives"

check: setup gen-check ## Formatting, lints, types, contract: the quick half
	cargo fmt --all --check
	cargo clippy -q --workspace --all-targets -- -D warnings
	sdk-rust/check-features.sh
	sdk-node/node_modules/.bin/buf lint proto
	$(PYTHON) -m ruff check sdk-python
	$(PYTHON) -m ruff format --check sdk-python
	$(PYTHON) -m mypy --config-file sdk-python/pyproject.toml sdk-python/src sdk-python/tests sdk-python/examples
	(cd sdk-node && npm run --silent check)

build: setup ## The server and everything that tests start
	cargo build -q --workspace --all-targets
	(cd sdk-node && npm run --silent build)

package: build ## Wheel, npm package and crates, in dist, each tried in clean environments
	export JOBWIRE_BIN=$(DEBUG)/jobwire
	rm -rf dist
	for sdk in python node rust; do
	  [ -x sdk-$$sdk/package.sh ] || continue
	  sdk-$$sdk/package.sh dist/$$sdk
	  packed=dist/$$sdk
	  [ $$sdk != node ] || packed=$$(echo dist/node/*.tgz)
	  sdk-$$sdk/check-package.sh $$packed
	done

reference: setup ## The API reference of the SDKs, from their doc comments, beside the build
	out=$(CARGO_TARGET_DIR)/reference
	rm -rf $$out
	$(PYTHON) -m pdoc -o $$out/python jobwire jobwire.testing jobwire.classifiers '!jobwire.v1'
	(cd sdk-node && node_modules/.bin/typedoc --entryPoints src/index.ts src/testing.ts src/otel.ts src/nest.ts \
	  --out $$out/node --excludePrivate --excludeInternal --disableSources --logLevel Error --name Jobwire)
	cargo doc -q -p jobwire --no-deps --all-features
	cp -r $(CARGO_TARGET_DIR)/doc $$out/rust
	echo "$$out: python/index.html node/index.html rust/jobwire/index.html"

test: check build ## Every suite
	export JOBWIRE_BIN=$(DEBUG)/jobwire
	cargo test -q --workspace
	$(PYTHON) -m pytest -q sdk-python/tests
	(cd sdk-node && npm test --silent)
	$(MAKE) --no-print-directory package
	echo "all suites passed"

demo: setup ## A real workload in three languages; DEMO_DIR=… for other files
	cargo build -q --release -p jobwire-server -p jobwire-demo
	(cd sdk-node && npm run --silent build)
	JOBWIRE_BIN=$(RELEASE)/jobwire DEMO_WORKER=$(RELEASE)/demo-worker DEMO_PYTHON=$(PYTHON) $(RELEASE)/jobwire-demo

run: ## A server from this checkout
	cargo run -q --release -p jobwire-server -- dev

bench: $(if $(findstring --sdk,$(BENCH)),setup,redis) ## Figures of a release server on this machine; STORE=memory|embedded|redis, BENCH="--quick", "--sdk python --peer celery", "--help"
	cargo build -q --release -p jobwire-server -p jobwire-tests --bin jobwire --bin bench
	$(if $(findstring --sdk,$(BENCH)),(cd sdk-node && npm run --silent build))
	$(RELEASE)/bench --store $${STORE:-embedded} $(BENCH)

soak: build ## The crash suites, of one server and of replicas on Redis, for SOAK minutes each (default 30)
	export JOBWIRE_BIN=$(DEBUG)/jobwire JOBWIRE_SOAK=$${SOAK:-30}
	cargo test -q -p jobwire-tests --test crash
	cargo test -q -p jobwire-tests --test replicas -- --test-threads 1 --nocapture

.PHONY: package reference bench soak demo run help setup redis gen gen-check check build test
