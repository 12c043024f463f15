# NSS by vfychain: both its verifications, with CRLs imported into a database.
. "$(dirname "$0")/../ask.sh"

database() { # NAME FOLDER CRLS: a new one with the root, the issuing authority and these CRLs
    local database=sql:$1 n
    mkdir "$1"
    certutil -N -d "$database" --empty-password
    certutil -A -d "$database" -n root -t CT,, -a -i "$2/bundle.pem"
    certutil -A -d "$database" -n issuing -t ,, -a -i "$2/issuing.pem"
    for n in 1 2; do
        part $n "$3" >one.pem
        [ -s one.pem ] || continue
        openssl crl -in one.pem -outform der -out one.crl
        crlutil -I -d "$database" -t 1 -i one.crl
    done
}
leaf() { # FOLDER WHOSE: in DER
    openssl x509 -in "$1/$2/cert.pem" -outform der -out "$2.der"
}
verify() { # DATABASE WHOSE USAGE OPTION…
    local database=$1 whose=$2 usage=$3
    shift 3
    vfychain -d "sql:$database" -u "$usage" "$@" "$whose.der"
}

part 1 "$FOLDER/crl.pem" >issuing-crl.pem
part 2 "$FOLDER/crl.pem" >root-crl.pem
database now "$FOLDER" "$FOLDER/crl.pem"
database only-root "$FOLDER" root-crl.pem
database only-issuing "$FOLDER" issuing-crl.pem
database before "$OWN" "$OWN/before.pem"
database lapsed "$OWN" "$OWN/lapsed.pem"
mkdir own && database own/now "$OWN" "$OWN/crl.pem"

version=$(dpkg-query -W -f '${Version}' libnss3 | sed 's/^[0-9]*://; s/-.*//')
client_usage=0
server_usage=1

ask() { # OPTION…
    leaf "$FOLDER" good
    leaf "$FOLDER" service
    leaf "$FOLDER" revoked
    leaf "$FOLDER" foreign
    leaf "$OWN" widest
    accepts agent verify now good $client_usage "$@"
    accepts "agent as server" verify now good $server_usage "$@"
    accepts service verify now service $server_usage "$@"
    accepts widest verify own/now widest $client_usage "$@"
    refuses revoked "has been revoked" verify now revoked $client_usage "$@"
    refuses foreign "issuer is not recognized" verify now foreign $client_usage "$@"
    leaf "$OWN" revoked
    accepts "revoked, CRLs before" verify before revoked $client_usage "$@"
    # It looks at those CRLs that were imported, asks for none, and does not judge how old they are.
    leaf "$OWN" good
    accepts "CRLs lapsed" verify lapsed good $client_usage "$@"
    leaf "$FOLDER" good
    accepts "no CRL of issuing" verify only-root good $client_usage "$@"
    accepts "no CRL of root" verify only-issuing good $client_usage "$@"
}

client "NSS" "$version" "once imported" "crlutil -I -d sql:db -i crl.der; vfychain -d sql:db -u 0 leaf.der"
ask

# Left to itself it would ask the distribution point.
local_only=(-pp -g leaf -m crl -s requireInfo,forbidFetching -g chain -m crl -s requireInfo,forbidFetching)
client "NSS, PKIX library" "$version" "once imported" "vfychain -d sql:db -u 0 ${local_only[*]} leaf.der"
ask "${local_only[@]}"
