"""Trust files: one canonical form, everything in them checked when they are read."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.checkpoints import log_key as checkpoint_key
from ledger.cosignatures import cosign
from ledger.errors import CheckpointUntrusted, PolicyUnmet, ProofInvalid, TrustFormatError
from ledger.notes import NamedSigner, SignatureType, VerifierKey, parse_note
from ledger.registry_records import History
from ledger.signatures import Algorithm, MlDsa44Signer, Signer
from ledger.trust import SeenHead, Trust, TrustedKey, TrustedLedger, parse_trust
from tests.ledger.world import ORIGIN, log_key, signer

LEDGER = TrustedLedger.founded(bytes(range(32)), ORIGIN, (VerifierKey.parse(log_key("log")),))
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
        ("a policy that is no history", _edited(witness_policy="quorum none\n")),
        ("a policy that is none", _edited(witness_policy=[{"from": "0", "value": "quorum"}])),
        ("policies from later on", _edited(witness_policy=[{"from": "1", "value": ""}])),
        ("an own policy that is none", _edited(own_policy="quorum")),
        ("a key twice", _edited(log_keys=2 * [LEDGER.log_keys[0].to_json()])),
        ("a key without its end", _edited(log_keys=[{"vkey": log_key("log")}])),
        ("a head without a root", _edited(head={"size": "1", "time_ms": "1"})),
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
    key = VerifierKey(origin, kind, LEDGER.log_keys[0].key.public_key)
    with pytest.raises(TrustFormatError, match="cannot sign"):
        parse_trust(Trust((replace(LEDGER, log_keys=(TrustedKey(key),)),)).encode())


# --- opening by trust --------------------------------------------------------------------------

OLD, NEW = signer("log"), signer("newer log")
KEYS = TrustedKey(VerifierKey.parse(log_key("log")), 10), TrustedKey(VerifierKey.parse(log_key("newer log")))
ROTATED = replace(LEDGER, log_keys=KEYS)


def _note(size: int, *signers: Signer, root: bytes = bytes(32)) -> bytes:
    return sign_checkpoint(Checkpoint(ORIGIN, size, root), signers)


def test_a_key_signs_up_to_its_last_size_and_no_further() -> None:
    assert ROTATED.open(_note(10, OLD)).checkpoint.size == 10
    assert ROTATED.open(_note(11, NEW)).checkpoint.size == 11
    assert ROTATED.open(_note(11, OLD, NEW)).checkpoint.size == 11, "the old one's line is a stranger's"
    with pytest.raises(CheckpointUntrusted, match="had ended before: it might sign up to 10"):
        ROTATED.open(_note(11, OLD))
    with pytest.raises(CheckpointUntrusted, match="no trusted key"):
        ROTATED.open(_note(5, signer("stranger")))


LATTICE = MlDsa44Signer(bytes(32))
LATTICE_KEY = checkpoint_key(ORIGIN, LATTICE.public_key, Algorithm.ML_DSA_44)


def test_an_ml_dsa_key_is_asked_for_while_the_log_has_it() -> None:
    """So old receipts stay good, and whoever breaks Ed25519 cannot just leave the other line out."""
    ledger = replace(LEDGER, log_keys=(*LEDGER.log_keys, TrustedKey(LATTICE_KEY, 20, 10)))
    assert parse_trust(Trust((ledger,)).encode()).ledgers == (ledger,)
    for size in (10, 21):
        assert ledger.open(_note(size, OLD)).checkpoint.size == size
        assert ledger.open(_note(size, OLD, LATTICE)).checkpoint.size == size, "ignored: a stranger's"
    for size in (11, 20):
        assert ledger.open(_note(size, OLD, LATTICE)).checkpoint.size == size
        with pytest.raises(CheckpointUntrusted, match="no trusted ML-DSA-44 key"):
            ledger.open(_note(size, OLD))
        assert LEDGER.open(_note(size, OLD, LATTICE)).checkpoint.size == size, "knows Ed25519 only"


def test_another_root_than_the_one_seen_is_not_opened() -> None:
    seen = replace(LEDGER, head=SeenHead(10, bytes(32), 1_000))
    assert seen.open(_note(10, OLD)).checkpoint.size == 10
    with pytest.raises(ProofInvalid, match="another root"):
        seen.open(_note(10, OLD, root=b"\x01" * 32))


@pytest.mark.parametrize(
    ("size", "time_ms", "fits"),
    [(10, 1_000, True), (9, 999, True), (11, 1_001, True), (9, 1_001, False), (11, 1_000, False)],
)
def test_times_rise_with_sizes(size: int, time_ms: int, fits: bool) -> None:
    """So a key that has ended makes nothing that looks newer than the last renewal."""
    seen = replace(LEDGER, head=SeenHead(10, bytes(32), 1_000))
    with nullcontext() if fits else pytest.raises(ProofInvalid, match="does not fit"):
        seen.check_time(size, time_ms)


def _policy(name: str) -> str:
    key = VerifierKey(f"{name}.example", SignatureType.ED25519_COSIGNATURE, signer(name).public_key)
    return f"witness {name} {key.format()}\nquorum {name}\n"


def _cosigned(size: int, **times: int) -> bytes:
    note = parse_note(_note(size, OLD))
    lines = [cosign(note.text, NamedSigner(f"{name}.example", signer(name)), t) for name, t in times.items()]
    return note.with_signatures(lines).encode()


def _witnessed(ledger: TrustedLedger, note: bytes, greatest_age_s: int | None = None) -> int | None:
    return ledger.witnessed(ledger.open(note), now_s=2_000, greatest_age_s=greatest_age_s)


def test_the_policy_in_force_at_its_size_is_asked_for() -> None:
    history = History(((0, ""), (10, _policy("w")), (20, _policy("x"))))
    ledger = replace(LEDGER, witness_policy=history)
    assert _witnessed(ledger, _note(10, OLD)) is None
    assert _witnessed(ledger, _cosigned(11, w=1_500)) == 1_500
    assert _witnessed(ledger, _cosigned(20, w=1_500)) == 1_500
    assert _witnessed(ledger, _cosigned(21, x=1_600)) == 1_600
    for note in (_note(11, OLD), _cosigned(11, x=1_500), _cosigned(21, w=1_500)):
        with pytest.raises(PolicyUnmet):
            _witnessed(ledger, note)


def test_what_the_verifier_asks_by_itself_is_never_waived() -> None:
    history = History(((0, ""), (10, _policy("w"))))
    ledger = replace(LEDGER, witness_policy=history, own_policy=_policy("own"))
    assert _witnessed(ledger, _cosigned(5, own=1_700)) == 1_700
    assert _witnessed(ledger, _cosigned(15, own=1_700, w=1_500)) == 1_500, "both are met since the earlier"
    for note in (_cosigned(5, w=1_700), _cosigned(15, own=1_700), _cosigned(15, w=1_700)):
        with pytest.raises(PolicyUnmet):
            _witnessed(ledger, note)
    with pytest.raises(PolicyUnmet, match="old"):
        _witnessed(ledger, _cosigned(15, own=1_999, w=1_500), greatest_age_s=100)


def test_the_policies_of_a_trust_file_are_read() -> None:
    full = replace(
        ROTATED,
        witness_policy=History(((0, ""), (10, _policy("w")))),
        own_policy=_policy("own"),
        changed=10,
        head=SeenHead(12, bytes(32), 5),
    )
    assert parse_trust(Trust((full,)).encode()) == Trust((full,))
