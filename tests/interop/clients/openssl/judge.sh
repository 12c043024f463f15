# OpenSSL's own verification, as nginx, curl, Python and Node have it inside.
. "$(dirname "$0")/../ask.sh"
client "OpenSSL" "$(openssl version | cut -d' ' -f2)" "each verification, by the CRLs it is given" \
    "openssl verify -x509_strict -crl_check_all -purpose sslclient -CAfile bundle.pem -CRLfile crl.pem -untrusted cert.pem cert.pem"

verify() { # FOLDER WHOSE CRLS PURPOSE…
    local chain=$1/$2/cert.pem bundle=$1/bundle.pem crls=$3
    shift 3
    openssl verify -x509_strict -crl_check_all -CAfile "$bundle" -CRLfile "$crls" -untrusted "$chain" -purpose "$@" "$chain"
}

part 1 "$FOLDER/crl.pem" >issuing-crl.pem
part 2 "$FOLDER/crl.pem" >root-crl.pem
crls=$FOLDER/crl.pem
accepts agent verify "$FOLDER" good "$crls" sslclient
accepts "agent as server" verify "$FOLDER" good "$crls" sslserver
accepts service verify "$FOLDER" service "$crls" sslserver -verify_hostname crm.localhost
accepts "service as client" verify "$FOLDER" service "$crls" sslclient
refuses "service, another name" "hostname mismatch" verify "$FOLDER" service "$crls" sslserver -verify_hostname billing.localhost
accepts widest verify "$OWN" widest "$OWN/crl.pem" sslclient
refuses revoked "certificate revoked" verify "$FOLDER" revoked "$crls" sslclient
accepts "revoked, CRLs before" verify "$OWN" revoked "$OWN/before.pem" sslclient
refuses foreign "unable to get local issuer" verify "$FOLDER" foreign "$crls" sslclient
refuses "foreign, its CRLs too" "unable to get local issuer" verify "$FOLDER" foreign "$FOLDER/foreign/crl.pem" sslclient
refuses "no CRL of issuing" "unable to get certificate CRL" verify "$FOLDER" good root-crl.pem sslclient
refuses "no CRL of root" "unable to get certificate CRL" verify "$FOLDER" good issuing-crl.pem sslclient
refuses "CRLs lapsed" "CRL has expired" verify "$OWN" good "$OWN/lapsed.pem" sslclient

cat "$FOLDER/issuing.pem" "$FOLDER/bundle.pem" >authorities.pem
accepts "CRL's signature" openssl crl -noout -verify -CAfile authorities.pem -in issuing-crl.pem
accepts "root CRL's signature" openssl crl -noout -verify -CAfile authorities.pem -in root-crl.pem
refuses "CRL, another issuer" "verify failure|getting CRL issuer" openssl crl -noout -verify -CAfile "$FOLDER/foreign/bundle.pem" -in issuing-crl.pem
scopes_are_text() { openssl x509 -in "$FOLDER/good/cert.pem" -noout -ext subjectAltName | grep -o 'othername: [0-9.]*::[^,]*:[^,]*'; }
accepts "scopes are text" scopes_are_text

client "OpenSSL, OCSP" "$(openssl version | cut -d' ' -f2)" "the next request" \
    "openssl ocsp -issuer issuing.pem -cert leaf.pem -url URL -CAfile authorities.pem [-sha256] [-no_nonce]"
cat "$OCSP/issuing.pem" "$OCSP/bundle.pem" >ocsp-authorities.pem
for whose in good revoked; do part 1 "$OCSP/$whose/cert.pem" >"$whose.pem"; done
verified_good() { # what openssl ocsp said: it exits 0 whatever the status is
    cat said
    grep -q "Response verify OK" said && grep -q "\.pem: good" said && ! grep -q "WARNING" said
}
by_post() { # WHOSE OPTION…
    local whose=$1
    shift
    openssl ocsp -issuer "$OCSP/issuing.pem" "$@" -cert "$whose.pem" -url "$OCSP_URL" -CAfile ocsp-authorities.pem >said 2>&1
    verified_good
}
by_get() { # WHOSE OPTION…
    local whose=$1 encoded
    shift
    openssl ocsp -issuer "$OCSP/issuing.pem" "$@" -cert "$whose.pem" -reqout request.der
    encoded=$(base64 -w0 request.der | sed 's/+/%2B/g; s,/,%2F,g; s/=/%3D/g')
    curl -sSf "$OCSP_URL/$encoded" -o response.der
    # With -cert it would make another request, with another nonce; so what it reads is looked at in its text.
    openssl ocsp -reqin request.der -respin response.der -CAfile ocsp-authorities.pem -text >said 2>&1
    cat said
    grep -q "Response verify OK" said && grep -q "Cert Status: good" said && ! grep -q "WARNING" said
}
accepts "OCSP good" by_post good
refuses "OCSP revoked" "pem: revoked" by_post revoked
for nonce in -nonce -no_nonce; do
    for digest in -sha1 -sha256; do
        accepts "OCSP POST $nonce $digest" by_post good $digest $nonce
        accepts "OCSP GET $nonce $digest" by_get good $digest $nonce
        refuses "OCSP GET revoked $nonce $digest" "Cert Status: revoked" by_get revoked $digest $nonce
    done
done
strangers() {
    openssl ocsp -issuer "$FOLDER/issuing.pem" -serial 1 -url "$OCSP_URL" -CAfile ocsp-authorities.pem
}
refuses "OCSP of a stranger" "unauthorized" strangers
never_issued() {
    openssl ocsp -issuer "$OCSP/issuing.pem" -serial 1 -url "$OCSP_URL" -CAfile ocsp-authorities.pem >said 2>&1
    cat said
    grep -q ": good" said
}
refuses "OCSP of no certificate" "1: unknown" never_issued
