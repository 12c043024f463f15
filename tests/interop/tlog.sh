#!/usr/bin/env bash
# Our log, read by the Go checksum database's packages: one that the library publishes, and the one of a running issuer.
# $CHANCERY_BIN names the program, else it is built. Needs cargo and go; prints "N passed, N failed" last.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PATH:/usr/local/go/bin
[[ $(go env GOVERSION 2>/dev/null) =~ ^go1\.(2[1-9]|[3-9][0-9]) ]] ||
    { echo "tlog.sh needs go 1.21 or newer on the PATH, or in /usr/local/go/bin" >&2; exit 1; }

folder=$(mktemp -d)
issuer=
cleanup() {
    if [ -n "$issuer" ]; then kill "$issuer" 2>/dev/null && wait "$issuer" || true; fi
    rm -rf "$folder"
}
trap cleanup EXIT

judge() {
    (cd tests/interop/go/tlog && go run . "$@") | tee -a "$folder/judged"
}

cargo run --quiet --package chancery-tlog --example publish -- "$folder/published" 70000
judge "$folder/published" || true

program=$(realpath "${CHANCERY_BIN:-/nonexistent}" 2>/dev/null) && [ -x "$program" ] || {
    cargo build --quiet --locked --package chancery
    program=$(cargo metadata --format-version 1 --no-deps |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/debug/chancery
}
mkdir "$folder/live"
in_live() { (cd "$folder/live" && "$@"); }
(cd "$folder/live" && exec "$program" serve --dev --api 127.0.0.1:0 --status 127.0.0.1:0 >serve.out 2>&1) &
issuer=$!
grep -qm 1 "^ready" < <(timeout 60 tail -n +1 -F --pid="$issuer" "$folder/live/serve.out" 2>/dev/null) ||
    { cat "$folder/live/serve.out"; exit 1; }
url=$(sed -n 's,^ *api  *https://127.0.0.1\(:[0-9]*\).*,https://localhost\1,p' "$folder/live/serve.out")
join=$(in_live "$program" agents create logged-bot --owner team-test --scope tools/call:crm/get_customer --join |
    grep -o "https://[^']*")
in_live env CHANCERY_STATE_DIR=state CHANCERY_JOIN="$join" "$program" run -- \
    sh -c 'cp "$CHANCERY_BUNDLE" root.pem && cp "$CHANCERY_CERT" cert.pem' 2>"$folder/live/run.out"
serial=$(openssl x509 -in "$folder/live/cert.pem" -noout -serial | sed 's/^serial=//' | tr A-F a-f)
in_live "$program" log tail -o jsonl --from 0 -n 500 >"$folder/live/records"
# While the judge reads, the log goes on.
(while kill -0 "$issuer" 2>/dev/null; do in_live "$program" agents create "bot-$RANDOM$RANDOM" --owner team-test >/dev/null 2>&1; sleep 0.3; done) &
judge "$url/log" "$folder/live/root.pem" "$folder/live/records" "$serial" || true

awk '/^[0-9]+ passed, [0-9]+ failed$/ { judged++; passed += $1; failed += $3 }
    END { print passed " passed, " failed " failed"; exit judged != 2 || failed > 0 }' "$folder/judged"
