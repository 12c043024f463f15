# Python: pyca/cryptography's verifiers, and the ssl module over loopback.
. "$(dirname "$0")/../ask.sh"
python=$TOOLS/venv/bin/python
part 1 "$FOLDER/crl.pem" >issuing-crl.pem
part 2 "$FOLDER/crl.pem" >root-crl.pem

verify() { # FOLDER WHOSE USAGE OPTION…
    local folder=$1 whose=$2 usage=$3
    shift 3
    "$python" "$here/verify.py" "$folder/bundle.pem" "$folder/$whose/cert.pem" "$usage" "$@"
}
ask() { # OPTION…
    accepts agent verify "$FOLDER" good client "$@"
    accepts service verify "$FOLDER" service server:crm.localhost "$@"
    refuses "service, another name" "leaf certificate has no matching subjectAltName" verify "$FOLDER" service server:billing.localhost "$@"
    accepts "service as client" verify "$FOLDER" service client "$@"
    refuses foreign "candidates exhausted" verify "$FOLDER" foreign client "$@"
}

version=$("$python" -c 'import cryptography; print(cryptography.__version__)')
client "Python cryptography" "$version" "–" "PolicyBuilder().store(…).build_client_verifier() and .build_server_verifier(…)"
ask
accepts widest verify "$OWN" widest client
# The verifiers have no place for a CRL.
accepts revoked verify "$FOLDER" revoked client

client "cryptography, with CRLs" "$version" "each verification, by the CRLs it is given" \
    "the same, then the CRL of each issuer: revoked() in tests/interop/clients/python/verify.py"
ask --crl "$FOLDER/crl.pem"
accepts widest verify "$OWN" widest client --crl "$OWN/crl.pem"
refuses revoked "revoked at" verify "$FOLDER" revoked client --crl "$FOLDER/crl.pem"
accepts "revoked, CRLs before" verify "$OWN" revoked client --crl "$OWN/before.pem"
refuses "no CRL of issuing" "no CRL of .*CN=Chancery issuing" verify "$FOLDER" good client --crl root-crl.pem
refuses "no CRL of root" "no CRL of .*CN=Chancery root" verify "$FOLDER" good client --crl issuing-crl.pem
refuses "CRLs lapsed" "lapsed at" verify "$OWN" good client --crl "$OWN/lapsed.pem"

client "Python ssl" "$("$python" -c 'import platform, ssl; print(platform.python_version() + ", OpenSSL", ssl.OPENSSL_VERSION.split()[1])')" \
    "the next handshake after load_verify_locations(new CRLs)" \
    "ssl.create_default_context(…, cafile=bundle); verify_flags |= VERIFY_X509_STRICT | VERIFY_CRL_CHECK_CHAIN; load_verify_locations(crl.pem); mTLS: tests/interop/clients/python/mtls.py"
connect() { # FOLDER CRLS SERVER CLIENT NAME OPTION…
    local folder=$1 crls=$2 server=$3 client=$4 name=$5
    shift 5
    "$python" "$here/mtls.py" "$folder/bundle.pem" "$crls" "$folder/$server" "$folder/$client" "$name" "$@"
}
crls=$FOLDER/crl.pem
accepts agent connect "$FOLDER" "$crls" service good crm.localhost
accepts service connect "$FOLDER" "$crls" service service crm.localhost
refuses "service, another name" "client: .*Hostname mismatch" connect "$FOLDER" "$crls" service good billing.localhost
accepts widest connect "$OWN" "$OWN/crl.pem" service widest crm.localhost
refuses revoked "server: .*certificate revoked" connect "$FOLDER" "$crls" service revoked crm.localhost
accepts "revoked, CRLs before" connect "$OWN" "$OWN/before.pem" service revoked crm.localhost
refuses "revoked, CRLs loaded later" "server: .*certificate revoked" \
    connect "$OWN" "$OWN/before.pem" service revoked crm.localhost --reload "$OWN/crl.pem"
refuses foreign "server: .*unable to get local issuer" connect "$FOLDER" "$crls" service foreign crm.localhost
refuses "no CRL at all" "client: .*unable to get certificate CRL" connect "$FOLDER" none service good crm.localhost
refuses "no CRL of issuing" "client: .*unable to get certificate CRL" connect "$FOLDER" root-crl.pem service good crm.localhost
refuses "no CRL of root" "client: .*unable to get certificate CRL" connect "$FOLDER" issuing-crl.pem service good crm.localhost
refuses "CRLs lapsed" "client: .*CRL has expired" connect "$OWN" "$OWN/lapsed.pem" service good crm.localhost
