# Node's https over loopback.
. "$(dirname "$0")/../ask.sh"
client "Node https" "$(node -p '`${process.versions.node}, OpenSSL ${process.versions.openssl}`')" "the next handshake after server.setSecureContext({ …, crl })" \
    "https.createServer({ ca, cert, key, crl: [issuing, root], requestCert: true, rejectUnauthorized: true }); mTLS: tests/interop/clients/node/mtls.mjs"
connect() { # FOLDER CRLS SERVER CLIENT NAME [LATER CRLS]
    node "$here/mtls.mjs" "$1/bundle.pem" "$2" "$1/$3" "$1/$4" "$5" "${@:6}"
}
part 1 "$FOLDER/crl.pem" >issuing-crl.pem
part 2 "$FOLDER/crl.pem" >root-crl.pem
crls=$FOLDER/crl.pem
accepts agent connect "$FOLDER" "$crls" service good crm.localhost
accepts service connect "$FOLDER" "$crls" service service crm.localhost
refuses "service, another name" "ERR_TLS_CERT_ALTNAME_INVALID" connect "$FOLDER" "$crls" service good billing.localhost
accepts widest connect "$OWN" "$OWN/crl.pem" service widest crm.localhost
refuses revoked "server: CERT_REVOKED" connect "$FOLDER" "$crls" service revoked crm.localhost
refuses "revoked as server" "client: CERT_REVOKED" connect "$FOLDER" "$crls" revoked good crm.localhost
accepts "revoked, CRLs before" connect "$OWN" "$OWN/before.pem" service revoked crm.localhost
refuses "revoked, CRLs set later" "server: CERT_REVOKED" connect "$OWN" "$OWN/before.pem" service revoked crm.localhost "$OWN/crl.pem"
# Of several problems Node names the last: here there is also no CRL of the foreign authorities.
refuses "foreign, no CRL at all" "server: UNABLE_TO_GET_ISSUER_CERT_LOCALLY" connect "$FOLDER" none service foreign crm.localhost
refuses foreign "server: UNABLE_TO_GET_CRL" connect "$FOLDER" "$crls" service foreign crm.localhost
# Without `crl` nothing is checked; with one list, every other is missed.
accepts "no CRL at all" connect "$FOLDER" none service good crm.localhost
refuses "no CRL of issuing" "client: UNABLE_TO_GET_CRL" connect "$FOLDER" root-crl.pem service good crm.localhost
refuses "no CRL of root" "client: UNABLE_TO_GET_CRL" connect "$FOLDER" issuing-crl.pem service good crm.localhost
refuses "CRLs lapsed" "client: CRL_HAS_EXPIRED" connect "$OWN" "$OWN/lapsed.pem" service good crm.localhost
