# consul-vip: `make demo` shows it at work, `make test` runs every test.

BIN     := bin/consul-vip
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION)

# The packages outside integration: their tests need neither a lab nor Consul.
UNIT := $(shell go list ./... 2>/dev/null | grep -v /integration)

# The linters have a module of their own, so that the product's has none of their
# dependencies. `go tool` builds them once and keeps them in Go's build cache.
LINTERS := internal/lint
LINT    := go tool -modfile=$(LINTERS)/go.mod

# Typos on purpose: two configuration keys that tests misspell, and a field name of
# golang.org/x/sys/unix.
TYPOS := adress,interfase,prefered

# Words that this project has replaced, as regular expressions, one per line.
# CONTRIBUTING.md gives the word for each.
RETIRED := $(LINTERS)/retired-words

# The packages that `make lint` reads, for example: make lint PKG=./lease/...
PKG ?= ./...

.PHONY: help build check lint test unit integration demo bench simulate mutations chaos deps consul nomad clean

help: ## show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

build: ## build the static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/consul-vip

check: deps lint ## lint, and run the tests that need no lab; required for every commit
	@echo '== unit tests with the race detector'
	@# On one processor: bubbles of many timers can crash it on several (golang.org/issue/78156).
	go test -race -exec 'env GOMAXPROCS=1' -count=1 $(UNIT)
	@echo '== 20,000 faults in virtual time'
	go test -count=1 -timeout 30m -run TestSimulate $(SIMULATION) -args -faults 20000
	@echo '== tests of the lab, bench and chaos code; tests that need a lab are skipped'
	INTEGRATION= go test -count=1 ./integration/...

lint: ## format, modules, static analysis, spelling, retired words
	@echo '== gofmt'
	@unformatted=$$(gofmt -l .); \
	  if [ -n "$$unformatted" ]; then echo "not formatted:" $$unformatted; exit 1; fi
	@echo '== go mod tidy'
	go mod tidy -diff
	go -C $(LINTERS) mod tidy -diff
	@echo '== go vet'
	go vet $(PKG)
	@echo '== staticcheck, nilnil, unparam'
	$(LINT) staticcheck $(PKG)
	$(LINT) nilnil $(PKG)
	$(LINT) unparam $(PKG)
	@echo '== misspell'
	@git ls-files | grep -v 'go\.sum$$' | xargs $(LINT) misspell -error -i $(TYPOS)
	@echo '== retired words'
	@if git grep -niwE -f $(RETIRED) -- '*.go' '*.md' '*.hcl' ':!CONTRIBUTING.md' ':!CHANGELOG.md'; then \
	  echo 'retired words, see CONTRIBUTING.md'; exit 1; fi

test: unit integration ## run all tests; install or build what is missing

unit: deps ## run the tests outside integration
	go test -count=1 $(UNIT)

integration: deps consul nomad build ## run the tests with Consul and Nomad in network namespaces; takes several minutes
	INTEGRATION=1 INTEGRATION_BIN=$(CURDIR)/$(BIN) go test -count=1 -p 1 -parallel 3 -v -timeout 30m ./integration/...

demo: deps consul build ## show three hosts, a Consul, and an address that moves
	@go run ./integration/demo -bin $(BIN)

# How Consul runs in chaos and bench: "clients" has client agents on the hosts and the
# servers elsewhere, "servers" has servers on the hosts. Without it, chaos runs in the first
# world, and bench in both.
WORLD ?=
IN_WORLD = $(if $(WORLD),-world $(WORLD))

SEED ?= 1
FAULTS ?= 20000
SIMULATION := ./cmd/consul-vip/internal/simulation
simulate: ## inject random faults into a cluster in virtual time; SEED=n FAULTS=n, or ONLY=n repeats one cluster
	go test -c -o bin/simulation $(SIMULATION)
	bin/simulation -test.run TestSimulate -test.timeout 3h -seed $(SEED) -faults $(FAULTS) $(if $(ONLY),-only $(ONLY))

mutations: ## break the program on purpose in several ways; the simulation must find each
	go test -count=1 -timeout 30m -v -run TestMutations $(SIMULATION) -args -mutations

chaos: deps consul build ## inject 200 random faults; SEED=n repeats a run, WORLD=clients (default) or servers
	go run ./integration/chaos -bin $(BIN) $(IN_WORLD) -faults 200 -seed $(SEED)

bench: consul build ## compare with keepalived and consul lock in both worlds, or in WORLD; writes docs/benchmarks.md
	@sh integration/deps.sh bench
	go run ./integration/bench -bin $(BIN) $(IN_WORLD) -out docs/benchmarks.md

deps: ## install the missing Debian packages
	@sh integration/deps.sh

consul nomad: # uses CONSUL_BIN or NOMAD_BIN, else the program on PATH, else builds it from its Go module
	@go run ./integration/provision $@

clean: ## remove the binary; Consul and Nomad stay in the user's cache
	rm -rf bin
