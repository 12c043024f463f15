# curl as the client of an mTLS server over loopback, which is OpenSSL's.
. "$(dirname "$0")/../ask.sh"
client "curl" "$(curl --version | sed -n '1s/^curl \([^ ]*\).* \(OpenSSL\/[^ ]*\).*/\1, \2/p' | tr / ' ')" "the next run, by the file it is given" \
    "curl --cacert bundle.pem --crlfile crl.pem --cert cert.pem --key key.pem https://crm.localhost"

served=
trap '[ -z "$served" ] || stop "$served"' EXIT
serve() { # FOLDER WHOSE: on a free port, strict about its clients
    if [ -n "$served" ]; then stop "$served"; fi
    cat "$1/bundle.pem" "$1/crl.pem" >trust.pem
    : >server.log
    openssl s_server -accept 127.0.0.1:0 -www -cert "$1/$2/cert.pem" -cert_chain "$1/$2/cert.pem" -key "$1/$2/key.pem" \
        -CAfile trust.pem -x509_strict -crl_check_all -Verify 3 -verify_return_error >server.log 2>&1 &
    served=$!
    until_line '^ACCEPT' server.log "$served"
    port=$(sed -n 's/^ACCEPT .*:\([0-9]*\)$/\1/p' server.log)
}
fetch() { # FOLDER CLIENT NAME OPTION…
    local folder=$1 client=$2 name=$3
    shift 3
    curl -sS --max-time 20 --noproxy '*' --connect-to "$name:443:127.0.0.1:$port" --cacert "$folder/bundle.pem" \
        --cert "$folder/$client/cert.pem" --key "$folder/$client/key.pem" "$@" "https://$name/" -o page -w '%{http_code} %{ssl_verify_result}\n'
}
part 1 "$FOLDER/crl.pem" >issuing-crl.pem
part 2 "$FOLDER/crl.pem" >root-crl.pem

serve "$FOLDER" service
accepts service fetch "$FOLDER" good crm.localhost --crlfile "$FOLDER/crl.pem"
accepts agent fetch "$FOLDER" good crm.localhost --crlfile "$FOLDER/crl.pem"
refuses "service, another name" "no alternative certificate subject name" fetch "$FOLDER" good billing.localhost --crlfile "$FOLDER/crl.pem"
refuses "revoked, by the server" "alert" fetch "$FOLDER" revoked crm.localhost --crlfile "$FOLDER/crl.pem"
# Without --crlfile nothing is checked; with one, the list of every authority has to be in it.
accepts "no CRL at all" fetch "$FOLDER" good crm.localhost
refuses "no CRL of issuing" "unable to get certificate CRL" fetch "$FOLDER" good crm.localhost --crlfile root-crl.pem
refuses "no CRL of root" "unable to get certificate CRL" fetch "$FOLDER" good crm.localhost --crlfile issuing-crl.pem

serve "$FOLDER" revoked
refuses revoked "certificate revoked" fetch "$FOLDER" good crm.localhost --crlfile "$FOLDER/crl.pem"
serve "$FOLDER" foreign
refuses foreign "unable to get local issuer" fetch "$FOLDER" good crm.localhost --crlfile "$FOLDER/crl.pem"

serve "$OWN" service
refuses "CRLs lapsed" "CRL has expired" fetch "$OWN" good crm.localhost --crlfile "$OWN/lapsed.pem"
accepts widest fetch "$OWN" widest crm.localhost --crlfile "$OWN/crl.pem"

# The feed never ends: curl reads for some seconds and says 28. It is heard while nothing happens, and resumed where it was.
feed() { # HTTP QUERY WANTED UNWANTED OPTION…: events by their names, in order, of those that may come once
    local version=$1 query=$2 wanted=$3 unwanted=$4 ended=0
    shift 4
    curl -sS -N "--$version" --max-time 4 --noproxy '*' -D head -o events --cacert "$OCSP/bundle.pem" \
        --cert "$OCSP/follower/cert.pem" --key "$OCSP/follower/key.pem" "$@" "$ISSUER_URL/v1/feed$query" || ended=$?
    [ "$ended" -eq 28 ] || { echo "it ended by $ended"; return 1; }
    head -n 1 head
    grep -qi "^HTTP/${version#http}[. 0]*200" head || return 1
    grep -qi '^content-type: text/event-stream' head || { cat head; return 1; }
    [ "$(grep -c '^event: head$' events)" -ge 2 ] || { cat events; return 1; }
    for name in $wanted; do grep -q "^event: $name\$" events || { echo "no $name"; cat events; return 1; }; done
    for name in $unwanted; do ! grep -q "^event: $name\$" events || { echo "a $name"; cat events; return 1; }; done
    echo "$(grep -c '^event: ' events) events: $(sed -n 's/^event: //p' events | head -n 5 | tr '\n' ' '), $(head -n 1 head)"
}
for version in http2 http1.1; do
    accepts "feed, $version" feed "$version" "" "head-key snapshot entry bundle" ""
    accepts "feed, $version, resumed" feed "$version" "?epoch=1&after=0" "head-key entry bundle" snapshot
    accepts "feed, $version, no news" feed "$version" "?epoch=1&after=1" "head-key bundle" "snapshot entry"
    accepts "feed, $version, by event id" feed "$version" "" "head-key bundle" "snapshot entry" -H "Last-Event-ID: 1.1"
    refuses "feed, $version, nobody" "401" curl -sS "--$version" --max-time 4 --noproxy '*' -w '%{http_code}' --fail \
        --cacert "$OCSP/bundle.pem" "$ISSUER_URL/v1/feed"
done
