#!/usr/bin/env bash
# build.sh: build the guest agent and its root image, reproducibly.
#
#   build.sh             replace the image embedded by guestagent/image
#   build.sh FILE        write the plain EROFS image to FILE instead
#
# The result depends on the sources and the Go version in go.mod alone.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top"
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
export CGO_ENABLED=0 GOFLAGS='' GOEXPERIMENT='' GOAMD64=v1
export GOTOOLCHAIN="go$(awk '/^go /{print $2}' go.mod)"
GOOS=linux GOARCH=amd64 go build -trimpath -buildvcs=false -ldflags '-s -w -buildid=' -o "$tmp/agentd" ./cmd/agentd
if [ $# = 1 ]; then
  go run ./hack/agent/pack -erofs "$1" "$tmp/agentd"
else
  go run ./hack/agent/pack -bundle guestagent/image "$tmp/agentd"
  echo "agent: $(stat -c %s "$tmp/agentd") bytes, image $(stat -c %s guestagent/image/agent-amd64.erofs.zst) bytes compressed" >&2
fi
