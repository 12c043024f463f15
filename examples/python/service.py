"""A service in Python: mutual TLS with CRLs by `ssl`, each request decided by `chancery authz serve`. See README.md."""

import base64
import http.client
import os
import socket
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TLS = os.environ.get("TLS", "tls")
AUTHZ = os.environ.get("AUTHZ", "authz.sock")
PORT = int(os.environ.get("PORT", "9443"))


class Tls:
    """The context for the next connection: `authz serve --dir` replaces the files while we run."""

    def __init__(self, folder):
        self.key, self.cert, self.bundle, self.crl = (f"{folder}/{name}.pem" for name in ("key", "cert", "bundle", "crl"))
        self.seen, self.newest = None, None

    def context(self):
        seen = [os.stat(path).st_mtime_ns for path in (self.key, self.cert, self.bundle, self.crl)]
        if seen != self.seen:
            try:
                self.newest, self.seen = self.load(), seen
            except ssl.SSLError:  # the key was new and the certificate not yet: the next connection tries again
                if self.newest is None:
                    raise
        return self.newest

    def load(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0  # a resumed session would skip the check of its certificate
        context.load_cert_chain(self.cert, self.key)
        context.load_verify_locations(self.bundle)
        context.load_verify_locations(self.crl)
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_CRL_CHECK_CHAIN
        context.verify_mode = ssl.CERT_OPTIONAL  # CERT_REQUIRED where nothing is public
        return context


class Authz(http.client.HTTPConnection):
    """HTTP over the Unix socket of `authz serve`."""

    def __init__(self, path):
        super().__init__("authz", timeout=5)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def decide(method, target, certificate):
    """Whether the request may pass: status, what we learn of the caller, the refusal's document."""
    asked = {"X-Forwarded-Method": method, "X-Forwarded-Uri": target}
    if certificate:
        asked["X-Forwarded-Tls-Client-Cert"] = base64.b64encode(certificate).decode()
    try:
        connection = Authz(AUTHZ)
        connection.request("GET", "/forward-auth", headers=asked)
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()
    except OSError:
        return 503, {}, b'{"code": "authz-unreachable"}'  # nobody to ask: nobody passes


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        status, caller, document = decide(self.command, self.path, self.connection.getpeercert(binary_form=True))
        if status != 200:
            return self.send(status, "application/problem+json", document)
        who = caller["Chancery-Spiffe-Id"] or "nobody in particular"
        return self.send(200, "text/plain", f"hello {who}, who holds {caller['Chancery-Scopes']}\n".encode())

    do_GET = do_POST = answer

    def send(self, status, kind, body):
        self.close_connection |= int(self.headers.get("Content-Length", 0)) > 0  # nobody reads it here
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    tls = Tls(TLS)

    def finish_request(self, request, address):  # in the connection's own thread, so that no handshake delays another's
        request.settimeout(30)
        try:
            with self.tls.context().wrap_socket(request, server_side=True) as secured:
                self.RequestHandlerClass(secured, address, self)
        except (ssl.SSLError, OSError):
            pass  # refused in the handshake, or gone


if __name__ == "__main__":
    print(f"on https://localhost:{PORT}", flush=True)
    Server(("127.0.0.1", PORT), Handler).serve_forever()
