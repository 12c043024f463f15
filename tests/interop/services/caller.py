"""Calls a service on one open connection until it is refused, then with handshakes until these are: caller.py PORT FOLDER [open]

With "open" handshakes are left out: not everything looks for revocations in them.

FOLDER has an agent's key.pem, cert.pem and bundle.pem. One line for each of "open" and "handshake": when the last call that was
let in began and when the first refusal came, in microseconds since the epoch, and what was said. "begun" when the first call was let in.
"""

import http.client
import json
import ssl
import sys
import time

port, folder = int(sys.argv[1]), sys.argv[2]
context = ssl.create_default_context(cafile=f"{folder}/bundle.pem")
context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
DEADLINE = time.time() + 60


class Connection(http.client.HTTPSConnection):
    """To loopback, whatever localhost is."""

    def connect(self):
        http.client.HTTPConnection.connect(self)
        self.sock = context.wrap_socket(self.sock, server_hostname="localhost")


def call(connection):
    connection.request("GET", "/customers/42", headers={"Host": "localhost"})
    reply = connection.getresponse()
    return reply.status, reply.read().decode()


def code(body):
    try:
        return json.loads(body)["code"]
    except ValueError:
        return body.strip().splitlines()[0][:60]


def now():
    return int(time.time() * 1e6)


connection = Connection("127.0.0.1", port, timeout=10)
status, body = call(connection)
assert status == 200, (status, body)
print("begun", flush=True)
last = now()
while time.time() < DEADLINE:
    began = now()
    try:
        status, body = call(connection)
    except http.client.RemoteDisconnected:  # an idle connection that ended, as a reloaded nginx ends them
        connection.close()
        continue
    if status != 200:
        print("open", last, now(), status, code(body), flush=True)
        break
    last = began
connection.close()

while time.time() < DEADLINE and "open" not in sys.argv[3:]:
    connection = Connection("127.0.0.1", port, timeout=10)
    try:
        status, body = call(connection)
    except (OSError, http.client.HTTPException) as error:
        print("handshake", 0, now(), "none", getattr(error, "reason", None) or type(error).__name__, flush=True)
        break
    finally:
        connection.close()
    if status == 400:  # nginx says so after the handshake, before it looks at the request
        print("handshake", 0, now(), status, "certificate error", flush=True)
        break
