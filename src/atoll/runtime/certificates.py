"""A certificate authority and a certificate for an island that has none.

In     `python -m atoll.runtime.certificates DIR NAME...`: a folder, the names and addresses that clients use.
Out    DIR/ca.pem (public), DIR/cert.pem (certificate, then the CA's), DIR/key.pem (0600): P-256.
       The authority's key is used once and never written: nobody can make a second certificate with it.
Spec   [RFC 5280 §4.2]. Run as a process of its own, so that the supervisor never loads the library.
Fails  OSError. Files that are there are kept.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
CERTIFICATE_DAYS = 820
"""Apple's limit for authorities that a person installed is 825 days."""
_USAGES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
           "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")


def make(folder: Path, names: list[str]) -> None:
    """Write the three files, unless there is a certificate."""
    if (folder / "cert.pem").exists() and (folder / "key.pem").exists():
        return
    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)  # clocks of clients may be late
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Atoll demo authority"),
                         x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Atoll")])
    ca_identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = (_builder(ca_name, ca_name, ca_key.public_key(), now, CA_DAYS)
          .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
          .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
          .add_extension(ca_identifier, critical=False)
          .sign(ca_key, hashes.SHA256()))
    certificate = (_builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]), ca_name, key.public_key(),
                            now, CERTIFICATE_DAYS)
                   .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
                   .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                   .add_extension(_usage("digital_signature"), critical=True)
                   .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
                   .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
                   .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_identifier),
                                  critical=False)
                   .sign(ca_key, hashes.SHA256()))
    pem = serialization.Encoding.PEM
    write(folder / "ca.pem", ca.public_bytes(pem), 0o644)
    write(folder / "key.pem", key.private_bytes(pem, serialization.PrivateFormat.PKCS8,
                                                serialization.NoEncryption()), 0o600)
    write(folder / "cert.pem", certificate.public_bytes(pem) + ca.public_bytes(pem), 0o644)


def write(path: Path, data: bytes, mode: int) -> None:
    """A whole file or none, never readable by more than `mode` says."""
    part = path.with_suffix(path.suffix + ".part")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime.datetime,
             days: int) -> x509.CertificateBuilder:
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
            .serial_number(x509.random_serial_number()).not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=days)))


def _usage(*allowed: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in allowed for name in _USAGES})


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2:])
