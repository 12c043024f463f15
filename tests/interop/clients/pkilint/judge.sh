# pkilint: RFC 5280 and its relatives, rule by rule.
. "$(dirname "$0")/../ask.sh"
client "pkilint" "$("$TOOLS/venv/bin/pip" list 2>/dev/null | sed -n 's/^pkilint *//p')" "–" \
    "lint_pkix_cert lint -s NOTICE cert.pem; lint_crl lint -t CRL -p PKIX -s NOTICE crl.pem; lint_pkix_signer_signee_cert_chain lint -s NOTICE issuing.pem cert.pem; lint_ocsp_response lint -s NOTICE response.der"

lint() { # TOOL ARGUMENT…: says no when a finding is not on the list, and names it
    local tool=$1
    shift
    "$TOOLS/venv/bin/$tool" lint -s NOTICE -f JSON "$@" >findings.json || true
    python3 "$here/allowed.py" "$here/allowed.txt" <findings.json
}

for whose in good service revoked; do
    part 1 "$FOLDER/$whose/cert.pem" >leaf.pem
    accepts "leaf: $whose" lint lint_pkix_cert leaf.pem
    accepts "its issuer: $whose" lint lint_pkix_signer_signee_cert_chain "$FOLDER/issuing.pem" leaf.pem
done
part 1 "$OWN/widest/cert.pem" >leaf.pem
accepts "leaf: widest" lint lint_pkix_cert leaf.pem
accepts "issuing authority" lint lint_pkix_cert "$FOLDER/issuing.pem"
accepts "root" lint lint_pkix_cert "$FOLDER/bundle.pem"
accepts "issuing authority's issuer" lint lint_pkix_signer_signee_cert_chain "$FOLDER/bundle.pem" "$FOLDER/issuing.pem"
for crl in "$FOLDER/crl.pem" "$OWN/before.pem"; do
    part 1 "$crl" >one.pem
    accepts "CRL: $(basename "$crl")" lint lint_crl -t CRL -p PKIX one.pem
    part 2 "$crl" >one.pem
    accepts "root's CRL: $(basename "$crl")" lint lint_crl -t CRL -p PKIX one.pem
done
# A list that allowed everything would pass all of the above.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj / -days 1 \
    -addext 'subjectAltName=URI:spiffe://example.org/agent/x' -out flawed.pem 2>/dev/null
refuses "SAN not critical" "pkix.san_extension_not_critical_empty_subject" lint lint_pkix_cert flawed.pem

for whose in good revoked; do
    part 1 "$OCSP/$whose/cert.pem" >leaf.pem
    for nonce in -nonce -no_nonce; do
        openssl ocsp -issuer "$OCSP/issuing.pem" -cert leaf.pem $nonce -url "$OCSP_URL" -noverify -respout response.der >/dev/null 2>&1
        accepts "OCSP $whose $nonce" lint lint_ocsp_response response.der
    done
done
openssl ocsp -issuer "$OCSP/issuing.pem" -serial 1 -url "$OCSP_URL" -noverify -respout response.der >/dev/null 2>&1
accepts "OCSP of no certificate" lint lint_ocsp_response response.der
openssl ocsp -respin response.der -text -noverify >response.txt 2>/dev/null
part 1 response.txt >responder.pem
accepts "OCSP responder" lint lint_pkix_cert responder.pem
accepts "OCSP responder's issuer" lint lint_pkix_signer_signee_cert_chain "$OCSP/issuing.pem" responder.pem
python3 - response.der >flawed.der <<'PYTHON'
import re, sys
# Whatever the times are: nextUpdate, the last of them, a hundred years before.
response = open(sys.argv[1], "rb").read()
last = [time.start() for time in re.finditer(rb"20\d{12}Z", response)][-1]
sys.stdout.buffer.write(response[:last] + b"19" + response[last + 2 :])
PYTHON
refuses "OCSP, times reversed" "pkix.ocsp_negative_validity_period" lint lint_ocsp_response flawed.der
