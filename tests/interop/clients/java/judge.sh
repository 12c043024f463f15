# Java's PKIX.
. "$(dirname "$0")/../ask.sh"
client "Java PKIX" "$(java -version 2>&1 | sed -n '1s/.*"\(.*\)".*/\1/p')" "each validation, by the CRLs in its CertStore" \
    "CertPathValidator with PKIXParameters.setRevocationEnabled(true), CRLs in a CertStore: tests/interop/clients/java/Verify.java"
javac -d . "$here/Verify.java"

client_auth=1.3.6.1.5.5.7.3.2
server_auth=1.3.6.1.5.5.7.3.1
verify() { # FOLDER WHOSE CRLS USAGE
    java -Xshare:auto -XX:TieredStopAtLevel=1 -cp . Verify "$1/bundle.pem" "$1/$2/cert.pem" "$3" "$4"
}

part 1 "$FOLDER/crl.pem" >issuing-crl.pem
part 2 "$FOLDER/crl.pem" >root-crl.pem
accepts agent verify "$FOLDER" good "$FOLDER/crl.pem" $client_auth
accepts "agent as server" verify "$FOLDER" good "$FOLDER/crl.pem" $server_auth
accepts service verify "$FOLDER" service "$FOLDER/crl.pem" $server_auth
accepts widest verify "$OWN" widest "$OWN/crl.pem" $client_auth
refuses revoked "^REVOKED" verify "$FOLDER" revoked "$FOLDER/crl.pem" $client_auth
accepts "revoked, CRLs before" verify "$OWN" revoked "$OWN/before.pem" $client_auth
refuses foreign "^NO_TRUST_ANCHOR" verify "$FOLDER" foreign "$FOLDER/crl.pem" $client_auth
refuses "no CRL of issuing" "^UNDETERMINED_REVOCATION_STATUS" verify "$FOLDER" good root-crl.pem $client_auth
refuses "no CRL of root" "^UNDETERMINED_REVOCATION_STATUS" verify "$FOLDER" good issuing-crl.pem $client_auth
refuses "CRLs lapsed" "^UNDETERMINED_REVOCATION_STATUS" verify "$OWN" good "$OWN/lapsed.pem" $client_auth

client "Java PKIX, OCSP" "$(java -version 2>&1 | sed -n '1s/.*"\(.*\)".*/\1/p')" "each validation, by the AIA of the leaf" \
    "the same with a PKIXRevocationChecker, and the root's CRL for the issuing authority"
asked_by_ocsp() { # WHOSE
    java -Xshare:auto -XX:TieredStopAtLevel=1 -cp . Verify "$OCSP/bundle.pem" "$OCSP/$1/cert.pem" "$OCSP/root-crl.pem" $client_auth ocsp
}
# No CRL of the issuing authority is there: whatever it says of the leaf, OCSP told it.
accepts "OCSP good" asked_by_ocsp good
refuses "OCSP revoked" "^REVOKED" asked_by_ocsp revoked
