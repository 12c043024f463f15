#!/usr/bin/env bash
# A database that the program itself made, with something of everything, for tests/store/kept.rs: make.sh VERSION
# writes VERSION.db. Once a version; what is there stays as it is. $CHANCERY_BIN names the program.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=$(realpath "${CHANCERY_BIN:?names the program}")
[ ! -e "$here/$1.db" ] || { echo "$1.db is there, and is not made anew" >&2; exit 1; }

work=$(mktemp -d)
issuer=
cleanup() {
    if [ -n "$issuer" ]; then kill "$issuer" 2>/dev/null && wait "$issuer" || true; fi
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work"
chancery() { "$program" -q "$@"; }

"$program" serve --dev --api 127.0.0.1:0 --status 127.0.0.1:0 >serve.out 2>&1 &
issuer=$!
grep -qm 1 "^ready" < <(timeout 60 tail -n +1 -F --pid="$issuer" serve.out 2>/dev/null) || { cat serve.out; exit 1; }

chancery admins create ana --access viewer,auditor
chancery agents create invoice-bot --owner team-finance --scope tools/call:crm/get_customer --scope tools/call:crm/refund
chancery agents create old-bot --owner team-old
chancery agents create held-bot --owner team-held --scope tools/call:crm/get_customer
chancery services create crm --owner team-crm --system crm
chancery agents update invoice-bot --description "pays what is due"
chancery api-tokens create --access viewer --description "a dashboard" >/dev/null
chancery join-tokens create --agent invoice-bot --uses 3 >/dev/null
join() { "$program" join-tokens create "--$1" "$2" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["join"])'; }
for who in "agent invoice-bot" "agent held-bot" "agent old-bot"; do
    CHANCERY_STATE_DIR=$work/${who#* } CHANCERY_JOIN=$(join $who) "$program" -q run -- true
done
# A service follows the feed, and confirms what it is told.
CHANCERY_STATE_DIR=$work/crm CHANCERY_JOIN=$(join service crm) "$program" -q run -- sleep 600 &
service=$!
until "$program" verifiers list -o id 2>/dev/null | grep -q .; do sleep 0.2; done
chancery authorities rotate
chancery suspend owner:team-gone --yes
resumed=$("$program" revocations list -o id | head -1)
chancery resume "$resumed"
chancery suspend agent:held-bot --yes --confirm 9
chancery retire agent:old-bot --yes --confirm 9
chancery forbid tools/call:crm/refund --yes --confirm 9
serial=$("$program" certificates list --agent invoice-bot -o id | head -1)
chancery revoke "serial:$serial" --reason superseded --yes --confirm 9
kill "$service"
wait "$service" || true
chancery db backup "$here/$1.db"
