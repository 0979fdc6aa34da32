# gomsb: every target installs what it needs on Debian 12 and 13.
SHELL := /bin/bash
.DEFAULT_GOAL := build
# Resolved when a recipe runs, so that `make help` needs nothing.
GO = PATH="$$(hack/setup go):$$PATH" CGO_ENABLED=0 go
LDFLAGS := -s -w
FUZZTIME ?= 20s
ROUNDS ?= 4

.PHONY: help build demo test unit packages race-packages machines posix e2e compat race fuzz bench lint agent kernel clean

## help: list the targets
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## build: bin/msb, one static binary
build:
	@$(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/ ./cmd/msb
	@touch bin/libkrunfw.so.5.6.1 # official SDKs start no runtime without a file of this name beside it

## demo: run `uname -a` and show /etc/os-release in a microVM from a Debian image
demo: build
	@hack/demo

## test: everything CI checks: lint, unit, race, posix, e2e, compat
test:
	@hack/test

## unit: the tests beside the code
unit: packages
	@hack/kvm-tests

# What of the tests beside the code starts no machine where /dev/kvm cannot be opened.
packages:
	@hack/setup erofs-utils:fsck.erofs e2fsprogs:e2fsck umoci:umoci util-linux:flock
	@$(GO) test ./...
	@$(GO) test -tags images -run 'Test(Mini|Debian|Layered)Image' ./oci/cache
	@$(GO) test -tags official -run Official ./sdk
	@$(GO) test -tags official ./tests/compat

## posix: shared directories through this machine's own FUSE client against its own file system
posix:
	@hack/posix

## e2e: the end-to-end suite with real kernels and images, in the emulated testbed where there is no hardware
e2e: build
	@hack/e2e

## compat: sandboxes of the official 0.6.18 and ours, each front end on each runtime, compared
compat: build
	@hack/compat

## race: unit tests under the race detector
race: race-packages
	@hack/kvm-tests -race

race-packages:
	@hack/setup gcc:gcc libc6-dev:/usr/include/stdio.h erofs-utils:fsck.erofs e2fsprogs:e2fsck
	@PATH="$$(hack/setup go):$$PATH" CGO_ENABLED=1 go test -race $$(PATH="$$(hack/setup go):$$PATH" hack/race-packages)

# The rest of unit and race.
machines:
	@hack/kvm-tests
	@hack/kvm-tests -race

## fuzz: every fuzz target for FUZZTIME (default 20s) each
fuzz:
	@PATH="$$(hack/setup go):$$PATH" FUZZTIME=$(FUZZTIME) hack/fuzz

## bench: the same steps with the official 0.6.18 and with ours, in one run (ROUNDS=4)
bench: build
	@ROUNDS=$(ROUNDS) hack/bench

## lint: gofmt, vet on every platform, staticcheck
lint:
	@out=$$(PATH="$$(hack/setup go):$$PATH" gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt would change:"; echo "$$out"; exit 1; }
	@$(GO) vet ./...
	@GOARCH=arm64 $(GO) vet ./...
	@GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	@$(GO) vet -tags e2e ./tests/...
	@$(GO) vet -tags images ./oci/...
	@$(GO) vet -tags fuse ./rootfs/passthrough ./tests/e2e/posix
	@$(GO) vet -tags official ./sdk ./tests/compat
	@$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
	@$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 -tags e2e ./tests/...

## agent: rebuild the embedded guest agent image from source
agent:
	@PATH="$$(hack/setup go):$$PATH" hack/agent/build.sh

## kernel: rebuild the embedded guest kernel from Debian's linux-source-6.12
kernel:
	@hack/kernel/build.sh

## clean: remove what build made
clean:
	rm -rf bin
