"""Codes: what is printed is read, whatever a scanner did to it; all else is refused by its name."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.changes import FieldDefinition
from ledger.codes import (
    MAX_CODE,
    Code,
    CodeField,
    check_link,
    code_of,
    decode_code,
    ledger_of_code,
    parse_code,
    path_of,
)
from ledger.digits import digit_count, from_digits, to_digits
from ledger.documents import Document, Field, FieldKind, Hidden
from ledger.errors import (
    CheckpointUntrusted,
    CodeCutShort,
    CodeFormatError,
    CodeMisread,
    CommitmentMismatch,
    SudurError,
    TooLarge,
)
from ledger.records import Basis
from ledger.registry_records import TypeRecord
from ledger.trust import Trust
from tests.ledger.issued import SEED, Issued

VECTORS: Final = json.loads(
    (Path(__file__).parents[1] / "vectors" / "codes.json").read_text(encoding="utf-8")
)
GENESIS: Final = bytes.fromhex(VECTORS["genesis"])


def definition(names: list[str]) -> TypeRecord:
    fields = tuple(FieldDefinition(one, {"en": one}, False, False, False, False) for one in names)
    return TypeRecord(7, 1, {"en": "Seven"}, fields)


TYPE_7: Final = definition(VECTORS["names"])


def document() -> Document:
    fields = [Field.text(name, f"value of {name}") for name in VECTORS["names"]]
    return Document.build(12, 7, [*fields, Field.file("scan", sha256(b"scan").digest())])


def read(code: Code, kind: TypeRecord | None) -> dict[str, Any]:
    shown = code.disclosure(kind)
    fields: list[dict[str, str]] = []
    for one in shown.slots[1:]:
        if isinstance(one, Hidden):
            fields.append({"hidden": one.leaf.hex()})
        elif one.field.kind is FieldKind.FILE:
            fields.append({"name": one.field.name, "sha256": one.field.value.hex()})
        else:
            fields.append({"name": one.field.name, "value": one.field.value.decode()})
    return {
        "ledger": code.ledger.hex(),
        "agency": code.agency,
        "type": code.document_type,
        "basis": int(code.basis),
        "index": str(code.index),
        "fields": fields,
        "path": [one.hex() for one in code.path],
        "link": code.link,
        "issue": code.issue(shown, GENESIS).encode().hex(),
    }


@pytest.mark.parametrize("case", VECTORS["codes"], ids=lambda case: case["desc"])
def test_vectors(case: dict[str, Any]) -> None:
    if isinstance(case["want"], str):
        with pytest.raises(SudurError) as caught:
            parse_code(case["text"])
        assert caught.value.code == case["want"]
        return
    code = parse_code(case["text"])
    assert read(code, TYPE_7 if code.document_type else None) == case["want"]
    assert parse_code(code.text()) == replace(code, link="")


@pytest.mark.parametrize("case", VECTORS["digits"], ids=lambda case: case["digits"])
def test_digits(case: dict[str, Any]) -> None:
    if case["want"] == "MALFORMED":
        with pytest.raises(SudurError):
            from_digits(case["digits"])
        return
    data = bytes.fromhex(case["want"])
    assert to_digits(data) == case["digits"]
    assert from_digits(case["digits"]) == data
    assert digit_count(len(data)) == len(case["digits"])


@given(st.binary(max_size=60))
def test_any_bytes_are_digits_and_back(data: bytes) -> None:
    text = to_digits(data)
    assert from_digits(text) == data
    assert len(text) == digit_count(len(data))


def test_a_code_opens_the_commitment_that_was_logged() -> None:
    whole = document()
    code = code_of((whole, SEED), GENESIS, Basis.ARCHIVE, 99)
    shown = code.disclosure(TYPE_7)
    assert shown == whole.disclose(SEED)
    assert code.issue(shown, GENESIS).commitment == whole.commitment(GENESIS, SEED)
    hidden = whole.disclose(SEED, frozenset(["mother", "scan"]))
    partly = parse_code(code_of(hidden, GENESIS, Basis.ARCHIVE, 99).text())
    assert partly.disclosure(TYPE_7) == hidden
    assert partly.issue(hidden, GENESIS) == code.issue(shown, GENESIS)


def test_the_seed_is_not_in_a_code_that_hides_something() -> None:
    hidden = document().disclose(SEED, frozenset(["mother"]))
    assert SEED not in code_of(hidden, GENESIS, Basis.ORIGINAL, 1).encode()


def test_a_document_of_another_shape_than_its_type() -> None:
    code = code_of((document(), SEED), GENESIS, Basis.ORIGINAL, 1)
    with pytest.raises(CommitmentMismatch, match="more fields"):
        code.disclosure(definition(VECTORS["names"][:2]))
    with pytest.raises(CommitmentMismatch, match="all the fields"):
        code.disclosure(definition([f"f{i}" for i in range(9)]))


def test_what_is_too_long_for_a_code() -> None:
    for size in (MAX_CODE, 1 << 14):
        long = Document.build(1, 0, [Field.text("a", "x" * size)])
        with pytest.raises(TooLarge):
            code_of((long, SEED), GENESIS, Basis.ORIGINAL, 1).text()


def test_the_greatest_number_of_fields() -> None:
    many = Document.build(1, 0, [Field.text(f"{i}", "") for i in range(255)])
    code = parse_code(code_of((many, SEED), GENESIS, Basis.ORIGINAL, 1).text())
    assert code.disclosure(None) == many.disclose(SEED)


def test_what_no_code_can_say_is_not_written() -> None:
    code = code_of((document(), SEED), GENESIS, Basis.ORIGINAL, 1)
    twice = replace(code, slots=(*code.slots, code.slots[-1]))
    nameless = replace(code, slots=(CodeField(FieldKind.FILE, "n" * 256, bytes(32), None),))
    for wrong in (twice, nameless, replace(code, agency=0), replace(code, path=(bytes(32),))):
        with pytest.raises(CodeFormatError):
            wrong.encode()


def test_every_single_wrong_digit_is_noticed() -> None:
    """But for one in 65,536, which leads to another commitment, and is not in the ledger then."""
    text = code_of((document(), SEED), GENESIS, Basis.ORIGINAL, 1).text()
    for at, right in enumerate(text):
        wrong = str((int(right) + 1 + at % 9) % 10)
        if wrong != right:
            with pytest.raises(CodeFormatError):
                parse_code(text[:at] + wrong + text[at + 1 :])


def test_every_cut_is_named() -> None:
    text = code_of((document(), SEED), GENESIS, Basis.ORIGINAL, 1).text()
    for end in range(1, len(text)):
        with pytest.raises(CodeCutShort):
            parse_code(text[:end])
    with pytest.raises(CodeCutShort, match=f"{len(text) - 1} of {len(text)} digits"):
        parse_code(text[:-1])


def test_ten_thousand_garbage_codes() -> None:
    """None is accepted, and each is refused by one of our errors."""
    chance = random.Random(10_000)
    texts = [code_of((document(), SEED), GENESIS, Basis.ORIGINAL, at).text() for at in range(20)]
    for _ in range(10_000):
        text = list(chance.choice(texts))
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(text))
            match chance.randrange(4):
                case 0:
                    text[at] = chance.choice("0123456789٤۷xé#- ")
                case 1:
                    del text[at : at + chance.randint(1, 40)]
                    text = text or ["0"]
                case 2:
                    text[at:at] = chance.choices("0123456789", k=chance.randint(1, 40))
                case _:
                    other = chance.randrange(len(text))
                    text[at], text[other] = text[other], text[at]
        try:
            parse_code("".join(text))
        except SudurError:
            continue
        assert parse_code("".join(text)).text() in texts, "only a change that changed nothing"


@given(st.binary(min_size=42, max_size=300))
def test_any_bytes_with_a_right_check_raise_only_our_errors(data: bytes) -> None:
    body = len(data).to_bytes(2, "big") + b"\x01" + data[3:-2]
    whole = body + sha256(body).digest()[:2]
    try:
        code = decode_code(whole)
    except SudurError:
        return
    assert code.encode() == whole


def test_links() -> None:
    text = code_of((document(), SEED), GENESIS, Basis.ORIGINAL, 1).text()
    code = parse_code(f"HTTPS://Verify.Example.GOV/#{text}")
    assert (code.link, code.host) == ("HTTPS://Verify.Example.GOV/", "verify.example.gov")
    assert parse_code(f"https://x.example:8443/#{text}").host == "x.example:8443"
    assert parse_code(f"https://x.example/page#{text}").host is None
    assert parse_code(f"#{text}").link == ""
    check_link("https://verify.example.gov/")
    for wrong in (
        "http://x.example/",
        "https://x.example",
        "https://x.example/#",
        "https:///",
        "x",
        "https://-/",
    ):
        with pytest.raises(CodeFormatError):
            check_link(wrong)


def test_whose_ledger() -> None:
    issued = Issued()
    code = replace(code_of((document(), SEED), GENESIS, Basis.ORIGINAL, 1), ledger=issued.world.genesis[:4])
    assert ledger_of_code(code, issued.trust()) == issued.trusted()
    with pytest.raises(CheckpointUntrusted, match="not in the trust file"):
        ledger_of_code(replace(code, ledger=bytes(4)), issued.trust())
    alike = replace(issued.trusted(), genesis=issued.world.genesis[:4] + bytes(28))
    with pytest.raises(CheckpointUntrusted, match="several"):
        ledger_of_code(code, Trust((issued.trusted(), alike)))


def test_the_path_is_there_once_the_256_are_full() -> None:
    path = tuple(bytes([at]) * 32 for at in range(20))
    assert path_of(300, 512, path) == path[:8]
    assert path_of(300, 511, path) == ()


def test_a_misread_digit_is_not_called_an_altered_document() -> None:
    text = code_of((document(), SEED), GENESIS, Basis.ORIGINAL, 1).text()
    with pytest.raises(CodeMisread, match="scan it again"):
        parse_code(text[:50] + str((int(text[50]) + 1) % 10) + text[51:])
