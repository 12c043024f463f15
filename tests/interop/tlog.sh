#!/usr/bin/env bash
# Our log, read by the Go checksum database's packages. Needs cargo and go; prints "N passed, N failed" last.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PATH:/usr/local/go/bin
[[ $(go env GOVERSION 2>/dev/null) =~ ^go1\.(2[1-9]|[3-9][0-9]) ]] ||
    { echo "tlog.sh needs go 1.21 or newer on the PATH, or in /usr/local/go/bin" >&2; exit 1; }

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cargo run --quiet --package chancery-tlog --example publish -- "$folder" 70000
cd tests/interop/go/tlog
go run . "$folder"
