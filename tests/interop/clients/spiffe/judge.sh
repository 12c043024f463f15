# The SPIFFE SDK for Rust: are these X509-SVIDs?
. "$(dirname "$0")/../ask.sh"
client "spiffe (Rust)" "$(sed -n 's/^spiffe = .*"=\([0-9.]*\)".*/\1/p' "$here/Cargo.toml")" "–" \
    "X509Svid::parse_from_der(chain, key); X509Bundle::parse_from_der(trust_domain, bundle)"
CARGO_TARGET_DIR=$TOOLS/spiffe cargo build -q --locked --manifest-path "$here/Cargo.toml"

der() { # FILE: all its certificates, one after another
    local n
    for n in $(seq "$(grep -c -- '-----BEGIN' "$1")"); do part "$n" "$1" | openssl x509 -outform der; done
}
trust_domain=$(openssl x509 -in "$FOLDER/bundle.pem" -noout -ext subjectAltName | sed -n 's/.*URI:spiffe:\/\///p')
parse() { # CHAIN KEY BUNDLE TRUST-DOMAIN
    der "$1" >chain.der
    openssl pkcs8 -topk8 -nocrypt -in "$2" -outform der -out key.der
    der "$3" >bundle.der
    "$TOOLS/spiffe/debug/spiffe-judge" chain.der key.der bundle.der "$4"
}
accepts agent parse "$FOLDER/good/cert.pem" "$FOLDER/good/key.pem" "$FOLDER/bundle.pem" "$trust_domain"
accepts service parse "$FOLDER/service/cert.pem" "$FOLDER/service/key.pem" "$FOLDER/bundle.pem" "$trust_domain"
accepts widest parse "$OWN/widest/cert.pem" "$OWN/widest/key.pem" "$OWN/bundle.pem" interop.test
refuses foreign "of another trust domain" parse "$FOLDER/foreign/cert.pem" "$FOLDER/foreign/key.pem" "$FOLDER/bundle.pem" "$trust_domain"
refuses "an authority as leaf" LeafCertificateMissingDigitalSignature parse "$FOLDER/issuing.pem" "$FOLDER/good/key.pem" "$FOLDER/bundle.pem" "$trust_domain"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout two.key -out two.pem -subj / -days 1 2>/dev/null \
    -addext 'subjectAltName=critical,URI:spiffe://interop.test/agent/x,URI:spiffe://interop.test/agent/y' \
    -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature
refuses "two SPIFFE IDs" [Mm]ultiple parse two.pem two.key "$FOLDER/bundle.pem" interop.test
