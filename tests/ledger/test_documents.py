"""Documents: what may be committed to, what a commitment binds, what hiding leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.documents import (
    MAX_FIELDS,
    MAX_VALUE,
    Commitments,
    Disclosure,
    Document,
    Field,
    FieldKind,
    Hidden,
    Shown,
    check_composed,
    check_text,
    commitment,
    salt,
)
from ledger.errors import CommitmentMismatch, DocumentFormatError

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "document.json").read_text())
GENESIS = bytes(range(32))
SEED = bytes(range(16))
FILE = sha256(b"the file").digest()


def certificate() -> Document:
    return Document.build(
        7,
        3,
        [
            Field.text("holder", "سارا ئەحمەد"),
            Field.text("note", ""),
            Field.file("scan.pdf", FILE),
        ],
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["desc"])
def test_known_answers(case: dict[str, Any]) -> None:
    fields = tuple(
        Field(FieldKind(one["kind"]), one["name"], bytes.fromhex(one["value"])) for one in case["fields"]
    )
    document = Document(case["agency"], case["document_type"], fields)
    if isinstance(case["want"], str):
        with pytest.raises(DocumentFormatError) as caught:
            document.check()
        assert caught.value.code == case["want"]
        return
    document.check()
    genesis, seed = bytes.fromhex(case["genesis"]), bytes.fromhex(case["seed"])
    shown = document.disclose(seed)
    assert [slot.hash().hex() for slot in shown.slots] == case["want"]["field_leaves"]
    assert [salt(seed, i).hex() for i in range(len(fields))] == case["want"]["salts"]
    assert document.commitment(genesis, seed).hex() == case["want"]["commitment"]


def test_hiding_does_not_change_the_commitment() -> None:
    document = certificate()
    whole = document.commitment(GENESIS, SEED)
    for hidden in (set(), {"holder"}, {"note", "scan.pdf"}, {"holder", "note", "scan.pdf"}):
        part = document.disclose(SEED, frozenset(hidden))
        part.check()
        assert part.commitment(GENESIS) == whole
        assert {field.name for field in part.shown} == {"type", "holder", "note", "scan.pdf"} - hidden


def test_only_fields_that_exist_can_be_hidden_and_never_the_type() -> None:
    document = certificate()
    for name in ("type", "hodler", ""):
        with pytest.raises(DocumentFormatError, match="hidden"):
            document.disclose(SEED, frozenset([name]))
    slots = document.disclose(SEED).slots
    with pytest.raises(DocumentFormatError, match="type"):
        Disclosure(7, 3, (Hidden(slots[0].hash()), *slots[1:])).check()


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_seed_has_one_size(size: int) -> None:
    with pytest.raises(DocumentFormatError, match="seed"):
        certificate().commitment(GENESIS, bytes(size))


def test_the_commitment_binds_everything() -> None:
    document = certificate()
    whole = document.commitment(GENESIS, SEED)
    fields = document.fields
    others = [
        replace(document, agency=8).commitment(GENESIS, SEED),
        document.commitment(bytes(32), SEED),
        document.commitment(GENESIS, bytes(16)),
        replace(document, fields=fields[:-1]).commitment(GENESIS, SEED),
        replace(document, fields=(*fields, Field.text("more", ""))).commitment(GENESIS, SEED),
        replace(document, fields=(fields[0], fields[2], fields[1], fields[3])).commitment(GENESIS, SEED),
        replace(document, fields=(*fields[:3], Field(FieldKind.TEXT, "scan.pdf", FILE))).commitment(
            GENESIS, SEED
        ),
        replace(document, fields=(fields[0], Field.text("holder", "سارا"), *fields[2:])).commitment(
            GENESIS, SEED
        ),
        replace(document, fields=(fields[0], Field.text("holde", "rسارا ئەحمەد"), *fields[2:])).commitment(
            GENESIS, SEED
        ),
    ]
    root = bytes(32)
    purposes = [commitment(p, GENESIS, 7, 4, root) for p in ("document", "circulated", "answer", "attested")]
    assert len({whole, *others, *purposes}) == 1 + len(others) + 4


def test_letters_are_not_folded() -> None:
    pairs = [("ى", "ي"), ("ک", "ك"), ("كـتاب", "كتاب"), ("١", "1"), ("١", "۱")]
    for a, b in pairs:
        one, other = (Document.build(1, 0, [Field.text("v", value)]) for value in (a, b))
        assert one.commitment(GENESIS, SEED) != other.commitment(GENESIS, SEED)


@pytest.mark.parametrize("code", [0x00, 0x09, 0x0A, 0x0D, 0x1F, 0x7F, 0x85, 0x2028, 0x2029])
def test_control_characters_are_refused(code: int) -> None:
    with pytest.raises(DocumentFormatError, match=f"U\\+{code:04X}"):
        Field.text("v", f"a{chr(code)}b")
    with pytest.raises(DocumentFormatError):
        Document.build(1, 0, [Field(FieldKind.TEXT, f"a{chr(code)}", b"")])


@pytest.mark.parametrize("code", [*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
def test_bidirectional_overrides_are_refused(code: int) -> None:
    with pytest.raises(DocumentFormatError, match="control character"):
        check_text("v", f"123{chr(code)}456")


@pytest.mark.parametrize(
    "text", ["نامه\u200cای", "a\u200d", "\u200e", "\u200f", "\u061c", "e\u0301"[:1], "\U0001f600"]
)
def test_what_writing_needs_is_allowed(text: str) -> None:
    check_text("v", text)


@pytest.mark.parametrize("text", ["e\u0301", "\u0627\u0653", "\u212b", "\u1100\u1161"])
def test_only_nfc(text: str) -> None:
    with pytest.raises(DocumentFormatError, match="NFC"):
        check_composed("v", text)
    for fields in ([Field.text("v", text)], [Field.text(text, "v")]):
        with pytest.raises(DocumentFormatError, match="NFC"):
            Document.build(1, 0, fields)


def test_an_issued_document_verifies_whatever_unicode_comes() -> None:
    """NFC is asked for at issuance only: a verifier must not depend on the tables of its Python."""
    Document(1, 0, (Field.text("type", "0"), Field.text("v", "e\u0301"))).check()


@pytest.mark.parametrize("text", ["\ud800", "a\udfff"])
def test_lone_surrogates_are_refused(text: str) -> None:
    with pytest.raises(DocumentFormatError, match="surrogate"):
        Field.text("v", text)
    with pytest.raises(DocumentFormatError):
        Document.build(1, 0, [Field(FieldKind.TEXT, text, b"")])


@pytest.mark.parametrize(
    "fields",
    [
        [Field(FieldKind.TEXT, "", b"")],
        [Field(FieldKind.TEXT, "x" * 256, b"")],
        [Field(FieldKind.TEXT, "ئ" * 128, b"")],
        [Field(FieldKind.TEXT, "v", b"\xff")],
        [Field(FieldKind.TEXT, "v", bytes(MAX_VALUE + 1))],
        [Field(FieldKind.FILE, "f", bytes(31))],
        [Field(FieldKind.FILE, "f", bytes(33))],
        [Field.text("v", "1"), Field.text("v", "2")],
        [Field.text("type", "3")],
        [Field.text(str(i), "") for i in range(MAX_FIELDS)],
    ],
)
def test_fields_that_cannot_be_committed_to(fields: list[Field]) -> None:
    with pytest.raises(DocumentFormatError):
        Document.build(1, 3, fields)


def test_the_limits_themselves_are_allowed() -> None:
    fields = [Field.text(f"{'x' * 252}{i:03}", "") for i in range(MAX_FIELDS - 2)]
    document = Document.build(1, 3, [*fields, Field.text("long", "x" * MAX_VALUE)])
    document.disclose(SEED).check()
    assert len(document.fields) == MAX_FIELDS


def test_a_document_shows_its_own_type() -> None:
    document = certificate()
    with pytest.raises(DocumentFormatError, match="type"):
        replace(document, document_type=4).check()
    with pytest.raises(DocumentFormatError, match="type"):
        replace(document.disclose(SEED), document_type=4).check()
    with pytest.raises(DocumentFormatError):
        Document(1, 3, ()).check()
    with pytest.raises(DocumentFormatError):
        Disclosure(1, 3, ()).check()


def test_a_disclosure_is_checked_slot_by_slot() -> None:
    slots = certificate().disclose(SEED).slots
    assert isinstance(slots[1], Shown)
    for bad in (
        (*slots[:3], Hidden(bytes(31))),
        (slots[0], Shown(slots[1].field, bytes(15)), *slots[2:]),
        (slots[0], slots[1], slots[1], slots[3]),
        slots * 65,
    ):
        with pytest.raises(DocumentFormatError):
            Disclosure(7, 3, bad).check()


def test_a_file_is_found_by_its_digest() -> None:
    whole = certificate().disclose(SEED)
    assert whole.check_file(FILE).name == "scan.pdf"
    with pytest.raises(CommitmentMismatch):
        whole.check_file(sha256(b"another").digest())
    with pytest.raises(CommitmentMismatch):
        certificate().disclose(SEED, frozenset(["scan.pdf"])).check_file(FILE)


@given(st.text(max_size=8), st.text(max_size=8), st.binary(max_size=40), st.sampled_from(FieldKind))
def test_any_field_is_committed_to_or_refused(name: str, text: str, value: bytes, kind: FieldKind) -> None:
    for as_text in (True, False):
        try:
            field = Field.text(name, text) if as_text else Field(kind, name, value)
            document = Document.build(1, 0, [field])
        except DocumentFormatError:
            continue
        assert len(document.commitment(GENESIS, SEED)) == 32


@given(
    values=st.lists(st.text(max_size=40).filter(lambda text: not _refused(text)), max_size=12),
    seed=st.binary(min_size=16, max_size=16),
)
def test_commitments_in_bulk_are_the_same(values: list[str], seed: bytes) -> None:
    fields = [Field.text(f"f{position}", value) for position, value in enumerate(values)]
    document = Document(7, 3, (Field.text("type", "3"), *fields, Field.file("scan.pdf", FILE)))
    slots = [field.slot() for field in document.fields]
    assert [Field.from_slot(slot) for slot in slots] == list(document.fields)
    assert Commitments(GENESIS, 7).of(seed, slots) == document.commitment(GENESIS, seed)


def _refused(text: str) -> bool:
    try:
        check_text("x", text)
    except DocumentFormatError:
        return True
    return False


@pytest.mark.parametrize("slot", [b"", b"\x00", b"\x02\x01a", b"\x00\x01\xff"])
def test_what_is_no_field(slot: bytes) -> None:
    with pytest.raises(DocumentFormatError, match="is no field"):
        Field.from_slot(slot)
