#!/usr/bin/env bash
# Other people's programs judge our certificates, CRLs and OCSP responses: clients.sh [FOLDER] [CLIENT…]
#
# FOLDER is what `chancery demo --folder FOLDER` leaves. Without one: the demo of $CHANCERY_BIN if that is set, else a folder
# of the test kit's. OCSP is asked, and the feed read, of an issuer that runs beside, $CHANCERY_BIN or a build of this repository. Installs what it needs. One line a check; with all clients also the table of docs/clients.md, in
# $CLIENTS_TABLE if that is set; last, "N passed, N failed". README.md says how to run one judge by hand.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
cd "$repository"

work=$(mktemp -d)
cleanup() {
    if [ -n "${issuer:-}" ]; then kill "$issuer" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap cleanup EXIT
export WORK=$work OWN=$work/own FOLDER=${1:-}
export TOOLS=${CLIENTS_TOOLS:-$repository/target/interop}
shift || true
all=(openssl gnutls nss go java python node curl nginx pkilint spiffe)
chosen=("${@:-${all[@]}}")

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

# install PROGRAM=PACKAGE…: those packages whose program is missing.
install() {
    local missing=() wanted
    for wanted in "$@"; do
        command -v "${wanted%%=*}" >/dev/null || missing+=("${wanted#*=}")
    done
    # Debian keeps this part of Python apart.
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    [ "${#missing[@]}" -eq 0 ] && return
    echo "installing ${missing[*]}"
    # Nothing is to listen because it was installed.
    local policy=
    if ! [ -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' >"$work/policy"
        as_root install -m 755 "$work/policy" "$policy"
    fi
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$work/apt" 2>&1 ||
        { cat "$work/apt"; return 1; }
    [ -z "$policy" ] || as_root rm "$policy"
}

# The packages of python/requirements.txt, in a venv that is made anew when they change.
install_python() {
    local wanted=$here/clients/python/requirements.txt
    cmp -s "$wanted" "$TOOLS/venv/requirements.txt" && return
    echo "installing $(grep -cv '^#' "$wanted") Python packages"
    rm -rf "$TOOLS/venv"
    mkdir -p "$TOOLS"
    python3 -m venv "$TOOLS/venv"
    "$TOOLS/venv/bin/pip" install -q --disable-pip-version-check -r "$wanted"
    cp "$wanted" "$TOOLS/venv/"
}

export PATH=$PATH:/usr/sbin:/usr/local/go/bin
install openssl=openssl certtool=gnutls-bin ocsptool=gnutls-bin vfychain=libnss3-tools go=golang-go javac=default-jdk-headless \
    python3=python3 node=nodejs curl=curl nginx=nginx-light
install_python

cargo run -q --locked -p chancery-testkit --example interop_folder -- "$OWN"
if [ -z "$FOLDER" ] && [ -n "${CHANCERY_BIN:-}" ]; then
    FOLDER=$work/demo
    "$CHANCERY_BIN" demo --json --folder "$FOLDER" >"$work/demo.out" 2>&1 || { cat "$work/demo.out"; exit 1; }
fi
FOLDER=$(realpath "${FOLDER:-$OWN}")
. "$here/clients/ocsp_issuer.sh"
case " ${chosen[*]} " in
    *" openssl "* | *" gnutls "* | *" go "* | *" java "* | *" pkilint "* | *" curl "*) start_issuer ;;
esac

export RECORD=$work/record
: >"$RECORD"
for client in "${chosen[@]}"; do
    mkdir "$work/$client"
    # A judge that ends early is a failure of its own, whatever it recorded before.
    (cd "$work/$client" && timeout 200 bash "$here/clients/$client/judge.sh") ||
        { printf '%s\tend\tFAILED\n' "$client" >>"$RECORD"; echo "FAILED $client: the judge ended early"; }
done

if [ "$#" -eq 0 ]; then
    python3 "$here/clients/table.py" "$RECORD" >"$work/table.md"
    printf '\n'
    cat "$work/table.md"
    if [ -n "${CLIENTS_TABLE:-}" ]; then cp "$work/table.md" "$CLIENTS_TABLE"; fi
fi
failed=$(grep -c $'\tFAILED$' "$RECORD" || true)
passed=$(grep -c $'\tok$' "$RECORD" || true)
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
