"""Makes docs/clients.md of what the judges recorded: table.py record > clients.md"""

import sys

HEAD = """# Clients

What programs that know nothing of Chancery make of its certificates, CRLs and OCSP responses.
`tests/interop/clients.sh` asks each of them and writes this page of their answers; a client that changes its mind fails there.

An agent's certificate has an empty Subject, a critical SAN with one URI and an otherName for each scope, and the grant in a
private extension that is not critical. None of these clients is disturbed by that, nor by the largest certificate we make.

- **agent**, **service**: accepts the chain as a TLS client's, as a TLS server's.
- **revoked**: refuses a certificate that the CRL lists.
- **CRL missing**: refuses when the CRL of one authority of the chain (issuing or root) is not there. **CRL lapsed**: refuses
  when its nextUpdate has passed. "no" means it fails open: see to it yourself that the file is there and fresh.
- **within**: from the moment the new CRL is in reach of the client until it refuses. Before that, the issuer publishes
  within 200 ms of the revocation, and `chancery run` and `chancery sidecar` ask for it each second.
"""
OCSP = """
## OCSP

Asked of an issuer that runs: **good** accepts an answer that says so, **revoked** learns of the revocation from OCSP alone.
Each verifies the signature by the delegated responder, whose certificate comes with the answer. By GET and POST, with a nonce
and without, with SHA-1 and SHA-256 CertIDs, where the client can.
"""
TAIL = """
## Services that are not in Rust

How a service keeps out who may not pass, with whom the per-request check is. `tests/interop/services.sh` runs the examples with a
real issuer; it suspends an agent that calls on one open connection each few milliseconds, and prints how long that went on after
the command had returned. Figures of a busy machine with two cores.

| way | verifies | checks revocation | fails closed | an open connection is refused after | the handshake is refused after |
|---|---|---|---|---|---|
| Rust, `chancery-verifier` | chain, lineage, scope, each request | each request; open connections are cut | yes | docs/benchmarks.md | the same |
| nginx + `authz serve` + `revocations watch` (examples/nginx) | nginx the chain, `authz serve` all of it, each request | each request, and each handshake after the reload | yes: 500 without `authz serve`, 400 with lapsed CRLs | < 0.1 s | 0.5 to 0.7 s, with the reload |
| Envoy 1.38 + `authz serve` (examples/envoy) | the same | each request, and each handshake by files it reads anew | yes: 403 | < 0.1 s | 0.3 to 1.1 s |
| Python `ssl` + `authz serve` (examples/python) | the same | each request, and each handshake | yes: 503 | < 0.1 s | 0.5 s |
| Node `https` + `authz serve` (examples/node) | the same | each request, and each handshake | yes: 503 | < 0.1 s | 0.5 to 1.2 s |
| CRL files alone (`chancery sidecar`, `revocations watch`) | what the client above does; no scopes | at the handshake | see the table above | never | 1.2 s, and what the client needs to read them |

`authz serve` hears the issuer's feed; without it, it asks for CRLs each second, as whoever writes CRL files does. A request on a
connection that got past the handshake is refused all the same. With the issuer away a verdict rests on what was known: flagged
after 30 s (`Chancery-Knowledge: stale`), refused after 15 minutes.

## What to know

- **A CRL for every authority.** OpenSSL, and so curl, nginx, Python and Node, want the root's CRL too when they check the
  chain: give them both, as `crl.pem` and `CHANCERY_CRL` have them.
- **Open connections.** Every client here checks at the handshake. A connection that is open stays open until the program
  closes it; the Chancery verifier cuts it.
- **GnuTLS and NSS fail open** on a CRL that is missing or lapsed. Check the lists first (`certtool --verify-crl` refuses a
  lapsed one). NSS' PKIX library has `failIfNoInfo`, but in 3.87 that needs the distribution point to answer: together with
  `forbidFetching` it refuses every chain.
- **Java** asks the distribution point only with `-Dcom.sun.security.enableCRLDP=true` or a PKIXRevocationChecker of your
  own; so the judge sets the default aloud and gives it the files.
- **Go and Python `cryptography`** check no revocation by themselves; each judge has the thirty lines that do.
- **Node** reads one CRL of each string: split `crl.pem`. When `rejectUnauthorized` refuses a client, both ends see
  `ECONNRESET` and no reason.
- **Node and nginx** name the last of several problems: a foreign certificate is "no CRL" to them when CRLs are checked.
- **nginx** reads `ssl_crl` when it starts and on reload, which took 0.1 to 0.2 s on two busy cores. As an agent has no Subject, `$ssl_client_s_dn` is empty: pass on
  `$ssl_client_escaped_cert`, which fits nginx' default header buffers however many scopes there are.
- **otherName** is text in `openssl x509 -text` and typed in Python `cryptography`; in Go it takes the few lines of `scopes`
  in tests/interop/clients/go/main.go. Python `ssl` and Node print `<unsupported>`: read the certificate's DER.
- **Envoy** is judged by `tests/interop/services.sh`, as a server: its plain validator checks revoked certificates by the CRLs of
  the whole chain and reads the files anew when they are replaced (`watched_directory`). By what is known of it, not measured here,
  its SPIFFE validator looks at no CRL.
- **pkilint** has one finding, on each certificate: `pkix.invalid_uri_syntax`, because its URI rule knows only the schemes of
  the web. `tests/interop/clients/pkilint/allowed.txt` is the whole list of what we accept.
"""
NOTHING = "–"


def main() -> None:
    clients: dict[str, dict[str, str]] = {}
    with open(sys.argv[1], encoding="utf-8") as record:
        for line in record:
            client, question, answer, *_ = line.rstrip("\n").split("\t")
            clients.setdefault(client, {})[question] = answer

    print(HEAD)
    print("| client | version | agent | service | revoked | CRL missing | CRL lapsed | within |")
    print("|---|---|---|---|---|---|---|---|")
    for client, said in clients.items():
        if "agent" not in said:
            continue  # pkilint judges form, not chains
        missing = [verdict(said, f"no CRL of {authority}", "refuses") for authority in ("issuing", "root")]
        cells = [
            client,
            said["version"],
            verdict(said, "agent", "accepts"),
            verdict(said, "service", "accepts"),
            verdict(said, "revoked", "refuses"),
            missing[0] if missing[0] == missing[1] else " / ".join(missing),
            verdict(said, "CRLs lapsed", "refuses"),
            said["within"],
        ]
        print("| " + " | ".join(cells) + " |")
    print(OCSP)
    print("| client | version | good | revoked | within |")
    print("|---|---|---|---|---|")
    for client, said in clients.items():
        if "OCSP revoked" in said and "within" in said:
            good, revoked = verdict(said, "OCSP good", "accepts"), verdict(said, "OCSP revoked", "refuses")
            print(f"| {client} | {said['version']} | {good} | {revoked} | {said['within']} |")
    print("\n## Commands\n")
    for client, said in clients.items():
        if "command" not in said:
            continue  # a judge that ended early
        print(f"- {client} {said['version']}: `{said['command']}`")
    print(TAIL, end="")


def verdict(said: dict[str, str], question: str, wanted: str) -> str:
    answer = said.get(question)
    return {wanted: "yes", None: NOTHING, "FAILED": "FAILED"}.get(answer, "no")


main()
