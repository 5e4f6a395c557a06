"""Checkpoints signed with both algorithms, and witnesses' ML-DSA-44 cosignatures."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import checkpoints, cosignatures, subtrees
from ledger.checkpoints import Checkpoint, SignedCheckpoint, open_checkpoint, sign_checkpoint
from ledger.errors import CheckpointUntrusted, NoteFormatError, SignatureInvalid, SudurError
from ledger.notes import NamedSigner, Note, NoteSignature, SignatureType, VerifierKey, open_note, parse_note
from ledger.signatures import Algorithm, Ed25519Signer, HybridSigner, MlDsa44Signer
from tests.ledger.test_ml_dsa import VECTORS, described

ORIGIN = "ledger.example"
CLASSICAL, LATTICE = Ed25519Signer(bytes(32)), MlDsa44Signer(bytes(32))
CLASSICAL_KEY = checkpoints.log_key(ORIGIN, CLASSICAL.public_key)
LATTICE_KEY = checkpoints.log_key(ORIGIN, LATTICE.public_key, Algorithm.ML_DSA_44)
CHECKPOINT = Checkpoint(ORIGIN, 1234, bytes(range(32)))
SIGNED = sign_checkpoint(CHECKPOINT, [LATTICE, CLASSICAL])
WITNESS = NamedSigner("witness.example/pq", MlDsa44Signer(bytes(range(32))))
WITNESS_KEY = cosignatures.witness_key(WITNESS.name, WITNESS.signer.public_key, Algorithm.ML_DSA_44)
TEXT = checkpoints.format_checkpoint(CHECKPOINT)


@pytest.mark.parametrize("case", VECTORS["messages"])
def test_messages(case: dict[str, Any]) -> None:
    arguments = (case["name"], case["time_s"], case["origin"], case["size"], bytes.fromhex(case["root"]))
    assert subtrees.subtree_message(*arguments).hex() == case["message"]


@pytest.mark.parametrize("case", VECTORS["checkpoints"], ids=described)
def test_checkpoints(case: dict[str, Any]) -> None:
    keys = [VerifierKey.parse(vkey) for vkey in case["keys"]]
    assert [key.format() for key in keys] == case["keys"]

    def opened() -> SignedCheckpoint:
        return open_checkpoint(case["data"].encode(), keys[0].name, keys)

    if case["want"] == "ok":
        assert opened().checkpoint.size == 20852163
    else:
        with pytest.raises(SudurError) as caught:
            opened()
        assert caught.value.code == case["want"]


@pytest.mark.parametrize("case", VECTORS["cosignatures"], ids=described)
def test_cosignatures(case: dict[str, Any]) -> None:
    keys = [VerifierKey.parse(vkey) for vkey in case["keys"]]
    note = parse_note(case["data"].encode())
    if case["want"] == "ok":
        found = cosignatures.verify_cosignatures(note, keys)
        assert {one.name: one.time_s for one in found} == case["times"]
    else:
        with pytest.raises(SudurError) as caught:
            cosignatures.verify_cosignatures(note, keys)
        assert caught.value.code == case["want"]


def test_whoever_knows_only_ed25519_opens_it_all_the_same() -> None:
    assert len(parse_note(SIGNED).signatures) == 2
    assert open_checkpoint(SIGNED, ORIGIN, [CLASSICAL_KEY]).checkpoint == CHECKPOINT
    assert open_note(SIGNED, [CLASSICAL_KEY])[1] == (CLASSICAL_KEY,)
    assert open_checkpoint(SIGNED, ORIGIN, [LATTICE_KEY, CLASSICAL_KEY]).checkpoint == CHECKPOINT


def test_whoever_knows_both_is_not_content_with_one() -> None:
    classical = sign_checkpoint(CHECKPOINT, [CLASSICAL])
    assert open_checkpoint(classical, ORIGIN, [CLASSICAL_KEY]).checkpoint == CHECKPOINT
    with pytest.raises(CheckpointUntrusted, match="no trusted ML-DSA-44 key"):
        open_checkpoint(classical, ORIGIN, [CLASSICAL_KEY, LATTICE_KEY])
    another = checkpoints.log_key("another.example", LATTICE.public_key, Algorithm.ML_DSA_44)
    assert open_checkpoint(classical, ORIGIN, [CLASSICAL_KEY, another]).checkpoint == CHECKPOINT


def test_a_witness_may_take_what_either_key_signed() -> None:
    note = parse_note(SIGNED)
    only = Note(note.text, note.signatures[1:]).encode()
    keys = [CLASSICAL_KEY, LATTICE_KEY]
    assert checkpoints.open_signed_by_any(only, ORIGIN, keys).checkpoint == CHECKPOINT
    with pytest.raises(CheckpointUntrusted, match="no known key"):
        checkpoints.open_signed_by_any(only, ORIGIN, [CLASSICAL_KEY])
    with pytest.raises(SignatureInvalid):
        checkpoints.open_signed_by_any(only.replace(b"1234", b"1235"), ORIGIN, keys)


def test_a_log_does_not_sign_without_ed25519() -> None:
    with pytest.raises(NoteFormatError, match="needs an Ed25519 signature"):
        sign_checkpoint(CHECKPOINT, [LATTICE])
    with pytest.raises(NoteFormatError, match="a key signs twice"):
        sign_checkpoint(CHECKPOINT, [CLASSICAL, LATTICE, LATTICE])


def test_a_key_of_both_algorithms_signs_no_note() -> None:
    both = HybridSigner(bytes(32))
    with pytest.raises(NoteFormatError, match="algorithm 3 signs no checkpoint"):
        sign_checkpoint(CHECKPOINT, [CLASSICAL, both])
    with pytest.raises(NoteFormatError, match="algorithm 3 cosigns nothing"):
        cosignatures.cosign(TEXT, NamedSigner("w", both), 1)
    with pytest.raises(NoteFormatError, match="makes no signature of type 06"):
        NamedSigner("w", CLASSICAL).key(SignatureType.ML_DSA_44)


def test_the_log_gives_no_time_and_a_witness_does() -> None:
    line = parse_note(SIGNED).signatures[1]
    assert line.blob[:8] == bytes(8)
    assert len(line.blob) == 8 + 2420
    note = Note(TEXT, (cosignatures.cosign(TEXT, WITNESS, 1_700_000_000),))
    (found,) = cosignatures.verify_cosignatures(parse_note(note.encode()), [WITNESS_KEY])
    assert (found.key, found.time_s) == (WITNESS_KEY, 1_700_000_000)


def test_a_witness_does_not_sign_what_its_signature_would_not_hold() -> None:
    with pytest.raises(NoteFormatError, match="not three lines"):
        cosignatures.cosign(TEXT + b"an extension\n", WITNESS, 1)
    line = cosignatures.cosign(TEXT, WITNESS, 1)
    with pytest.raises(NoteFormatError):
        cosignatures.verify_cosignatures(Note(TEXT + b"an extension\n", (line,)), [WITNESS_KEY])


def test_a_flipped_bit_of_anything_that_is_signed_is_refused() -> None:
    line = cosignatures.cosign(TEXT, WITNESS, 1_700_000_000)
    for at in range(len(TEXT) + 8):
        changed = bytearray(TEXT + line.blob)
        changed[at] ^= 1
        text, blob = bytes(changed[: len(TEXT)]), bytes(changed[len(TEXT) :])
        with pytest.raises((SignatureInvalid, NoteFormatError)):
            cosignatures.verify_cosignatures(
                Note(text, (NoteSignature(line.name, line.key_id, blob),)), [WITNESS_KEY]
            )


@given(st.binary(min_size=1, max_size=100) | st.binary(min_size=2428, max_size=2428))
def test_any_blob_is_refused(blob: bytes) -> None:
    note = Note(TEXT, (NoteSignature(WITNESS_KEY.name, WITNESS_KEY.key_id, blob),))
    with pytest.raises(SignatureInvalid):
        cosignatures.verify_cosignatures(note, [WITNESS_KEY])


def test_sixteen_of_the_largest_signatures_and_the_log_s_own_fit_a_note() -> None:
    witnesses = [NamedSigner(f"{'w' * 250}{at}", MlDsa44Signer(bytes([at]) * 32)) for at in range(16)]
    lines = [cosignatures.cosign(TEXT, one, 1) for one in witnesses]
    note = parse_note(parse_note(SIGNED).with_signatures(lines).encode())
    keys = [one.key(SignatureType.ML_DSA_44) for one in witnesses]
    assert len(cosignatures.verify_cosignatures(note, keys)) == 16
    assert len(note.encode()) < 65_536
