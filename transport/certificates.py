"""Certificates, keys and authorities in PEM files: read with caps, and checked before they are used.

What is checked here is what would otherwise show only as a connection that somebody else refuses,
without a reason. A key lies open in its file, so the file must be closed to others.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID

from transport.errors import TlsProblem

MEMBER: Final = "sudur:member:"
"""A certificate with a URI name that begins so belongs to the member of the cluster named after it."""
_MEMBER_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?", re.ASCII)
_MAX_FILE: Final = 1 << 20
_RENEW: Final = "renew it (sudur tls renew, or whoever issued it)"


class Purpose(Enum):
    """What a certificate is shown for. A member of the cluster is both, and named as a member."""

    SERVER = "server"
    CLIENT = "client"
    MEMBER = "member"


_USAGES: Final = {
    Purpose.SERVER: (ExtendedKeyUsageOID.SERVER_AUTH,),
    Purpose.CLIENT: (ExtendedKeyUsageOID.CLIENT_AUTH,),
    Purpose.MEMBER: (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: a certificate (with its intermediates after it), its private key, and the authorities
    that the other side's certificate has to come from (None: the other side shows none)."""

    certificate: Path
    key: Path
    ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate that may be shown, and its key. ``names``: the hosts it is good for."""

    chain: bytes
    key: bytes = field(repr=False)
    certificates: tuple[x509.Certificate, ...]
    names: tuple[str, ...]

    @property
    def certificate(self) -> x509.Certificate:
        return self.certificates[0]

    @property
    def not_after(self) -> float:
        """When it expires, in seconds since 1970 UTC."""
        return self.certificate.not_valid_after_utc.timestamp()


@dataclass(frozen=True, slots=True)
class Authorities:
    """The certificates that others' certificates have to come from."""

    pem: bytes
    certificates: tuple[x509.Certificate, ...]

    @property
    def not_after(self) -> float:
        """When the first of them expires, in seconds since 1970 UTC."""
        return min(one.not_valid_after_utc.timestamp() for one in self.certificates)


def read_identity(certificate: Path, key: Path, purpose: Purpose, now_s: float) -> Identity:
    """Read a certificate and its key, and check that they go together and may be used now.

    Raises TlsProblem: not there, not readable, not PEM; a key that is open to others, encrypted, or
    another certificate's; a certificate that is expired, not yet valid, an authority's, without a
    name, or not for this purpose.
    """
    with readable(certificate):
        return _read_identity(certificate, key, purpose, now_s)


def _read_identity(certificate: Path, key: Path, purpose: Purpose, now_s: float) -> Identity:
    chain = _read(certificate, "certificate")
    certificates = _parse(certificate, chain)
    leaf = certificates[0]
    key_pem = _read_key(key)
    private = _parse_key(key, key_pem)
    if _spki(leaf.public_key()) != _spki(private.public_key()):
        raise TlsProblem(
            f"is not the key of the certificate {certificate}",
            where=str(key),
            fix="give the key that was made with this certificate",
        )
    if _is_authority(leaf):
        raise TlsProblem(
            "begins with an authority's own certificate, which no node or client shows",
            where=str(certificate),
            fix="give the certificate that it issued, with intermediates after it",
        )
    _check_dates(certificate, leaf, now_s)
    _check_purpose(certificate, leaf, purpose)
    names = tuple(hosts_of(leaf))
    if purpose is not Purpose.CLIENT and not names:
        raise TlsProblem(
            "names no host (subject alternative name), so no client can accept it",
            where=str(certificate),
            fix="have one issued for the host names and addresses of this node",
        )
    if purpose is Purpose.MEMBER and member_of(uris_of(leaf)) is None:
        raise TlsProblem(
            f"does not name a member of the cluster (no URI name {MEMBER}NAME)",
            where=str(certificate),
            fix="have one issued with this name; sudur tls init does so for nodes",
        )
    return Identity(chain, key_pem, certificates, names)


def read_authorities(path: Path, now_s: float) -> Authorities:
    """Read the authorities' certificates. Raises TlsProblem, also for one that is expired or is none."""
    with readable(path):
        pem = _read(path, "authority's certificate")
        certificates = _parse(path, pem)
        for one in certificates:
            if not _is_authority(one):
                raise TlsProblem(
                    f"holds the certificate of {_subject(one)}, which is no authority's",
                    where=str(path),
                    fix="give the certificate of the authority that issued it (ca.pem)",
                )
            _check_dates(path, one, now_s)
        return Authorities(pem, certificates)


def check_issued(path: Path, identity: Identity, ca: Path, authorities: Authorities) -> None:
    """Raises TlsProblem when the certificate in ``path`` does not come from these authorities."""
    newest = identity.certificate
    for _ in range(len(identity.certificates)):
        for issuer in authorities.certificates:
            if _issued(newest, issuer):
                return
        following = next((one for one in identity.certificates[1:] if _issued(newest, one)), None)
        if following is None:
            break
        newest = following
    raise TlsProblem(
        f"was not issued by the authority in {ca}, so the others would refuse it",
        where=str(path),
        fix="give the authority's certificate that this one comes from, or have it issued anew",
    )


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What cryptography raises of a damaged certificate, at whatever part of it, becomes TlsProblem."""
    try:
        yield
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise TlsProblem(
            f"holds a certificate that cannot be read: {error}", where=str(path), fix="check the file"
        ) from None


def parse_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """All certificates in a PEM file, at least one. Raises TlsProblem."""
    return _parse(path, _read(path, "certificate"))


def hosts_of(certificate: x509.Certificate) -> list[str]:
    """The DNS names and IP addresses that a certificate is good for, in its order."""
    return [str(one.value) for one in _names(certificate) if isinstance(one, (x509.DNSName, x509.IPAddress))]


def uris_of(certificate: x509.Certificate) -> list[str]:
    """The URI names of a certificate."""
    return [one.value for one in _names(certificate) if isinstance(one, x509.UniformResourceIdentifier)]


def member_of(uris: Sequence[str]) -> str | None:
    """The member of the cluster whose certificate has these URI names; None when it is none's, or not
    clearly one's."""
    members = [one.removeprefix(MEMBER) for one in uris if one.startswith(MEMBER)]
    if len(members) != 1 or not is_member_name(members[0]):
        return None
    return members[0]


def is_member_name(name: str) -> bool:
    """Whether a member can be called so: letters, digits, ``.``, ``_`` and ``-``, up to 64."""
    return _MEMBER_NAME.fullmatch(name) is not None


# --- files -------------------------------------------------------------------------------------


def _read(path: Path, what: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise TlsProblem("is a directory, a device or a pipe, not a file", where=str(path))
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise TlsProblem(
            f"the {what} cannot be read: {error.strerror or error}",
            where=str(path),
            fix="check the path, and that this user may read it",
        ) from None
    if len(data) > _MAX_FILE:
        raise TlsProblem(f"is larger than {_MAX_FILE} bytes", where=str(path))
    return data


def _read_key(path: Path) -> bytes:
    data = _read(path, "private key")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_IRWXO:
        raise TlsProblem(
            f"the private key is open to every user of this machine (mode {mode:04o})",
            where=str(path),
            fix=f"chmod 600 {path}",
        )
    return data


def _parse(path: Path, pem: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise TlsProblem(
            "holds no certificate in PEM form that can be read", where=str(path), fix="check the file"
        ) from None


def _parse_key(path: Path, pem: bytes) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(pem, None)
    except TypeError:
        raise TlsProblem(
            "the private key is encrypted, and a node starts without anybody who could open it",
            where=str(path),
            fix=f"write it open, closed to others: umask 077; openssl pkey -in {path} -out FILE",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise TlsProblem(
            "holds no private key in PEM form that can be read", where=str(path), fix="check the file"
        ) from None


# --- checks ------------------------------------------------------------------------------------


def _check_dates(path: Path, certificate: x509.Certificate, now_s: float) -> None:
    now = datetime.fromtimestamp(now_s, UTC)
    if now > certificate.not_valid_after_utc:
        raise TlsProblem(
            f"the certificate of {_subject(certificate)} expired on"
            f" {certificate.not_valid_after_utc:%F %T} UTC",
            where=str(path),
            fix=_RENEW,
        )
    if now < certificate.not_valid_before_utc:
        raise TlsProblem(
            f"the certificate of {_subject(certificate)} is not valid before"
            f" {certificate.not_valid_before_utc:%F %T} UTC",
            where=str(path),
            fix="check this machine's clock; if it is right, wait or have another issued",
        )


def _check_purpose(path: Path, certificate: x509.Certificate, purpose: Purpose) -> None:
    try:
        allowed = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not set(_USAGES[purpose]) <= set(allowed):
        wanted = {
            Purpose.SERVER: "serverAuth",
            Purpose.CLIENT: "clientAuth",
            Purpose.MEMBER: "both serverAuth and clientAuth",
        }
        raise TlsProblem(
            f"is not for a {purpose.value}: its extended key usage is not {wanted[purpose]}",
            where=str(path),
            fix="give the certificate that was made for this use",
        )


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(found.value)


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "nobody"


def _spki(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined,no-any-return]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
