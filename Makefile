# Every verb of the project. `make` lists them.
#
#   CLUSTER=local            the cluster that `make cluster` brings up on this machine (Debian, root); the default
#   CLUSTER=context:NAME     that context of your kubeconfig; nothing else is ever touched
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export CLUSTER ?= local
export IMAGE_TAG ?= dev
CARGO ?= cargo
TOOLS := $(CURDIR)/.cache/tools
CARGO_DENY_VERSION := 0.20.2
CARGO_MUTANTS_VERSION := 27.1.0

.PHONY: help
help: ## List the verbs
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Cluster up, operator in, an McpCluster applied, a tool called through it, the status shown
	@tests/run/demo

.PHONY: down
down: ## Remove what `make demo` and `make test` created, and the local cluster
	@tests/run/down

.PHONY: test
test: ## Everything: `make check`, then the end-to-end tests on the cluster
	@tests/run/test

.PHONY: check
check: fmt-check lint deny unit ## What needs neither root nor a cluster: formatting, lints, licenses, layering, unit tests

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: fmt-check
fmt-check:
	$(CARGO) fmt --all --check

.PHONY: lint
lint: ## clippy, warnings denied
	$(CARGO) clippy --workspace --all-targets --features mcp-tests/cluster --locked -- -D warnings

.PHONY: unit
unit: ## Unit, contract and layering tests
	$(CARGO) test --workspace --locked

.PHONY: deny
deny: $(TOOLS)/bin/cargo-deny ## Bans, licenses and sources of everything that is linked
	$(TOOLS)/bin/cargo-deny --all-features --log-level error check bans licenses sources

$(TOOLS)/bin/cargo-deny:
	env -u CARGO_TARGET_DIR $(CARGO) install --locked --quiet --root $(TOOLS) cargo-deny@$(CARGO_DENY_VERSION)

.PHONY: generate
generate: ## Write the generated files again: the CRD and the API reference
	$(CARGO) run --locked -p mcp-crds --example generate

.PHONY: doc
doc: ## The crates' documentation
	$(CARGO) doc --workspace --no-deps --locked

.PHONY: images
images: ## Build both images and import them into the cluster (or push them: IMAGE_REGISTRY=host/path)
	@tests/run/images

.PHONY: cluster
cluster: ## Bring up the local cluster alone
	@tests/run/cluster-up

.PHONY: e2e
e2e: ## Only the end-to-end tests, on the cluster; ONLY=name filters
	@tests/run/e2e $(ONLY)

.PHONY: conformance
conformance: ## The official suite of MCP against our fixture: one shard, then three behind a proxy; ONLY=one or three
	@tests/conformance/run $(ONLY)

.PHONY: clients
clients: ## fastmcp and the MCP Inspector against our fixture; ONLY="typescript python rust rolling" as make test does
	@tests/clients/run $(or $(ONLY),fastmcp inspector)

.PHONY: simulate
simulate: ## The operator's decisions, an HPA's and a KPA's on simulated traffic; TRACES=path, RUNS=number, SEEDS=random draws new traces
ifdef SEEDS
	$(CARGO) run --quiet --locked -p mcp-simulator -- random --from $(SEEDS)
else
	$(CARGO) run --quiet --locked -p mcp-simulator -- run $(or $(TRACES),tests/traces) --seeds $(or $(RUNS),10) --json target/simulation.json --plots target/plots
endif

.PHONY: fuzz
fuzz: ## Every fuzz target on a nightly toolchain; FUZZ_SECONDS=600 for each, ONLY=target
	@tests/run/fuzz $(ONLY)

.PHONY: soak
soak: ## An operator at rest for thirty minutes, on the cluster: it writes nothing; SECONDS_AT_REST=number
	@MCP_TEST_REST_SECONDS=$(or $(SECONDS_AT_REST),1800) tests/run/e2e rest::an_operator_at_rest_writes_nothing

.PHONY: scale-bench
scale-bench: ## The operator with 500 McpClusters and 12,300 fake pods on the local cluster (docs/benchmarks.md); ARGS="--clusters 10 --shards 3 --large 20" is quick
	@tests/run/scale-bench $(ARGS)

.PHONY: memory-bench
memory-bench: ## A load that takes memory on real pods: the operator, then a Deployment with the stock HPA (docs/autoscaling.md); ARGS="--only ours"
	@tests/run/memory-bench $(ARGS)

.PHONY: hundred
hundred: ## 100,000 streams and 5,000 calls a second through the client Service of six pods, on the local cluster; STREAMS=, CALLS=, SECONDS_HELD=
	@tests/run/hundred

.PHONY: mutants
mutants: $(TOOLS)/bin/cargo-mutants ## Break each line of the autoscaler and the rollout: which tests go red? ONLY=file, SHARD=k/n
	@ONLY='$(ONLY)' SHARD='$(SHARD)' tests/run/mutants $<

$(TOOLS)/bin/cargo-mutants:
	env -u CARGO_TARGET_DIR $(CARGO) install --locked --quiet --root $(TOOLS) cargo-mutants@$(CARGO_MUTANTS_VERSION)

# Cargo's folder of what it built, and the profile of what is measured.
BUILT := $(or $(CARGO_TARGET_DIR),target)
PROFILE ?= release
# Packages by themselves, with the profile and the flags of what ships.
compile = $(if $(filter release,$(PROFILE)),images/compile $(1),$(CARGO) build --locked --profile $(PROFILE) $(addprefix -p ,$(1)))
binaries = $(BUILT)/$(subst dev,debug,$(PROFILE))

.PHONY: load
load: ## The load tool, against any MCP server on this machine: ARGS="calls --url http://127.0.0.1:8080/mcp"; ARGS=--help tells all
	@$(call compile,mcp-load)
	@$(binaries)/mcp-load $(or $(ARGS),--help)

.PHONY: flat
flat: ## Instructions of a call against sessions, streams and tools, by callgrind (valgrind and python3 are needed; some minutes)
	@$(call compile,mcp-server)
	@tests/run/flat $(binaries)/mcp-server $(ARGS)

# Each by itself, as it ships: built together they would share the features of all.
.PHONY: bench
bench: ## Figures against bare hyper and the official SDK (docs/benchmarks.md): ONLY=calls,open filters, ARGS=--quick sees whether it works
	@$(call compile,mcp-server)
	@$(call compile,mcp-baseline)
	@$(call compile,mcp-load fleet)
	@$(binaries)/mcp-load bench --binaries $(binaries) $(if $(ONLY),--only $(ONLY)) $(ARGS)
