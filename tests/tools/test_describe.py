"""What people are shown: text from outside can steer no terminal and pass itself off as nothing else."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from ledger.documents import Field
from ledger.leaves import NONE
from ledger.records import Attest, Basis, Send, SendKind, Status
from ledger.verdicts import Proven, Verdict, VerdictCode
from tools.describe import leaf_json, leaf_text, verdict_text
from tools.ui import printable, quoted


def shown(*fields: Field, unchecked: tuple[str, ...] = ()) -> list[str]:
    proven = Proven(
        agency=1,
        agency_names={"en": "Registry"},
        document_type=0,
        type_labels={},
        field_labels={"child": {"en": "Child", "ar": "الطفل"}},
        fields=(Field.text("type", "0"), *fields),
        hidden_fields=0,
        unchecked_files=unchecked,
        basis=Basis.ORIGINAL,
        status=Status.VALID,
        index=7,
        issued_ms=0,
        as_of_ms=0,
        genesis=bytes(32),
        size=9,
        root=bytes(32),
        witnessed_s=None,
        expires=None,
    )
    return verdict_text(Verdict(VerdictCode.GENUINE, "", (), proven, "o", False)).splitlines()


def test_texts_are_quoted_and_files_stand_apart() -> None:
    lines = shown(
        Field.text("child", "نور"),
        Field.file("a.pdf", bytes(32)),
        Field.text("empty", ""),
        Field.file("b.pdf", bytes(32)),
        unchecked=("b.pdf",),
    )
    texts = lines.index("Compare these with the paper:")
    assert lines[texts + 1 : texts + 3] == ['  Child / الطفل: "نور"', '  "empty": ""']
    files = lines.index("Files that were issued:")
    assert lines[files + 1 : files + 3] == [
        '  "a.pdf": given, the very same',
        '  "b.pdf": NOT CHECKED, give the file to have it compared',
    ]


@pytest.mark.parametrize("name", ["file b.txt", "b.txt", '"b.txt"', '": "x"  "b.txt'])
def test_a_text_cannot_pass_itself_off_as_a_file(name: str) -> None:
    checked = shown(Field.file("b.txt", bytes(32)))
    line = checked[checked.index("Files that were issued:") + 1]
    for value in ("given, the very same", line, f'x\\"{line}'):
        lines = shown(Field.text(name, value))
        assert "Files that were issued:" not in lines
        assert line not in lines
        said = lines[lines.index("Compare these with the paper:") + 1].strip()
        assert said == f"{quoted(name)}: {quoted(value)}"


def test_quotation_marks_end_nothing() -> None:
    assert quoted('a"b\\') == '"a\\"b\\\\"'
    assert quoted("a\n") == '"a\\u000a"'


def test_nothing_unseen_is_printed() -> None:
    kept = "\u200c\u200d"
    for code in range(sys.maxunicode + 1):
        one = chr(code)
        unseen = unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") and one not in kept
        assert (printable(one) != one) == unseen, hex(code)
    assert printable("\u061c\u200e\u200f\u2066\u2069\U000e0041") == (
        "\\u061c\\u200e\\u200f\\u2066\\u2069\\U000e0041"
    )


def test_each_leaf_is_called_by_its_name() -> None:
    """ATTEST and SEND have a kind of their own, which must not take the place of the leaf's."""
    attest = Attest(1, 2, 3, bytes(32))
    send = Send(1, 2, bytes(32), SendKind.REQUEST, 0, NONE, bytes(32))
    assert leaf_text(9, attest.encode()).splitlines()[0] == "9  ATTEST"
    assert leaf_json(attest.encode())["attestation"] == 3
    assert (leaf_json(send.encode())["kind"], leaf_json(send.encode())["sent"]) == ("SEND", "request")
