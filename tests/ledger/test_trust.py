"""Trust files: one canonical form, everything in them checked when they are read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import CheckpointUntrusted, TrustFormatError
from ledger.notes import SignatureType, VerifierKey
from ledger.trust import Trust, TrustedLedger, parse_trust
from tests.ledger.world import ORIGIN, log_key

LEDGER = TrustedLedger(bytes(range(32)), ORIGIN, (VerifierKey.parse(log_key("log")),), "", training=False)
TRUST = Trust((LEDGER, replace(LEDGER, genesis=bytes(32), training=True)))


def test_round_trip_with_and_without_a_newline() -> None:
    data = TRUST.encode()
    assert parse_trust(data) == TRUST
    assert parse_trust(data + b"\n") == TRUST
    assert parse_trust(data).encode() == data


def test_a_ledger_is_found_by_its_genesis() -> None:
    assert TRUST.ledger(bytes(32)).training
    with pytest.raises(CheckpointUntrusted):
        TRUST.ledger(b"\x01" * 32)


def _edited(**members: Any) -> bytes:
    value = json.loads(TRUST.encode())
    value["ledgers"][0].update(members)
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("desc", "data"),
    [
        ("two newlines", TRUST.encode() + b"\n\n"),
        ("spaces", TRUST.encode().replace(b":", b": ", 1)),
        ("no keys", _edited(log_keys=[])),
        ("a key that is none", _edited(log_keys=["key"])),
        ("a number for a key", _edited(log_keys=[1])),
        ("a short genesis", _edited(genesis="AAAA")),
        ("an empty origin", _edited(origin="")),
        ("a control character", _edited(origin="a\nb")),
        ("a policy that is none", _edited(witness_policy="quorum")),
        ("an unknown member", _edited(more=1)),
        ("a ledger twice", Trust((LEDGER, LEDGER)).encode()),
        ("another format", TRUST.encode().replace(b"trust/v1", b"trust/v2")),
    ],
)
def test_bad_trust_files_are_refused(desc: str, data: bytes) -> None:
    with pytest.raises(TrustFormatError):
        parse_trust(data)


@given(noise=st.binary(max_size=100))
def test_any_bytes_raise_only_our_error(noise: bytes) -> None:
    with pytest.raises(TrustFormatError):
        parse_trust(noise)


@pytest.mark.parametrize("origin", ["ledger.example/other", ORIGIN])
def test_a_key_that_cannot_sign_for_the_log_is_refused(origin: str) -> None:
    """A key of another name, or a witness's: it would sit there and never count."""
    kind = SignatureType.ED25519 if origin != ORIGIN else SignatureType.ED25519_COSIGNATURE
    key = VerifierKey(origin, kind, LEDGER.log_keys[0].public_key)
    with pytest.raises(TrustFormatError, match="cannot sign"):
        parse_trust(Trust((replace(LEDGER, log_keys=(key,)),)).encode())
