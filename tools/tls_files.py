"""A small certificate authority in a directory, for a cluster of one's own: what ``sudur tls`` makes.

Two authorities, so that no client can ever pass for a member: ``ca.pem`` issues what nodes and etcd
show, ``client-ca.pem`` what clients show. Keys are of EC P-256 and lie open in files of mode 0600.
No certificate outlives its authority, and each is valid from an hour before it was made, for clocks
that are late.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tools.errors import FileProblem, NameTaken, Usage
from tools.files import PUBLIC, locked, make_private_directory, read_file, write_file, write_new_file
from transport.certificates import (
    MEMBER,
    hosts_of,
    is_member_name,
    member_of,
    parse_certificates,
    readable,
    uris_of,
)
from transport.errors import TlsProblem

DAYS: Final = 90
AUTHORITY_DAYS: Final = 3_650
CLIENT: Final = "sudur:client:"
LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
_LATE: Final = timedelta(hours=1)
_MAX_FILE: Final = 1 << 16


class Kind(Enum):
    """Whose certificate it is."""

    NODE = "node"
    ETCD = "etcd"
    CLIENT = "client"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A certificate to make. ``hosts``: DNS names and IP addresses; a client has none."""

    kind: Kind
    name: str
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """What a certificate says of itself, for a person."""

    path: Path
    kind: Kind
    name: str
    hosts: tuple[str, ...]
    issuer: str
    authority: bool
    not_before: datetime
    not_after: datetime
    fingerprint: str

    def days_left(self, now: datetime) -> int:
        """Whole days until it expires; negative when it has."""
        return (self.not_after - now).days


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class TlsDirectory:
    """The directory of both authorities and of all that they issued."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ca = path / "ca.pem"
        self.client_ca = path / "client-ca.pem"

    def create(self, wanted: Sequence[Wanted], days: int) -> list[Path]:
        """Make both authorities and the certificates; the certificates' paths, in order.

        Raises NameTaken when there is an authority already, Usage, FileProblem.
        """
        _check_names(wanted)
        make_private_directory(self.path)
        with locked(self.path):
            for path in (self.ca, self.client_ca, _key_path(self.ca), _key_path(self.client_ca)):
                _check_free(path)
            for one in wanted:
                self._check_free(one)
            for path, name in ((self.ca, "Sudur members"), (self.client_ca, "Sudur clients")):
                self._make_authority(path, f"{name} {x509.random_serial_number() >> 96:016x}")
            return self._issue(wanted, days)

    def add(self, wanted: Sequence[Wanted], days: int) -> list[Path]:
        """Make more certificates under the authorities that are there. Raises as :meth:`create`."""
        _check_names(wanted)
        if not self.ca.exists():
            raise Usage("holds no ca.pem", where=str(self.path), fix="begin with sudur tls init")
        with locked(self.path):
            for one in wanted:
                self._check_free(one)
            return self._issue(wanted, days)

    def renew(self, path: Path, days: int) -> None:
        """Put a certificate with new dates in place of an old one: the same names, the same key.

        One file changes, at once, so nothing that reads it meets a certificate with another's key.
        Raises FileProblem, TlsProblem for what was not issued here.
        """
        with locked(self.path):
            old = parse_certificates(path)[0]
            for authority in (self.ca, self.client_ca):
                issuer = self._open_authority(authority)
                if old.issuer != issuer.certificate.subject:
                    continue
                try:
                    old.verify_directly_issued_by(issuer.certificate)
                except (ValueError, TypeError, InvalidSignature):
                    continue
                write_file(path, _signed(_renewed(old), issuer, days), PUBLIC)
                return
        raise TlsProblem(
            f"was not issued by an authority in {self.path}",
            where=str(path),
            fix="renew it where it was issued, or give that directory with --ca-dir",
        )

    def _make_authority(self, path: Path, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _LATE)
            .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(key, hashes.SHA256())
        )
        write_new_file(_key_path(path), _key_pem(key))
        write_new_file(path, certificate.public_bytes(serialization.Encoding.PEM), PUBLIC)

    def _open_authority(self, path: Path) -> _Authority:
        key_path = _key_path(path)
        certificate = parse_certificates(path)[0]
        try:
            key = serialization.load_pem_private_key(read_file(key_path, _MAX_FILE), None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise FileProblem(
                f"is not the key of {path}", where=str(key_path), fix="restore it from its copy"
            )
        return _Authority(certificate, key)

    def _issue(self, wanted: Sequence[Wanted], days: int) -> list[Path]:
        paths = []
        for one in wanted:
            authority = self._open_authority(self.client_ca if one.kind is Kind.CLIENT else self.ca)
            key = ec.generate_private_key(ec.SECP256R1())
            path = self._path(one)
            write_new_file(_key_path(path), _key_pem(key))
            write_new_file(path, _signed(_builder(one, key.public_key()), authority, days), PUBLIC)
            paths.append(path)
        return paths

    def _path(self, one: Wanted) -> Path:
        return self.path / f"{one.name}.pem"

    def _check_free(self, one: Wanted) -> None:
        _check_free(self._path(one))
        _check_free(_key_path(self._path(one)))


def show(path: Path) -> list[Shown]:
    """What the certificates in a file say. Raises TlsProblem."""
    with readable(path):
        return [_shown(path, one) for one in parse_certificates(path)]


def _shown(path: Path, certificate: x509.Certificate) -> Shown:
    uris = uris_of(certificate)
    member = member_of(uris)
    client = next((uri.removeprefix(CLIENT) for uri in uris if uri.startswith(CLIENT)), None)
    hosts = tuple(hosts_of(certificate))
    kind, name = Kind.OTHER, _common_name(certificate.subject)
    if member is not None:
        kind, name = Kind.NODE, member
    elif client is not None:
        kind, name = Kind.CLIENT, client
    elif hosts and _common_name(certificate.subject).startswith("etcd "):
        kind, name = Kind.ETCD, name.removeprefix("etcd ")
    try:
        authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = False
    return Shown(
        path,
        kind,
        name,
        hosts,
        _common_name(certificate.issuer),
        authority,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def _check_names(wanted: Sequence[Wanted]) -> None:
    seen: set[str] = {"ca", "client-ca"}
    for one in wanted:
        if not is_member_name(one.name):
            raise Usage(
                f"{one.name!a} makes no name", fix="use letters, digits, '.', '_' and '-', 64 at most"
            )
        if one.name in seen:
            raise Usage(
                f"{one.name} would be the name of two files", fix="give each certificate a name of its own"
            )
        seen.add(one.name)
        for host in one.hosts:
            _general_name(host)


def _check_free(path: Path) -> None:
    if path.exists():
        raise NameTaken(
            "exists already and is not overwritten",
            where=str(path),
            fix="choose another directory or name; sudur tls add makes more certificates,"
            " sudur tls renew renews one",
        )


def _builder(wanted: Wanted, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    common = f"etcd {wanted.name}" if wanted.kind is Kind.ETCD else wanted.name
    names: list[x509.GeneralName] = [_general_name(host) for host in wanted.hosts]
    if wanted.kind is Kind.NODE:
        names.append(x509.UniformResourceIdentifier(MEMBER + wanted.name))
    elif wanted.kind is Kind.CLIENT:
        names.append(x509.UniformResourceIdentifier(CLIENT + wanted.name))
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if wanted.kind is not Kind.CLIENT:
        usages.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])]))
        .public_key(public)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _renewed(old: x509.Certificate) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(old.subject).public_key(old.public_key())
    for extension in old.extensions:
        if not isinstance(extension.value, x509.AuthorityKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    return builder


def _signed(builder: x509.CertificateBuilder, authority: _Authority, days: int) -> bytes:
    now = datetime.now(UTC)
    until = min(now + timedelta(days=days), authority.certificate.not_valid_after_utc)
    if until <= now:
        raise Usage(
            f"the authority's certificate expired on {until:%F}", fix="begin anew with sudur tls init"
        )
    certificate = (
        builder.issuer_name(authority.certificate.subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LATE)
        .not_valid_after(until)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
        .sign(authority.key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    labels = host.split(".")
    if (
        not host.isascii()
        or len(host) > 253
        or not all(
            label and len(label) <= 63 and label.replace("-", "").isalnum() and label.strip("-") == label
            for label in labels
        )
    ):
        raise Usage(
            f"{host!a} is neither a host name nor an IP address",
            fix="write names as they are dialled, without a port; IPv6 without brackets",
        )
    return x509.DNSName(host)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _key_path(certificate: Path) -> Path:
    return certificate.with_name(f"{certificate.name.removesuffix('.pem')}.key")
