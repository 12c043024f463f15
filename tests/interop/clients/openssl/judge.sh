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
