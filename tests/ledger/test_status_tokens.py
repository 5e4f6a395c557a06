"""Status list tokens: the draft's packing and vectors, JWTs that another library reads, and bombs."""

from __future__ import annotations

import json
import time
import tracemalloc
import zlib
from base64 import urlsafe_b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import KeySet

from ledger.errors import (
    CheckpointUntrusted,
    PortableFormatError,
    SignatureInvalid,
    SudurError,
    TooLarge,
)
from ledger.receipt_keys import base64url, jwk_set
from ledger.records import Status
from ledger.status import CHUNK_INDEXES, compress_chunk, read_status, write_status
from ledger.status_tokens import (
    MAX_STATUS_TOKEN,
    StatusReference,
    open_status_token,
    token_uri,
)
from tests.ledger.portable import KEY, URI, Portable
from tests.ledger.world import signer

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "token_status_list.json").read_bytes()
)
PORTABLE = Portable()
STATEMENT = PORTABLE.statement()
TOKEN = PORTABLE.token()
GOOD = TOKEN.sign(KEY)


def jws(header: bytes, payload: bytes, key: str = "receipts") -> bytes:
    """Any header over any payload, well signed."""
    signed = f"{base64url(header)}.{base64url(payload)}".encode()
    return signed + b"." + base64url(signer(key).sign(signed)).encode()


HEADER = json.dumps({"alg": "EdDSA", "kid": STATEMENT.keys[0].jose_kid, "typ": "statuslist+jwt"}).encode()


def test_a_token_is_read_as_it_was_written() -> None:
    assert open_status_token(GOOD, STATEMENT) == TOKEN
    assert TOKEN.sign(KEY) == GOOD


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated via RFC 9864")  # few know the newer name
def test_another_library_reads_it_as_the_draft_says() -> None:
    keys = KeySet.import_key_set(json.loads(jwk_set(STATEMENT.keys)))
    found = jwt.decode(GOOD.decode(), keys, algorithms=["EdDSA"])
    assert found.header["typ"] == "statuslist+jwt"
    claims = found.claims
    assert (claims["sub"], claims["iat"], claims["exp"], claims["ttl"]) == (URI, *_times())
    listed = claims["status_list"]
    assert listed["bits"] == 2
    raw = zlib.decompress(urlsafe_b64decode(listed["lst"] + "=="))
    index = PORTABLE.receipt.issue.index
    assert len(raw) * 4 == CHUNK_INDEXES
    assert raw[index // 4] >> 2 * (index % 4) & 3 == 0


def _times() -> tuple[int, int, int]:
    return TOKEN.issued_s, TOKEN.expires_s, TOKEN.ttl_s


def test_the_drafts_two_bit_vectors() -> None:
    short = bytearray(3)
    for index, value in enumerate(VECTORS["short"]["statuses"]):
        write_status(short, index, Status(value))
    assert short.hex() == VECTORS["short"]["bytes"]
    assert base64url(zlib.compress(short, 9)) == VECTORS["short"]["lst"]
    chunks = [bytearray(CHUNK_INDEXES // 4) for _ in range(VECTORS["long"]["size"] // CHUNK_INDEXES)]
    for index, value in VECTORS["long"]["statuses"].items():
        write_status(chunks[int(index) // CHUNK_INDEXES], int(index) % CHUNK_INDEXES, Status(value))
    raw = zlib.decompress(urlsafe_b64decode(VECTORS["long"]["lst"] + "=="))
    assert b"".join(chunks) == raw


def test_our_values_are_the_registered_ones() -> None:
    assert [(one.value, one.name) for one in Status] == [
        (0, "VALID"),
        (1, "REVOKED"),
        (2, "SUSPENDED"),
        (3, "SUPERSEDED"),
    ]


def test_a_reference_is_what_a_status_claim_names() -> None:
    reference = StatusReference.of(65_536 * 3 + 17, "https://ledger.example/a")
    assert reference.claim() == {
        "status_list": {"idx": 17, "uri": "https://ledger.example/a/status/token/3"},
    }
    assert reference.uri == token_uri("https://ledger.example/a", 3)


def test_the_worst_chunk_fits() -> None:
    chunk = bytearray(CHUNK_INDEXES // 4)
    state = 1
    for at in range(len(chunk)):
        state = state * 6_364_136_223_846_793_005 + 1 & 2**64 - 1
        chunk[at] = state >> 56
    token = replace(TOKEN, chunk=bytes(chunk), uri="x" * 2_048)
    data = token.sign(KEY)
    assert len(data) < MAX_STATUS_TOKEN
    assert open_status_token(data, STATEMENT) == token
    assert read_status(token.chunk, 5) is Status(chunk[1] >> 2 & 3)


def test_signatures_and_ledgers_are_checked() -> None:
    with pytest.raises(SignatureInvalid):
        open_status_token(jws(HEADER, TOKEN.claims(), "another"), STATEMENT)
    with pytest.raises(CheckpointUntrusted):
        open_status_token(TOKEN.sign(signer("another")), STATEMENT)
    with pytest.raises(CheckpointUntrusted):
        open_status_token(replace(TOKEN, genesis=bytes(32)).sign(KEY), STATEMENT)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"{}",
        b'{"alg":"none","kid":"x","typ":"statuslist+jwt"}',
        HEADER.replace(b"EdDSA", b"HS256"),
        HEADER.replace(b"EdDSA", b"none"),
        HEADER.replace(b"statuslist+jwt", b"JWT"),
        HEADER.replace(b"{", b'{"crit":["x"],', 1),
        HEADER.replace(b"{", b'{"jku":"https://example",', 1),
        HEADER.replace(STATEMENT.keys[0].jose_kid.encode(), b"1").replace(b'"1"', b"1"),
        b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
        b"\xff",
    ],
)
def test_headers_that_are_refused(header: bytes) -> None:
    with pytest.raises((PortableFormatError, CheckpointUntrusted)):
        open_status_token(jws(header, TOKEN.claims()), STATEMENT)


def _changed(**members: Any) -> bytes:
    claims = {**json.loads(TOKEN.claims()), **members}
    return json.dumps(claims, separators=(",", ":"), sort_keys=True).encode()


BOMB = base64url(zlib.compress(bytes(30_000_000), 9))


@pytest.mark.parametrize(
    "claims",
    [
        b"",
        b"{}",
        b"[" * 20_000,
        TOKEN.claims() + b" ",
        _changed(exp="x"),
        _changed(exp=1.5),
        _changed(ttl=0),
        _changed(sub=""),
        _changed(more=1),
        _changed(iss="a\nb"),
        _changed(status_list={"bits": 1, "lst": "eNrbuRgAAhcBXQ"}),
        _changed(status_list={"bits": 2, "lst": "eNo76fITAAPfAgc"}),
        _changed(status_list={"bits": 2, "lst": "!" + base64url(compress_chunk(TOKEN.chunk))[1:]}),
        _changed(status_list={"bits": 2, "lst": base64url(compress_chunk(TOKEN.chunk)) + "="}),
        _changed(status_list={"bits": 2, "lst": base64url(compress_chunk(TOKEN.chunk)[:-1])}),
        _changed(status_list={"bits": 2, "lst": base64url(compress_chunk(TOKEN.chunk) + b"x")}),
        _changed(status_list={"bits": 2, "lst": BOMB}),
        _changed(status_list={"bits": 2, "lst": "ى"}),
        _changed(status_list={"bits": 2, "lst": ""}),
        _changed(status_list=None),
        _changed(sudur={"genesis": "AA" * 32, "size": "1"}),
        _changed(sudur={"genesis": "zz" * 32, "size": "1"}),
        _changed(sudur={"genesis": "aa", "size": "1"}),
    ],
)
def test_claims_that_are_refused_though_well_signed(claims: bytes) -> None:
    started = time.perf_counter()
    with pytest.raises(PortableFormatError):
        open_status_token(jws(HEADER, claims), STATEMENT)
    assert time.perf_counter() - started < 1


def test_a_bomb_is_not_expanded() -> None:
    """Thirty million bytes in 30 KB: no more than a chunk is made of it."""
    assert len(BOMB) < MAX_STATUS_TOKEN
    data = jws(HEADER, _changed(status_list={"bits": 2, "lst": BOMB}))
    tracemalloc.start()
    try:
        with pytest.raises(PortableFormatError):
            open_status_token(data, STATEMENT)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_other_spellings_of_a_token_are_refused() -> None:
    text = GOOD.decode()
    head, payload, signature = text.split(".")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    loose = signature[:-1] + last[last.index(signature[-1]) + 1]
    for other in (
        f"{head}.{payload}.{loose}",
        f"{text}=",
        f"{text}\n",
        f" {text}",
        f"{head}.{payload}",
        f"{head}.{payload}.",
        f"{text}.x",
        f"{head}..{signature}",
    ):
        with pytest.raises(PortableFormatError):
            open_status_token(other.encode(), STATEMENT)


def test_the_cap_holds_before_anything_is_read() -> None:
    with pytest.raises(TooLarge):
        open_status_token(b"a" * (MAX_STATUS_TOKEN + 1), STATEMENT)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_no_changed_byte_passes(at: int, byte: int) -> None:
    data = GOOD[:at] + bytes((byte,)) + GOOD[at + 1 :]
    if data != GOOD:
        with pytest.raises(SudurError):
            open_status_token(data, STATEMENT)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_whatever_comes_only_our_errors_are_raised(header: bytes, payload: bytes) -> None:
    for data in (header, jws(header, payload), jws(HEADER, payload)):
        with pytest.raises(SudurError):
            open_status_token(data, STATEMENT)
