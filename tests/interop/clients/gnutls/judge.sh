# GnuTLS by certtool.
. "$(dirname "$0")/../ask.sh"
client "GnuTLS" "$(certtool --version | sed -n '1s/.* //p')" "each verification, by the CRLs it is given" \
    "certtool --verify --verify-profile medium --verify-purpose 1.3.6.1.5.5.7.3.2 --load-ca-certificate bundle.pem --load-crl crl.pem --infile cert.pem; certtool --verify-crl --load-ca-certificate issuing.pem --infile issuing-crl.pem"

client_auth=1.3.6.1.5.5.7.3.2
server_auth=1.3.6.1.5.5.7.3.1
verify() { # FOLDER WHOSE CRLS PURPOSE…
    local folder=$1 whose=$2 crls=$3
    shift 3
    certtool --verify --verify-profile medium --load-ca-certificate "$folder/bundle.pem" --load-crl "$crls" \
        --infile "$folder/$whose/cert.pem" --verify-purpose "$@"
}
verify_crl() { # ISSUER CRL
    certtool --verify-crl --load-ca-certificate "$1" --infile "$2"
}

part 1 "$FOLDER/crl.pem" >issuing-crl.pem
part 2 "$FOLDER/crl.pem" >root-crl.pem
part 1 "$OWN/lapsed.pem" >lapsed-crl.pem
crls=$FOLDER/crl.pem
accepts agent verify "$FOLDER" good "$crls" $client_auth
accepts "agent as server" verify "$FOLDER" good "$crls" $server_auth
accepts service verify "$FOLDER" service "$crls" $server_auth --verify-hostname crm.localhost
refuses "service, another name" "name in the certificate does not match" \
    verify "$FOLDER" service "$crls" $server_auth --verify-hostname billing.localhost
accepts widest verify "$OWN" widest "$OWN/crl.pem" $client_auth
refuses revoked "chain is revoked" verify "$FOLDER" revoked "$crls" $client_auth
accepts "revoked, CRLs before" verify "$OWN" revoked "$OWN/before.pem" $client_auth
refuses foreign "issuer is unknown" verify "$FOLDER" foreign "$crls" $client_auth
# It looks at those CRLs that are there and asks for none; how old they are it judges only when asked.
accepts "no CRL of issuing" verify "$FOLDER" good root-crl.pem $client_auth
accepts "no CRL of root" verify "$FOLDER" good issuing-crl.pem $client_auth
accepts "CRLs lapsed" verify "$OWN" good "$OWN/lapsed.pem" $client_auth

accepts "CRL's signature" verify_crl "$FOLDER/issuing.pem" issuing-crl.pem
accepts "root CRL's signature" verify_crl "$FOLDER/bundle.pem" root-crl.pem
refuses "CRL, another issuer" "issuer is unknown" verify_crl "$FOLDER/foreign/bundle.pem" issuing-crl.pem
refuses "the lapsed CRL itself" "superseded" verify_crl "$OWN/issuing.pem" lapsed-crl.pem

client "GnuTLS, OCSP" "$(ocsptool --version | sed -n '1s/.* //p')" "the next request" \
    "ocsptool --ask=URL --nonce --load-cert leaf.pem --load-issuer issuing.pem --load-trust authorities.pem; ocsptool --verify-response --load-trust issuing.pem --load-response response.der --inder"
cat "$OCSP/issuing.pem" "$OCSP/bundle.pem" >ocsp-authorities.pem
by_ocsptool() { # WHOSE OPTION…
    local whose=$1
    shift
    part 1 "$OCSP/$whose/cert.pem" >leaf.pem
    ocsptool --ask="$OCSP_URL" "$@" --load-cert leaf.pem --load-issuer "$OCSP/issuing.pem" --load-trust ocsp-authorities.pem \
        --outder --outfile response.der
    ocsptool --verify-response --load-trust "$OCSP/issuing.pem" --load-response response.der --inder | tee verified
    grep -q "Verifying OCSP Response: Success" verified
    ocsptool --response-info --load-response response.der --inder | grep "Certificate Status" | tee status
    grep -q good status
}
accepts "OCSP good" by_ocsptool good --nonce
accepts "OCSP good, no nonce" by_ocsptool good
refuses "OCSP revoked" "Status: revoked" by_ocsptool revoked --nonce
