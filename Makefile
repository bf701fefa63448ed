# Headgate: everything a contributor runs. `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The toolchain that go.mod names is fetched when the installed one is older.
export GOTOOLCHAIN := auto
# Everything that is expensive to make and safe to delete.
export HEADGATE_CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/headgate

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

# Tools live beside the cache's other programs, one folder per pinned set.
TOOLS := $(HEADGATE_CACHE)/tools/$(shell cat tools/go.mod tools/golangci/go.mod | sha256sum | cut -c1-12)
CONTROLLER_GEN := $(TOOLS)/controller-gen
GOFUMPT := $(TOOLS)/gofumpt
GOLANGCI_LINT := $(TOOLS)/golangci-lint

##@ Start here

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n\033[1m%s\033[0m\n", substr($$0, 5)} /^[a-zA-Z0-9_-]+:.*##/ {printf "  \033[36m%-16s\033[0m%s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo

.PHONY: demo
demo: ## Bring up a cluster, install Headgate, release a good and a bad version, live
	go run ./e2e/demo

.PHONY: test
test: ## Run every test with all it has to set up; prints what each stage took
	go run ./internal/stages

##@ Develop

.PHONY: build
build: ## Build headgate and kubectl-headgate into bin/
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

.PHONY: test-unit
test-unit: ## Run the tests that need nothing but Go
	go run ./internal/stages unit

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Check style, purity and the one-way imports
	$(GOLANGCI_LINT) run

.PHONY: format
format: $(GOLANGCI_LINT) ## Format all Go code
	$(GOLANGCI_LINT) fmt

.PHONY: generate
generate: $(CONTROLLER_GEN) ## Generate deepcopy, CRDs, RBAC rules and the chart's README
	rm -rf charts/headgate/files/crds charts/headgate/files/rbac
	$(CONTROLLER_GEN) object:headerFile=tools/header.txt paths=./api/...
	$(CONTROLLER_GEN) crd paths=./api/... output:crd:dir=charts/headgate/files/crds
	$(CONTROLLER_GEN) rbac:roleName=operator,fileName=operator.yaml paths="$(OPERATOR_HALF)" output:rbac:dir=charts/headgate/files/rbac
	$(CONTROLLER_GEN) rbac:roleName=gateway,fileName=gateway.yaml paths="$(GATEWAY_HALF)" output:rbac:dir=charts/headgate/files/rbac
	go run ./internal/chartdoc

# Whose RBAC markers are granted with gateway.enabled=false, and whose only with it.
GATEWAY_ONLY := /controllers/(gateway|authority)|/dataplane/
OPERATOR_HALF = $$(go list ./controllers/... ./analysis/... ./cmd/headgate/... | grep -vE '$(GATEWAY_ONLY)' | paste -sd ';')
GATEWAY_HALF = $$(go list ./controllers/... ./dataplane/... | grep -E '$(GATEWAY_ONLY)' | paste -sd ';')

.PHONY: verify
verify: ## Generate again and fail when that changes anything
	@was=$$(mktemp -d); trap 'rm -rf "$$was"' EXIT; cp -r api charts "$$was"; \
	$(MAKE) generate >/dev/null; \
	{ diff -ru "$$was/api" api && diff -ru "$$was/charts" charts; } || \
	{ echo 'generated files were stale (see above): commit what make generate has written' >&2; exit 1; }

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME each (10s)
	go run ./internal/stages fuzz

.PHONY: bench
bench: ## Run every Go benchmark once
	go test -run '^$$' -bench . -benchmem $$(go list ./... | grep -v /e2e/)

.PHONY: bench-verdict
bench-verdict: ## Simulate releases: false rollbacks, requests until a verdict, cost of an update
	go run ./e2e/verdicts

.PHONY: bench-rollback
bench-rollback: ## How long a canary that begins to fail stays on the road, on the cluster; ROLLBACK="-rounds 3" is short
	go run ./e2e/rollback/bench $(ROLLBACK)

.PHONY: bench-xds
bench-xds: ## What a change costs at 10, 500 and 5,000 routes, with a real Envoy (ENVOY=its program)
	go test -run '^$$' -bench 'WeightChange|RouteAdded' -benchtime 40x ./dataplane/internal/envoytest
	go test -run '^$$' -bench 'Build|Translate|ChangeOfOne' -benchmem ./dataplane/graph ./dataplane/xds
	go test -run '^$$' -bench FromEventToPush -benchtime 200x -benchmem ./dataplane/server

.PHONY: bench-guard
bench-guard: ## What a request costs beside the least configuration of the same Envoy, and where (ENVOY=its program)
	go test -run '^$$' -v -bench 'Guard' -benchtime 51x ./dataplane/internal/envoytest

.PHONY: bench-measure
bench-measure: ## What it costs a proxy with 3,000 clusters to be measured, and Headgate to read it (ENVOY=its program)
	go test -run '^$$' -bench 'Measuring' -benchtime 1x ./dataplane/internal/envoytest
	go test -run '^$$' -bench 'Serve' -benchmem ./analysis/envoystats

##@ Clean up

.PHONY: clean
clean: ## Stop the cluster and remove what was built here and in the cache
	if [ -d e2e/cluster ] && [ -f e2e/cluster/main.go ]; then go run ./e2e/cluster clean; fi
	rm -rf bin '$(HEADGATE_CACHE)/tools'

# Tools, compiled once per pinned set.
$(CONTROLLER_GEN):
	CGO_ENABLED=0 go build -C tools -trimpath -o $@ sigs.k8s.io/controller-tools/cmd/controller-gen
$(GOFUMPT):
	CGO_ENABLED=0 go build -C tools -trimpath -o $@ mvdan.cc/gofumpt
$(GOLANGCI_LINT):
	CGO_ENABLED=0 go build -C tools/golangci -trimpath -ldflags '-s -w' -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

# Not a target of the list: what the stages need to be told.
.PHONY: tool-golangci-lint
tool-golangci-lint: $(GOLANGCI_LINT)
	@echo $(GOLANGCI_LINT)

.PHONY: figures
figures: ## Measure the table of docs/performance.md on the cluster
	go run ./e2e/figures

##@ Cluster

.PHONY: e2e
e2e: ## Run the scenarios on the cluster of KUBECONFIG, or on one of our own
	go run ./internal/stages e2e

.PHONY: hitless
hitless: ## Change everything 1,000 times under load; HITLESS="-changes 100 -rounds 1" is short
	go run ./e2e/hitless $(HITLESS)

-include e2e/cluster.mk
-include e2e/conformance.mk
