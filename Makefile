# consul-vip: `make demo` to see it work, `make test` to have it all tested.

BIN     := bin/consul-vip
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION)

# Everything but the integration tests, which need hosts and a Consul.
UNIT := $(shell go list ./... 2>/dev/null | grep -v /integration)

.PHONY: help build check test unit integration demo bench chaos deps consul nomad clean

help: ## show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

build: ## build the static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/consul-vip

check: deps ## the gate: format, module, vet, staticcheck, race tests
	@echo '== gofmt'
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	  if [ -n "$$unformatted" ]; then echo "not formatted:" $$unformatted; exit 1; fi
	@echo '== go mod tidy'
	go mod tidy -diff
	@echo '== vet'
	go vet ./...
	@echo '== staticcheck'
	go tool staticcheck ./...
	@echo '== tests with the race detector'
	go test -race -count=1 $(UNIT)

test: unit integration ## every test, installing or building what is missing

unit: deps
	go test -count=1 $(UNIT)

integration: deps consul nomad build
	@echo '== integration tests: real Consul and Nomad clusters in network namespaces, several minutes'
	CONSUL_VIP_INTEGRATION=1 CONSUL_VIP_BIN=$(CURDIR)/$(BIN) go test -count=1 -p 1 -v -timeout 30m ./integration/...

demo: deps consul build ## three hosts, a real Consul, an address that moves before your eyes
	@go run ./integration/demo -bin $(BIN)

bench: consul build ## consul-vip beside keepalived and consul lock; writes docs/benchmarks.md
	@sh integration/deps.sh bench
	go run ./integration/bench -bin $(BIN) -out docs/benchmarks.md

SEED ?= 1
chaos: deps consul build ## 200 random faults, reproducible by SEED=n
	go run ./integration/chaos -bin $(BIN) -faults 200 -seed $(SEED)

deps: # Debian packages, where they are missing
	@sh integration/deps.sh

consul nomad: # CONSUL_BIN or NOMAD_BIN, the one on PATH, or one built from its module
	@go run ./integration/provision $@

clean: ## remove what was built here (Consul and Nomad in the user's cache stay)
	rm -rf bin
