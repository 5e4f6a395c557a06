"""Checkpoints: vectors, round trips, flipped bits, and arbitrary bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import checkpoints
from ledger.checkpoints import Checkpoint
from ledger.errors import FormatError, NoteFormatError, SudurError
from ledger.notes import VerifierKey
from ledger.signatures import Ed25519Signer

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "checkpoints.json").read_text("utf-8")
)
ORIGIN = "ledger.example"
SIGNER = Ed25519Signer(bytes(32))
NEXT_SIGNER = Ed25519Signer(bytes(range(32)))
KEY = checkpoints.log_key(ORIGIN, SIGNER.public_key)
NEXT_KEY = checkpoints.log_key(ORIGIN, NEXT_SIGNER.public_key)
CHECKPOINT = Checkpoint(ORIGIN, 1234, bytes(range(32)))
SIGNED = checkpoints.sign_checkpoint(CHECKPOINT, [SIGNER])


def described(case: dict[str, Any]) -> str:
    return str(case["desc"])


def data_of(case: dict[str, Any]) -> bytes:
    return bytes.fromhex(case["data_hex"]) if "data_hex" in case else str(case["data"]).encode()


@pytest.mark.parametrize("case", VECTORS["texts"], ids=described)
def test_texts(case: dict[str, Any]) -> None:
    data = data_of(case)
    if case["want"] == "ok":
        checkpoint = checkpoints.parse_checkpoint(data)
        assert checkpoint == Checkpoint(case["origin"], int(case["size"]), bytes.fromhex(case["root"]))
        assert checkpoints.format_checkpoint(checkpoint) == data
    else:
        with pytest.raises(SudurError) as caught:
            checkpoints.parse_checkpoint(data)
        assert caught.value.code == case["want"]


@pytest.mark.parametrize("case", VECTORS["notes"], ids=described)
def test_notes(case: dict[str, Any]) -> None:
    data = data_of(case)
    keys = [VerifierKey.parse(text) for text in case["keys"]]
    if case["want"] == "ok":
        signed = checkpoints.open_checkpoint(data, case["origin"], keys)
        assert signed.data == data == signed.note.encode()
        assert signed.checkpoint.origin == case["origin"]
    else:
        with pytest.raises(SudurError) as caught:
            checkpoints.open_checkpoint(data, case["origin"], keys)
        assert caught.value.code == case["want"]


def test_round_trip_with_both_keys_during_a_rotation() -> None:
    data = checkpoints.sign_checkpoint(CHECKPOINT, [SIGNER, NEXT_SIGNER])
    for keys in ([KEY], [NEXT_KEY], [NEXT_KEY, KEY]):
        assert checkpoints.open_checkpoint(data, ORIGIN, keys).checkpoint == CHECKPOINT


def test_every_flipped_bit_is_refused() -> None:
    for bit in range(len(SIGNED) * 8):
        changed = bytearray(SIGNED)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SudurError):
            checkpoints.open_checkpoint(bytes(changed), ORIGIN, [KEY])


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [
        ("", 1, bytes(32)),
        ("a\nb", 1, bytes(32)),
        ("a\x00", 1, bytes(32)),
        ("\ud800", 1, bytes(32)),
        ("o" * 256, 1, bytes(32)),
        ("o", -1, bytes(32)),
        ("o", 2**63, bytes(32)),
        ("o", 1, bytes(31)),
        ("o", 1, b""),
    ],
)
def test_a_malformed_checkpoint_cannot_be_made(origin: str, size: int, root: bytes) -> None:
    with pytest.raises(NoteFormatError):
        Checkpoint(origin, size, root)


def test_an_origin_that_is_no_key_name_cannot_sign() -> None:
    for origin in ("a log", "a+b"):
        with pytest.raises(NoteFormatError):
            checkpoints.sign_checkpoint(Checkpoint(origin, 1, bytes(32)), [SIGNER])
    with pytest.raises(NoteFormatError):
        checkpoints.sign_checkpoint(CHECKPOINT, [])


@given(st.binary(max_size=120) | st.builds("{}\n{}\n{}\n".format, st.text(), st.text(), st.text()))
def test_any_bytes(data: bytes | str) -> None:
    encoded = data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")
    try:
        checkpoint = checkpoints.parse_checkpoint(encoded)
    except FormatError:
        return
    assert checkpoints.format_checkpoint(checkpoint) == encoded


@given(st.data())
def test_mutated_checkpoints(data: st.DataObject) -> None:
    changed = bytearray(SIGNED)
    start = data.draw(st.integers(0, len(changed)))
    changed[start : start + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        signed = checkpoints.open_checkpoint(bytes(changed), ORIGIN, [KEY])
    except SudurError:
        return
    assert bytes(changed) == SIGNED
    assert signed.checkpoint == CHECKPOINT


@given(st.text(min_size=1, max_size=60), st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_any_checkpoint_round_trips_or_cannot_be_made(origin: str, size: int, root: bytes) -> None:
    try:
        checkpoint = Checkpoint(origin, size, root)
    except NoteFormatError:
        return
    assert checkpoints.parse_checkpoint(checkpoints.format_checkpoint(checkpoint)) == checkpoint
