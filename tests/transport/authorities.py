"""Authorities for tests, which issue whatever is asked for: expired, misnamed, of any use."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node.tls import TlsCredentials
from transport.certificates import Purpose, TlsFiles

LOCAL = ("localhost", "127.0.0.1")
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
MEMBER = "sudur:member:"


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path

    def files(self, ca: Path | None = None) -> TlsFiles:
        return TlsFiles(self.certificate, self.key, ca)

    def replace_by(self, newer: Issued) -> None:
        """Put another certificate and key in place of these, each file at once, as one who renews does."""
        newer.key.replace(self.key)
        newer.certificate.replace(self.certificate)


class Authority:
    """An authority with a file of its own; with ``above`` an intermediate one."""

    def __init__(
        self,
        directory: Path,
        name: str,
        *,
        above: Authority | None = None,
        start: float = -1,
        days: float = 900,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.path = directory / f"{name}.pem"
        self.key = ec.generate_private_key(ec.SECP256R1())
        builder = _named(name, self.key, above.certificate.subject if above else _name(name), start, days)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate: x509.Certificate = builder.sign(above.key if above else self.key, hashes.SHA256())
        self.path.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def issue(
        self,
        name: str,
        hosts: Sequence[str] = LOCAL,
        *,
        uris: Sequence[str] = (),
        usages: Sequence[x509.ObjectIdentifier] = BOTH,
        start: float = -1,
        days: float = 90,
        passphrase: str = "",
        authority: bool = False,
    ) -> Issued:
        """Valid from ``start`` to ``start`` + ``days``, in days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _named(name, key, self.certificate.subject, start, days)
        names = [_host(host) for host in hosts] + [x509.UniformResourceIdentifier(uri) for uri in uris]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(authority, None), critical=True)
        certificate = builder.sign(self.key, hashes.SHA256())
        stem = f"{self.path.stem} {name}"
        issued = Issued(self.directory / f"{stem}.pem", self.directory / f"{stem}.key")
        issued.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        issued.key.touch(0o600)
        issued.key.write_bytes(_pem(key, passphrase))
        return issued

    def credentials(self, shown: Issued) -> TlsCredentials:
        """Those of a client that shows this and believes this authority."""
        return TlsCredentials(shown.files(self.path), Purpose.CLIENT)

    def member(self, name: str, **more: float) -> Issued:
        """A member's, of a cluster on this machine."""
        return self.issue(name, uris=[MEMBER + name], start=more.get("start", -1), days=more.get("days", 90))


def _pem(key: ec.EllipticCurvePrivateKey, passphrase: str) -> bytes:
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase:
        encryption = BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def _named(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, start: float, days: float
) -> x509.CertificateBuilder:
    begin = datetime.now(UTC) + timedelta(days=start)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
