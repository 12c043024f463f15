# nginx as an mTLS server over loopback; curl calls it.
. "$(dirname "$0")/../ask.sh"
client "nginx" "$(nginx -v 2>&1 | sed 's/.*nginx\///')" "the next handshake after \`nginx -s reload\`" \
    "ssl_client_certificate bundle.pem; ssl_crl crl.pem; ssl_verify_client on; ssl_verify_depth 2; as in tests/interop/clients/nginx/judge.sh"

served=
trap '[ -z "$served" ] || stop "$served"' EXIT
serve() { # FOLDER [CRLS]: trusts the folder's bundle; CRLs are copied to where a reload reads them
    if [ -n "$served" ]; then stop "$served"; fi
    local crl=
    if [ -n "${2:-}" ]; then
        cp "$2" crl.pem
        crl="ssl_crl $PWD/crl.pem;"
    fi
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    rm -f upstream.sock
    : >error.log
    cat >nginx.conf <<CONF
$([ "$(id -u)" -ne 0 ] || echo "user root;")
worker_processes 1;
pid $PWD/pid;
error_log $PWD/error.log info;
events {}
http {
    access_log off;
    client_body_temp_path $PWD/body; proxy_temp_path $PWD/proxy; fastcgi_temp_path $PWD/fastcgi;
    uwsgi_temp_path $PWD/uwsgi; scgi_temp_path $PWD/scgi;
    server {
        listen 127.0.0.1:$port ssl;
        ssl_protocols TLSv1.3;
        ssl_certificate $1/service/cert.pem;
        ssl_certificate_key $1/service/key.pem;
        ssl_client_certificate $1/bundle.pem;
        $crl
        ssl_verify_client on;
        ssl_verify_depth 2;
        # An agent has no Subject to match: what is behind nginx gets the certificate itself.
        location / {
            proxy_set_header Client-Cert \$ssl_client_escaped_cert;
            proxy_pass http://unix:$PWD/upstream.sock:;
        }
    }
    server {
        listen unix:$PWD/upstream.sock;
        location / { return 200 "\$http_client_cert\n"; }
    }
}
CONF
    nginx -p "$PWD" -c nginx.conf -e error.log # comes back when it listens
    served=$(cat pid)
}
fetch() { # FOLDER CLIENT: on a refusal, says why as nginx does
    curl -sS --fail --max-time 20 --noproxy '*' --connect-to "crm.localhost:443:127.0.0.1:$port" --cacert "$1/bundle.pem" \
        --cert "$1/$2/cert.pem" --key "$1/$2/key.pem" https://crm.localhost/ && return
    grep -o 'client SSL certificate verify error: ([^)]*)' error.log | tail -n 1
    return 1
}
part 1 "$FOLDER/crl.pem" >issuing-crl.pem
part 2 "$FOLDER/crl.pem" >root-crl.pem

serve "$FOLDER" "$FOLDER/crl.pem"
accepts agent fetch "$FOLDER" good
accepts service fetch "$FOLDER" service
refuses revoked "23:certificate revoked" fetch "$FOLDER" revoked
# Of several problems nginx names the last: here there is also no CRL of the foreign authorities.
refuses foreign "3:unable to get certificate CRL" fetch "$FOLDER" foreign
serve "$FOLDER"
refuses "foreign, no CRL at all" "(20:unable to get local issuer|21:unable to verify the first)" fetch "$FOLDER" foreign
accepts "no CRL at all" fetch "$FOLDER" revoked
serve "$FOLDER" root-crl.pem
refuses "no CRL of issuing" "3:unable to get certificate CRL" fetch "$FOLDER" good
serve "$FOLDER" issuing-crl.pem
refuses "no CRL of root" "3:unable to get certificate CRL" fetch "$FOLDER" good
serve "$OWN" "$OWN/lapsed.pem"
refuses "CRLs lapsed" "12:CRL has expired" fetch "$OWN" good

serve "$OWN" "$OWN/before.pem"
accepts widest fetch "$OWN" widest
accepts "revoked, CRLs before" fetch "$OWN" revoked
cp "$OWN/crl.pem" crl.pem
accepts "revoked, CRLs not reloaded" fetch "$OWN" revoked
# The first refusal after a reload, and how long it took.
reloaded() {
    local start=${EPOCHREALTIME/./} last
    nginx -p "$PWD" -c nginx.conf -e error.log -s reload
    while last=$(fetch "$OWN" revoked 2>&1); do
        [ $((${EPOCHREALTIME/./} - start)) -lt 10000000 ] || return 0
    done
    echo "$last after $(((${EPOCHREALTIME/./} - start) / 1000)) ms"
    return 1
}
refuses "revoked, CRLs reloaded" "23:certificate revoked\) after" reloaded
