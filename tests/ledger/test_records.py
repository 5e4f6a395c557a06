"""The six record leaves: exact sizes, exact values, one form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import FormatError, LeafFormatError
from ledger.leaves import NONE
from ledger.records import (
    MAX_DUE_DAYS,
    NO_HASH,
    Affirm,
    Answer,
    Attest,
    Basis,
    Issue,
    Outcome,
    Record,
    Send,
    SendKind,
    Status,
    StatusChange,
    parse_record,
)

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "records.json").read_text())
INDEXES = {"subject", "previous", "replacement", "follows", "first", "last"}
U8, U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
HASH = st.binary(min_size=32, max_size=32)
RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(Issue, U32, U16, st.sampled_from(Basis), HASH),
    st.builds(StatusChange, U32, U64, U64, st.sampled_from(Status), U8, st.just(NONE)),
    st.builds(StatusChange, U32, U64, U64, st.just(Status.SUPERSEDED), U8, U64),
    st.builds(Attest, U32, U64, st.integers(1, 255), HASH),
    st.builds(Send, U32, U32, HASH, st.sampled_from(SendKind), st.integers(0, MAX_DUE_DAYS), U64, HASH),
    st.builds(Answer, U32, U64, st.just(Outcome.RECEIVED), st.just(NO_HASH), st.just(NO_HASH)),
    st.builds(Answer, U32, U64, st.sampled_from([Outcome.ANSWERED, Outcome.RETURNED]), HASH, HASH),
    st.tuples(U32, U32, U64, U64).map(lambda t: Affirm(t[0], t[1], min(t[2:]), max(t[2:]))),
)
SIZES = {Issue: 41, StatusChange: 32, Attest: 47, Send: 85, Answer: 79, Affirm: 26}


@given(RECORDS)
def test_what_is_written_is_read(record: Record) -> None:
    leaf = record.encode()
    assert len(leaf) == SIZES[type(record)]
    assert parse_record(leaf) == record
    assert type(record).decode(leaf) == record


@given(RECORDS, st.data())
def test_another_length_is_refused(record: Record, data: st.DataObject) -> None:
    leaf = record.encode()
    cut = data.draw(st.integers(0, len(leaf) - 1))
    for other in (leaf[:cut], leaf + b"\0", leaf + leaf):
        with pytest.raises(LeafFormatError):
            parse_record(other)


@given(RECORDS, st.data())
def test_a_changed_byte_gives_another_record_or_none(record: Record, data: st.DataObject) -> None:
    leaf = bytearray(record.encode())
    leaf[data.draw(st.integers(0, len(leaf) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        other = parse_record(bytes(leaf))
    except LeafFormatError:
        return
    assert other != record
    assert other.encode() == leaf


@given(st.integers(1, 6), st.binary(max_size=90))
def test_any_bytes_raise_only_our_errors(kind: int, rest: bytes) -> None:
    leaf = bytes((1, kind)) + rest
    try:
        assert parse_record(leaf).encode() == leaf
    except FormatError:
        return


@pytest.mark.parametrize("kind", [0x10, 0x20, 0x30])
def test_other_leaves_are_no_records(kind: int) -> None:
    with pytest.raises(LeafFormatError, match="no record"):
        parse_record(bytes((1, kind)) + bytes(40))


@pytest.mark.parametrize(
    "record",
    [
        Issue(1, 1, Basis.ORIGINAL, bytes(31)),
        Issue(1, 1, Basis.ORIGINAL, bytes(33)),
        Issue(-1, 1, Basis.ORIGINAL, bytes(32)),
        Issue(2**32, 1, Basis.ORIGINAL, bytes(32)),
        Issue(1, 65_536, Basis.ORIGINAL, bytes(32)),
        Attest(1, 1, 1, b""),
        Send(1, 1, bytes(31), SendKind.REQUEST, 0, NONE, bytes(32)),
        Send(1, 1, bytes(32), SendKind.REQUEST, 0, NONE, bytes(31)),
        Answer(1, 1, Outcome.RECEIVED, bytes(31), bytes(32)),
        Answer(1, 1, Outcome.RECEIVED, bytes(32), bytes(31)),
        StatusChange(1, 2**64, 1, Status.VALID, 0, NONE),
    ],
)
def test_what_does_not_fit_is_not_written(record: Record) -> None:
    with pytest.raises(LeafFormatError):
        record.encode()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["desc"])
def test_known_answers(case: dict[str, Any]) -> None:
    leaf = bytes.fromhex(case["leaf"])
    if isinstance(case["want"], str):
        with pytest.raises(FormatError) as caught:
            parse_record(leaf)
        assert caught.value.code == case["want"]
        return
    record = parse_record(leaf)
    fields = {name: getattr(record, name) for name in type(record).__slots__}
    shown = {name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()}
    want = {name: int(value) if name in INDEXES else value for name, value in case["want"].items()}
    assert {"type": record.TYPE.name, **shown} == want
    assert record.encode() == leaf
