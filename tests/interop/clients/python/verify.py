"""pyca/cryptography judges one chain: verify.py bundle chain client|server[:name] [--crl CRLS]

Its verifiers look at no CRL. With --crl, revoked() shows what a Python program adds: a list for every issuer of the chain,
signed by it, not lapsed, and without the certificate.
"""

import argparse
import datetime
import re
import sys

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

SCOPE = x509.ObjectIdentifier("1.3.6.1.4.1.32473.2")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle")
    parser.add_argument("chain")
    parser.add_argument("usage")
    parser.add_argument("--crl")
    arguments = parser.parse_args()

    builder = PolicyBuilder().store(Store(certificates(arguments.bundle)))
    leaf, *rest = certificates(arguments.chain)
    usage, _, name = arguments.usage.partition(":")
    try:
        if usage == "client":
            path = builder.build_client_verifier().verify(leaf, rest).chain
        else:
            path = builder.build_server_verifier(x509.DNSName(name)).verify(leaf, rest)
    except VerificationError as refused:
        print(refused)
        return 1
    if arguments.crl and (why := revoked(path, crls(arguments.crl))):
        print(why)
        return 1
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    scopes = [name for name in names.get_values_for_type(x509.OtherName) if name.type_id == SCOPE]
    print(names.get_values_for_type(x509.UniformResourceIdentifier), len(scopes), "scopes")
    return 0


def revoked(path: list[x509.Certificate], lists: list[x509.CertificateRevocationList]) -> str | None:
    """Why one of the path's certificates is not known to be good."""
    now = datetime.datetime.now(datetime.timezone.utc)
    for certificate, issuer in zip(path, [*path[1:], path[-1]]):  # a root is its own issuer
        of_issuer = [crl for crl in lists if crl.issuer == issuer.subject]
        if not of_issuer:
            return f"no CRL of {issuer.subject.rfc4514_string()}"
        for crl in of_issuer:
            if not crl.is_signature_valid(issuer.public_key()):
                return "CRL with a wrong signature"
            if crl.next_update_utc < now:
                return f"CRL lapsed at {crl.next_update_utc}"
            if entry := crl.get_revoked_certificate_by_serial_number(certificate.serial_number):
                return f"revoked at {entry.revocation_date_utc}"
    return None


def certificates(path: str) -> list[x509.Certificate]:
    with open(path, "rb") as file:
        return x509.load_pem_x509_certificates(file.read())


def crls(path: str) -> list[x509.CertificateRevocationList]:
    with open(path, "rb") as file:
        blocks = re.findall(b"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", file.read(), re.DOTALL)
    return [x509.load_pem_x509_crl(block) for block in blocks]


sys.exit(main())
