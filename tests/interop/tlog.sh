#!/usr/bin/env bash
# Our log, read by the Go checksum database's packages. Needs cargo and go; prints "N passed, N failed" last.
set -euo pipefail
cd "$(dirname "$0")/../.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cargo run --quiet --package chancery-tlog --example publish -- "$folder" 70000
cd tests/interop/go/tlog
go run . "$folder"
