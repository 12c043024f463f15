# An issuer that answers OCSP and tells its feed while the judges ask; `clients.sh` sources it. Not a program.
#
# Leaves in $OCSP what judges need: bundle.pem, issuing.pem, root-crl.pem, a cert.pem (leaf, then issuing) each in good/ and
# revoked/, whose key counts as compromised, and a service's cert.pem and key.pem in follower/. $OCSP_URL and $ISSUER_URL are
# where it answers, $issuer its process.
export OCSP=$work/ocsp OCSP_URL= ISSUER_URL=
issuer=

start_issuer() {
    local program=${CHANCERY_BIN:-} whose join admin
    if [ -z "$program" ]; then
        cargo build -q --locked -p chancery
        program=$(cargo metadata --format-version 1 --no-deps |
            python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/debug/chancery
    fi
    mkdir "$OCSP"
    cd "$OCSP"
    "$program" serve --dev --api 127.0.0.1:0 --status 127.0.0.1:0 >serve.out 2>&1 &
    issuer=$!
    grep -qm 1 "^ready" < <(timeout 60 tail -n +1 -F --pid="$issuer" serve.out 2>/dev/null) || { cat serve.out; return 1; }
    OCSP_URL=$(sed -n 's,.*status.*\(http:[^ ]*\).*,\1,p' serve.out)/ocsp
    ISSUER_URL=https://localhost:$(sed -n 's,.*api.*https://[^ ]*:\([0-9]*\).*,\1,p' serve.out | head -n 1)
    mkdir follower
    "$program" services create follower --owner team-test --system follower --join >follower.out
    CHANCERY_STATE_DIR=$OCSP/state-follower CHANCERY_JOIN=$(grep -o "https://[^']*" follower.out) "$program" run -- \
        sh -c 'cp "$CHANCERY_CERT" follower/cert.pem && cp "$CHANCERY_KEY" follower/key.pem' 2>follower.run
    for whose in good revoked; do
        "$program" agents create "$whose-bot" --owner team-test --scope tools/call:crm/get_customer --join >"$whose.out"
        join=$(grep -o "https://[^']*" "$whose.out")
        mkdir "$whose"
        CHANCERY_STATE_DIR=$OCSP/state-$whose CHANCERY_JOIN=$join "$program" run -- \
            sh -c "cp \"\$CHANCERY_CERT\" $whose/ && cp \"\$CHANCERY_BUNDLE\" bundle.pem && cp \"\$CHANCERY_CRL\" crl.pem" 2>"$whose.run"
        mv "$whose"/*.pem "$whose/cert.pem" 2>/dev/null || true
    done
    awk '/-----BEGIN/ { n++ } n == 2' good/cert.pem >issuing.pem
    # The CRLs are those of before the revocation: what knows of it was told by OCSP. The root's is the one that lists nobody.
    openssl x509 -in bundle.pem -noout -subject -nameopt RFC2253 | sed 's/^subject=//' >root-name
    awk '/-----BEGIN/ { n++ } { print >("crl-" n ".pem") }' crl.pem
    for crl in crl-?.pem; do
        if [ "$(openssl crl -in "$crl" -noout -issuer -nameopt RFC2253 | sed 's/^issuer=//')" = "$(cat root-name)" ]; then
            cp "$crl" root-crl.pem
        fi
    done
    "$program" revoke agent:revoked-bot --reason key_compromise --comment interop --yes --confirm 9 >revoke.out 2>&1
    cd "$repository"
}
