"""Witness cosignatures: vectors, flipped bits, and arbitrary blobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import cosignatures, notes
from ledger.errors import NoteFormatError, SignatureInvalid, SudurError
from ledger.notes import NamedSigner, Note, NoteSignature, SignatureType, VerifierKey
from ledger.signatures import Ed25519Signer

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "cosignatures.json").read_text("utf-8")
)
TEXT = b"ledger.example\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
WITNESS = NamedSigner("witness.example/w1", Ed25519Signer(bytes(32)))
KEY = cosignatures.witness_key(WITNESS.name, WITNESS.signer.public_key)


def described(case: dict[str, Any]) -> str:
    return str(case["desc"])


@pytest.mark.parametrize("case", VECTORS["signed"], ids=described)
def test_signing(case: dict[str, Any]) -> None:
    witness = NamedSigner(case["name"], Ed25519Signer(bytes.fromhex(case["seed"])))
    line = cosignatures.cosign(case["text"].encode(), witness, case["time_s"]).line()
    assert line.decode() == case["want"]


@pytest.mark.parametrize("case", VECTORS["verified"], ids=described)
def test_verifying(case: dict[str, Any]) -> None:
    note = notes.parse_note(case["data"].encode())
    keys = [VerifierKey.parse(text) for text in case["keys"]]
    if case["want"] == "ok":
        found = cosignatures.verify_cosignatures(note, keys)
        assert {one.name: one.time_s for one in found} == case["times"]
    else:
        with pytest.raises(SudurError) as caught:
            cosignatures.verify_cosignatures(note, keys)
        assert caught.value.code == case["want"]


def test_every_flipped_bit_of_text_and_blob_is_refused() -> None:
    line = cosignatures.cosign(TEXT, WITNESS, 1_700_000_000)
    data = TEXT + line.blob
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        text, blob = bytes(changed[: len(TEXT)]), bytes(changed[len(TEXT) :])
        with pytest.raises(SignatureInvalid):
            cosignatures.verify_cosignatures(
                Note(text, (NoteSignature(line.name, line.key_id, blob),)), [KEY]
            )


@pytest.mark.parametrize("time_s", [-1, 2**63, 2**64])
def test_times_that_cannot_be_signed(time_s: int) -> None:
    with pytest.raises(NoteFormatError):
        cosignatures.cosign(TEXT, WITNESS, time_s)


def test_a_log_key_does_not_cosign() -> None:
    key = WITNESS.key(SignatureType.ED25519)
    note = notes.parse_note(notes.sign_note(TEXT, [WITNESS]))
    with pytest.raises(SignatureInvalid, match="not a cosigner's"):
        cosignatures.verify_cosignatures(note, [key])


@given(st.binary(min_size=1, max_size=80) | st.binary(min_size=72, max_size=72))
def test_any_blob_is_refused(blob: bytes) -> None:
    note = Note(TEXT, (NoteSignature(KEY.name, KEY.key_id, blob),))
    with pytest.raises(SignatureInvalid):
        cosignatures.verify_cosignatures(note, [KEY])


@given(st.integers(0, 2**63 - 1))
def test_any_time_round_trips(time_s: int) -> None:
    note = Note(TEXT, (cosignatures.cosign(TEXT, WITNESS, time_s),))
    again = notes.parse_note(note.encode())
    (found,) = cosignatures.verify_cosignatures(again, [KEY])
    assert (found.key, found.time_s) == (KEY, time_s)
