# Go's crypto/x509.
. "$(dirname "$0")/../ask.sh"
command -v go >/dev/null || { echo "this judge needs go on the PATH"; exit 1; }
(cd "$here" && GOFLAGS=-mod=mod GOTOOLCHAIN=local go build -o "$OLDPWD/verify" .)
version=$(go env GOVERSION | sed 's/^go//')

part 1 "$FOLDER/crl.pem" >issuing-crl.pem
part 2 "$FOLDER/crl.pem" >root-crl.pem
verify() { # FOLDER WHOSE USAGE OPTION…
    local folder=$1 whose=$2 usage=$3
    shift 3
    ./verify -bundle "$folder/bundle.pem" -chain "$folder/$whose/cert.pem" -usage "$usage" "$@"
}
ask() { # OPTION…
    accepts agent verify "$FOLDER" good client "$@"
    accepts "agent as server" verify "$FOLDER" good server "$@"
    accepts service verify "$FOLDER" service server -name crm.localhost "$@"
    refuses "service, another name" "valid for crm.localhost, not billing" verify "$FOLDER" service server -name billing.localhost "$@"
    accepts "service as client" verify "$FOLDER" service client "$@"
    refuses foreign "unknown authority" verify "$FOLDER" foreign client "$@"
}

client "Go crypto/x509" "$version" "–" "Certificate.Verify"
ask
accepts widest verify "$OWN" widest client
# Verify has no place for a CRL.
accepts revoked verify "$FOLDER" revoked client

client "Go, with CRLs" "$version" "each verification, by the CRLs it is given" \
    "Certificate.Verify, then ParseRevocationList and CheckSignatureFrom for each issuer: revoked() in tests/interop/clients/go/main.go"
ask -crl "$FOLDER/crl.pem"
accepts widest verify "$OWN" widest client -crl "$OWN/crl.pem"
refuses revoked "revoked at" verify "$FOLDER" revoked client -crl "$FOLDER/crl.pem"
accepts "revoked, CRLs before" verify "$OWN" revoked client -crl "$OWN/before.pem"
refuses "no CRL of issuing" "no CRL of .*CN=Chancery issuing" verify "$FOLDER" good client -crl root-crl.pem
refuses "no CRL of root" "no CRL of .*CN=Chancery root" verify "$FOLDER" good client -crl issuing-crl.pem
refuses "CRLs lapsed" "lapsed at" verify "$OWN" good client -crl "$OWN/lapsed.pem"

client "Go x/crypto/ocsp" "0.26.0, Go $version" "the next request" \
    "ocsp.CreateRequest, POST or GET, ocsp.ParseResponseForCert: tests/interop/clients/go/ocsp/main.go"
(cd "$here/ocsp" && GOFLAGS=-mod=mod GOTOOLCHAIN=local go build -o "$OLDPWD/ask-ocsp" .)
by_go() { # WHOSE OPTION…
    local whose=$1
    shift
    ./ask-ocsp -issuing "$OCSP/issuing.pem" -chain "$OCSP/$whose/cert.pem" "$@"
}
accepts "OCSP good" by_go good
refuses "OCSP revoked" "revoked at .* reason 1" by_go revoked
for how in -get -sha256 "-get -sha256"; do
    accepts "OCSP $how" by_go good $how
    refuses "OCSP revoked $how" "revoked at" by_go revoked $how
done
