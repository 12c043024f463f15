"""One connection over loopback with Python's ssl on both ends, each strict about the other:
mtls.py bundle CRLS|none server-folder client-folder host-name [--reload CRLS]

Says what the refusing end said. With --reload, the server loads these CRLs too after it has made its context.
"""

import argparse
import pathlib
import socket
import ssl
import sys
import threading

parser = argparse.ArgumentParser()
parser.add_argument("bundle")
parser.add_argument("crls")
parser.add_argument("server", type=pathlib.Path)
parser.add_argument("client", type=pathlib.Path)
parser.add_argument("name")
parser.add_argument("--reload")
arguments = parser.parse_args()


def context(purpose: ssl.Purpose, folder: pathlib.Path) -> ssl.SSLContext:
    made = ssl.create_default_context(purpose, cafile=arguments.bundle)
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_CRL_CHECK_CHAIN
    if arguments.crls != "none":
        made.load_verify_locations(cafile=arguments.crls)
    made.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return made


def serve(listener: socket.socket, accepting: ssl.SSLContext, said: list[str]) -> None:
    connection, _ = listener.accept()
    connection.settimeout(20)
    try:
        with accepting.wrap_socket(connection, server_side=True) as tls:
            names = tls.getpeercert()["subjectAltName"]
            tls.recv(1)
            tls.sendall(repr(names[0]).encode())
    except OSError as refused:
        said.append(f"server: {refused}")


accepting = context(ssl.Purpose.CLIENT_AUTH, arguments.server)
if arguments.reload:
    accepting.load_verify_locations(cafile=arguments.reload)
said: list[str] = []
with socket.create_server(("127.0.0.1", 0)) as listener:
    server = threading.Thread(target=serve, args=(listener, accepting, said))
    server.start()
    answer = b""
    try:
        with socket.create_connection(listener.getsockname(), timeout=20) as connection:
            calling = context(ssl.Purpose.SERVER_AUTH, arguments.client)
            # In TLS 1.3 the client is done before the server has looked at its certificate: only an answer counts.
            with calling.wrap_socket(connection, server_hostname=arguments.name) as tls:
                tls.sendall(b"?")
                answer = tls.recv(1000)
    except OSError as refused:
        said.append(f"client: {refused}")
    server.join()
print(answer.decode() or "; ".join(said))
sys.exit(not answer)
