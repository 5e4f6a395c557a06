"""Certificate files: each way in which they cannot be used is named, with the file and the remedy."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.transport.authorities import CLIENT, MEMBER, SERVER, Authority, Issued
from tools.tls_files import show
from transport.certificates import (
    Purpose,
    check_issued,
    member_of,
    read_authorities,
    read_identity,
)
from transport.errors import TlsProblem

Maker = Callable[[Authority, Path], tuple[Path, Path]]


def _pair(issued: Issued) -> tuple[Path, Path]:
    return issued.certificate, issued.key


def _written(path: Path, data: bytes) -> Path:
    path.touch(0o600)
    path.write_bytes(data)
    return path


def _open_to_all(ca: Authority, directory: Path) -> tuple[Path, Path]:
    issued = ca.issue("open")
    issued.key.chmod(0o644)
    return _pair(issued)


SHOWS, CALLS, JOINS = Purpose.SERVER, Purpose.CLIENT, Purpose.MEMBER
UNUSABLE: list[tuple[str, Maker, Purpose, str]] = [
    ("missing certificate", lambda ca, d: (d / "no.pem", d / "no.key"), SHOWS, "No such file"),
    (
        "missing key",
        lambda ca, d: (ca.issue("n").certificate, d / "no.key"),
        SHOWS,
        "private key",
    ),
    ("a directory", lambda ca, d: (d, ca.issue("n").key), SHOWS, "Is a directory"),
    (
        "no PEM",
        lambda ca, d: (_written(d / "x", b"\x30\x82"), d / "x"),
        SHOWS,
        "no certificate in PEM",
    ),
    (
        "half a PEM",
        lambda ca, d: (_written(d / "x", ca.path.read_bytes()[:200]), d / "x"),
        SHOWS,
        "no certificate in PEM",
    ),
    (
        "no key in the file",
        lambda ca, d: (ca.issue("n").certificate, _written(d / "x", b"what")),
        SHOWS,
        "no private key in PEM",
    ),
    (
        "far too large",
        lambda ca, d: (_written(d / "x", bytes(2 << 20)), d / "x"),
        SHOWS,
        "is larger",
    ),
    (
        "another's key",
        lambda ca, d: (ca.issue("n").certificate, ca.issue("m").key),
        SHOWS,
        "is not the key of the certificate",
    ),
    ("key open to all", _open_to_all, SHOWS, r"open to every user of this machine \(mode 0644\)"),
    ("encrypted key", lambda ca, d: _pair(ca.issue("n", passphrase="x")), SHOWS, "is encrypted"),
    (
        "expired",
        lambda ca, d: _pair(ca.issue("n", start=-9, days=8)),
        SHOWS,
        "expired on .* UTC.*renew",
    ),
    (
        "not yet valid",
        lambda ca, d: _pair(ca.issue("n", start=1)),
        SHOWS,
        "not valid before .*clock",
    ),
    ("no host", lambda ca, d: _pair(ca.issue("n", ())), SHOWS, "names no host"),
    ("a client's", lambda ca, d: _pair(ca.issue("n", usages=CLIENT)), SHOWS, "not for a server"),
    ("a server's", lambda ca, d: _pair(ca.issue("n", usages=SERVER)), CALLS, "not for a client"),
    (
        "an authority's",
        lambda ca, d: _pair(ca.issue("n", authority=True)),
        SHOWS,
        "an authority's own",
    ),
    ("no member", lambda ca, d: _pair(ca.issue("n")), JOINS, "no URI name sudur:member:NAME"),
    (
        "two members",
        lambda ca, d: _pair(ca.issue("n", uris=[MEMBER + "n1", MEMBER + "n2"])),
        JOINS,
        "does not name a member",
    ),
    (
        "a member that only serves",
        lambda ca, d: _pair(ca.issue("n", uris=[MEMBER + "n1"], usages=SERVER)),
        JOINS,
        "both serverAuth and clientAuth",
    ),
]


@pytest.mark.parametrize(
    ("make", "purpose", "says"), [one[1:] for one in UNUSABLE], ids=[one[0] for one in UNUSABLE]
)
def test_what_cannot_be_used_is_named(tmp_path: Path, make: Maker, purpose: Purpose, says: str) -> None:
    certificate, key = make(Authority(tmp_path, "ca"), tmp_path)
    with pytest.raises(TlsProblem, match=says) as caught:
        read_identity(certificate, key, purpose, time.time())
    assert caught.value.where in (str(certificate), str(key))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("purpose", list(Purpose))
def test_a_member_is_server_and_client(tmp_path: Path, purpose: Purpose) -> None:
    issued = Authority(tmp_path, "ca").member("n1")
    identity = read_identity(issued.certificate, issued.key, purpose, time.time())
    assert identity.names == ("localhost", "127.0.0.1")
    assert 88 < (identity.not_after - time.time()) / 86_400 < 90
    assert "PRIVATE" not in repr(identity)


def test_a_certificate_that_says_nothing_of_its_use_is_for_any(tmp_path: Path) -> None:
    issued = Authority(tmp_path, "ca").issue("n", usages=())
    read_identity(issued.certificate, issued.key, Purpose.SERVER, time.time())


def test_a_key_may_be_open_to_its_group(tmp_path: Path) -> None:
    issued = Authority(tmp_path, "ca").issue("n")
    issued.key.chmod(0o640)
    read_identity(issued.certificate, issued.key, Purpose.SERVER, time.time())


def test_issued_directly_or_through_an_intermediate(tmp_path: Path) -> None:
    root = Authority(tmp_path, "root")
    middle = Authority(tmp_path, "middle", above=root)
    issued = middle.issue("n")
    now = time.time()
    alone = read_identity(issued.certificate, issued.key, Purpose.SERVER, now)
    check_issued(issued.certificate, alone, middle.path, read_authorities(middle.path, now))
    with pytest.raises(TlsProblem, match=r"not issued by the authority in .*root\.pem"):
        check_issued(issued.certificate, alone, root.path, read_authorities(root.path, now))
    issued.certificate.write_bytes(issued.certificate.read_bytes() + middle.path.read_bytes())
    chain = read_identity(issued.certificate, issued.key, Purpose.SERVER, now)
    check_issued(issued.certificate, chain, root.path, read_authorities(root.path, now))


def test_an_authority_of_the_same_name_is_another(tmp_path: Path) -> None:
    issued = Authority(tmp_path, "ca").issue("n")
    other = Authority(tmp_path, "ca")
    identity = read_identity(issued.certificate, issued.key, Purpose.SERVER, time.time())
    with pytest.raises(TlsProblem, match="the others would refuse it"):
        check_issued(issued.certificate, identity, other.path, read_authorities(other.path, time.time()))


def test_authorities_are_authorities_and_valid(tmp_path: Path) -> None:
    now = time.time()
    ca = Authority(tmp_path, "ca")
    with pytest.raises(TlsProblem, match=r"certificate of CN=n, which is no authority's"):
        read_authorities(ca.issue("n").certificate, now)
    with pytest.raises(TlsProblem, match="CN=old expired"):
        read_authorities(Authority(tmp_path, "old", start=-9, days=8).path, now)
    with pytest.raises(TlsProblem, match="authority's certificate cannot be read"):
        read_authorities(tmp_path / "none", now)
    both = tmp_path / "both.pem"
    sooner = Authority(tmp_path, "sooner", days=3)
    both.write_bytes(ca.path.read_bytes() + sooner.path.read_bytes())
    found = read_authorities(both, now)
    assert len(found.certificates) == 2
    assert found.not_after == sooner.certificate.not_valid_after_utc.timestamp()


@pytest.mark.parametrize(
    ("uris", "name"),
    [
        (["sudur:member:n1"], "n1"),
        (["spiffe://x", "sudur:member:node-1.a"], "node-1.a"),
        ([], None),
        (["sudur:client:n1"], None),
        (["sudur:member:"], None),
        (["sudur:member:n1/../n2"], None),
        (["sudur:member:n1\n"], None),
        (["sudur:member:n1", "sudur:member:n2"], None),
        (["SUDUR:MEMBER:n1"], None),
    ],
)
def test_who_is_a_member(uris: list[str], name: str | None) -> None:
    assert member_of(uris) == name


@pytest.mark.filterwarnings("ignore:Parsed a serial number:cryptography.utils.CryptographyDeprecationWarning")
def test_a_certificate_with_any_byte_altered_is_refused(tmp_path: Path) -> None:
    ca = Authority(tmp_path, "ca")
    issued = ca.member("n1")
    certificate = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
    der = certificate.public_bytes(Encoding.DER)
    now = time.time()
    altered = tmp_path / "altered.pem"
    authorities = read_authorities(ca.path, now)

    for at in range(len(der)):
        for flip in (0x01, 0x20, 0xFF):
            bad = der[:at] + bytes([der[at] ^ flip]) + der[at + 1 :]
            text = base64.encodebytes(bad).decode()
            altered.write_text(f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n")
            with suppress(TlsProblem):
                show(altered)
            with suppress(TlsProblem):
                identity = read_identity(altered, issued.key, Purpose.MEMBER, now)
                check_issued(altered, identity, ca.path, authorities)
                # Only how the signature is written down may differ, never what was signed.
                assert identity.certificate.tbs_certificate_bytes == certificate.tbs_certificate_bytes
