"""Signed notes: vectors, round trips, flipped bits, and arbitrary bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import notes
from ledger.errors import FormatError, NoteFormatError, SignatureInvalid, SudurError, TooLarge
from ledger.notes import NamedSigner, Note, NoteSignature, SignatureType, VerifierKey
from ledger.signatures import Ed25519Signer
from tests.vectors import generate_notes

DIRECTORY = Path(__file__).parents[1] / "vectors"
VECTORS: dict[str, list[dict[str, Any]]] = json.loads((DIRECTORY / "notes.json").read_text("utf-8"))

SIGNER = NamedSigner("log.example", Ed25519Signer(bytes(32)))
OTHER = NamedSigner("other.example", Ed25519Signer(bytes(range(32))))
NOTE = notes.sign_note(b"text\n\nmore text\n", [SIGNER, OTHER])


def described(case: dict[str, Any]) -> str:
    return str(case["desc"])


def data_of(case: dict[str, Any]) -> bytes:
    return bytes.fromhex(case["data_hex"]) if "data_hex" in case else str(case["data"]).encode()


@pytest.mark.parametrize("name", ["notes", "checkpoints", "cosignatures", "witness_policy"])
def test_vectors_are_those_that_the_generator_makes(name: str) -> None:
    made = generate_notes.generate()[name]
    assert made == json.loads((DIRECTORY / f"{name}.json").read_text("utf-8"))


@pytest.mark.parametrize("case", VECTORS["notes"], ids=described)
def test_open_note(case: dict[str, Any]) -> None:
    data = data_of(case)
    keys = [VerifierKey.parse(text) for text in case["keys"]]
    if case["want"] == "ok":
        note, signers = notes.open_note(data, keys)
        assert note.encode() == data
        assert [key.name for key in signers] == case["signers"]
    else:
        with pytest.raises(SudurError) as caught:
            notes.open_note(data, keys)
        assert caught.value.code == case["want"]


@pytest.mark.parametrize("case", VECTORS["vkeys"], ids=described)
def test_verifier_keys(case: dict[str, Any]) -> None:
    if case["want"] == "ok":
        key = VerifierKey.parse(case["vkey"])
        assert key.name == case["name"]
        assert key.format() == case["vkey"]
    else:
        with pytest.raises(NoteFormatError):
            VerifierKey.parse(case["vkey"])


def test_the_example_published_with_the_specification() -> None:
    key = VerifierKey.parse("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
    blob = "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="
    data = f"This is an example message.\n\n— example.com/foo {blob}\n".encode()
    note, signers = notes.open_note(data, [key])
    assert note.text == b"This is an example message.\n"
    assert signers == (key,)


def test_signed_note_round_trip() -> None:
    note, signers = notes.open_note(NOTE, [OTHER.key(), SIGNER.key()])
    assert note.text == b"text\n\nmore text\n"
    assert signers == (SIGNER.key(), OTHER.key())
    assert notes.open_note(NOTE, [OTHER.key()])[1] == (OTHER.key(),)


def test_every_flipped_bit_is_refused() -> None:
    keys = [SIGNER.key(), OTHER.key()]
    # A flip in a name or key ID turns a line into that of an unknown key, which must be ignored:
    # what may never happen is that both keys, or another text, verify.
    for bit in range(len(NOTE) * 8):
        changed = bytearray(NOTE)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            note, signers = notes.open_note(bytes(changed), keys)
        except SudurError:
            continue
        assert note.text == b"text\n\nmore text\n"
        assert len(signers) == 1


def test_every_flipped_bit_of_a_note_with_one_signature_is_refused() -> None:
    data = notes.sign_note(b"text\n", [SIGNER])
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SudurError):
            notes.open_note(bytes(changed), [SIGNER.key()])


def test_every_truncation_and_any_extension_is_refused() -> None:
    data = notes.sign_note(b"text\n", [SIGNER])
    for size in range(len(data)):
        with pytest.raises(SudurError):
            notes.open_note(data[:size], [SIGNER.key()])
    for more in (b"\n", b"x", b"\0", "— x".encode()):
        with pytest.raises(NoteFormatError):
            notes.open_note(data + more, [SIGNER.key()])


def test_size_cap() -> None:
    signed = notes.sign_note(b"text\n", [SIGNER])
    room = notes.MAX_NOTE_SIZE - len(signed)
    assert notes.parse_note(b"x" * room + signed).text.endswith(b"xtext\n")
    with pytest.raises(TooLarge):
        notes.parse_note(b"x" * (room + 1) + signed)
    with pytest.raises(TooLarge):
        notes.sign_note(b"x" * notes.MAX_NOTE_SIZE + b"\n", [SIGNER])


def test_sixteen_of_the_largest_signatures_fit() -> None:
    lines = [NoteSignature(f"key{n}.example", bytes(4), bytes(4900)) for n in range(16)]
    note = Note(b"text\n", tuple(lines))
    assert notes.parse_note(note.encode()) == note


def test_with_signatures_replaces_those_of_the_same_key() -> None:
    first, second, third = (NoteSignature(name, b"1234", b"old") for name in "abc")
    note = Note(b"t\n", (first, second, third))
    new = NoteSignature("b", b"1234", b"new")
    assert note.with_signatures([new]).signatures == (first, third, new)
    other_id = NoteSignature("b", b"1235", b"new")
    assert note.with_signatures([other_id]).signatures == (first, second, third, other_id)


def test_bare_signature_lines() -> None:
    lines = notes.parse_note(NOTE).signatures
    assert notes.parse_signatures(b"".join(one.line() for one in lines)) == lines
    for bad in (b"", b"\n", NOTE, lines[0].line()[:-1], lines[0].line() + b"\n"):
        with pytest.raises(NoteFormatError):
            notes.parse_signatures(bad)


@pytest.mark.parametrize("text", [b"", b"no newline", b"\0\n", b"\xff\n", b"tab\t\n"])
def test_what_is_no_text_is_not_signed(text: bytes) -> None:
    with pytest.raises(NoteFormatError):
        notes.sign_note(text, [SIGNER])


def test_signers_are_checked() -> None:
    with pytest.raises(NoteFormatError, match="needs a signer"):
        notes.sign_note(b"text\n", [])
    with pytest.raises(NoteFormatError, match="signs twice"):
        notes.sign_note(b"text\n", [SIGNER, SIGNER])
    for name in ("", "a b", "a+b", "a\u3000b", "a\x7fb\x01", "\ud800", "n" * 256):
        with pytest.raises(NoteFormatError):
            notes.sign_note(b"text\n", [NamedSigner(name, SIGNER.signer)])


def test_a_cosigner_key_does_not_open_a_note() -> None:
    blob = SIGNER.signer.sign(b"text\n")
    key = SIGNER.key(SignatureType.ED25519_COSIGNATURE)
    note = Note(b"text\n", (NoteSignature(key.name, key.key_id, blob),))
    with pytest.raises(SignatureInvalid, match="cosigner"):
        notes.open_note(note.encode(), [key])


def test_unknown_lines_with_a_known_name_or_id_never_count() -> None:
    strange = NoteSignature(SIGNER.name, OTHER.key().key_id, b"x")
    note = Note(b"text\n", (strange,))
    assert notes.known_signatures(note, [SIGNER.key(), OTHER.key()]) == ()


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    try:
        note = notes.parse_note(data)
    except FormatError:
        return
    assert note.encode() == data


@settings(max_examples=300)
@given(st.data())
def test_mutated_notes(data: st.DataObject) -> None:
    changed = bytearray(NOTE)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(changed)))
        end = data.draw(st.integers(start, min(start + 3, len(changed))))
        changed[start:end] = data.draw(st.binary(max_size=3))
    try:
        note, signers = notes.open_note(bytes(changed), [SIGNER.key(), OTHER.key()])
    except SudurError:
        return
    assert note.encode() == bytes(changed)
    assert note.text == b"text\n\nmore text\n"
    assert signers


@given(st.text(max_size=80) | st.builds("{}+{}+{}".format, st.text(), st.text(), st.text()))
def test_any_verifier_key(text: str) -> None:
    with pytest.raises(NoteFormatError):
        VerifierKey.parse(text)


@settings(max_examples=100)
@given(st.text(max_size=60), st.integers(1, 3))
def test_any_text_round_trips_or_is_refused(text: str, count: int) -> None:
    signers = [NamedSigner(f"k{n}", Ed25519Signer(bytes((n,)) * 32)) for n in range(count)]
    try:
        data = notes.sign_note(text.encode() + b"\n", signers)
    except NoteFormatError:
        assert any(ord(character) < 0x20 for character in text)
        return
    note, signed = notes.open_note(data, [signer.key() for signer in signers])
    assert note.text == text.encode() + b"\n"
    assert len(signed) == count
