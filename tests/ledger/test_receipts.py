"""Receipts: one canonical form, and built only from resources that agree with the checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import (
    CheckpointUntrusted,
    CommitmentMismatch,
    OutOfRange,
    ReceiptFormatError,
    SudurError,
)
from ledger.receipt_builder import ReceiptBuilder
from ledger.receipts import MAX_RECEIPT, parse_receipt
from ledger.verdicts import VerdictCode
from ledger.verifier import verify_receipt
from tests.ledger.issued import SEED, Issued


@pytest.fixture(scope="module")
def issued() -> Issued:
    return Issued()


@pytest.fixture(scope="module")
def data(issued: Issued) -> bytes:
    return issued.receipt().encode()


def test_a_receipt_reads_back_as_it_was_written(issued: Issued, data: bytes) -> None:
    receipt = parse_receipt(data)
    assert receipt == issued.receipt()
    assert receipt.encode() == data


@pytest.mark.parametrize(
    ("desc", "spoil"),
    [
        ("empty", lambda data: b""),
        ("cut short", lambda data: data[:-2]),
        ("without its newline", lambda data: data[:-1]),
        ("two newlines", lambda data: data + b"\n"),
        ("trailing bytes", lambda data: data + b"x\n"),
        ("a space before the end", lambda data: data[:-2] + b" }\n"),
        ("not UTF-8", lambda data: data[:40] + b"\xff" + data[41:]),
        ("not JSON", lambda data: b"receipt\n"),
        ("an array", lambda data: b"[]\n"),
        ("over the cap", lambda data: b'"' + b"x" * MAX_RECEIPT + b'"\n'),
        ("another format", lambda data: data.replace(b"sudur-receipt/v1", b"sudur-receipt/v2")),
        ("an unknown member", lambda data: b'{"a":1,' + data[1:]),
    ],
)
def test_what_is_no_receipt_is_refused(desc: str, spoil: object, data: bytes) -> None:
    assert callable(spoil)
    with pytest.raises(ReceiptFormatError):
        parse_receipt(spoil(data))


def _members(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    found = []
    if isinstance(value, dict):
        for name, item in value.items():
            found += [(*path, name), *_members(item, (*path, name))]
    return found


def test_every_member_is_needed(data: bytes) -> None:
    whole = json.loads(data)
    for path in _members(whole):
        spoilt = json.loads(data)
        *parents, last = path
        holder = spoilt
        for name in parents:
            holder = holder[name]
        del holder[last]
        text = json.dumps(spoilt, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
        with pytest.raises(ReceiptFormatError):
            parse_receipt(text.encode() + b"\n")


@given(draw=st.data())
def test_mutated_receipts_raise_only_our_errors(issued: Issued, data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data) - 1))
    byte = draw.draw(st.integers(0, 255))
    cut = draw.draw(st.integers(0, 3))
    spoilt = data[:at] + bytes((byte,)) + data[at + cut :]
    try:
        receipt = parse_receipt(spoilt)
    except ReceiptFormatError:
        return
    # Not the bytes are compared: a zlib stream can be written in more than one way.
    verdict = verify_receipt(receipt, issued.trust(), now_ms=issued.world.now)
    assert (receipt == parse_receipt(data)) == (verdict.code is VerdictCode.GENUINE)


@given(noise=st.binary(max_size=200))
def test_any_bytes_raise_only_our_error(noise: bytes) -> None:
    with pytest.raises(ReceiptFormatError):
        parse_receipt(noise)


# --- building ----------------------------------------------------------------------------------


def test_resources_are_fetched_once_for_all_receipts_of_a_checkpoint(issued: Issued) -> None:
    static = issued.static()
    builder = ReceiptBuilder(static, issued.trusted(), static.checkpoint)
    builder.build(issued.document.disclose(SEED), issued.index)
    before = len(static.fetched)
    builder.build(issued.document.disclose(SEED), issued.index)
    assert len(static.fetched) == before
    assert len(static.fetched) == len(set(static.fetched))


def test_only_whole_public_resources_are_asked_for(issued: Issued) -> None:
    static = issued.static()
    ReceiptBuilder(static, issued.trusted(), static.checkpoint).build(
        issued.document.disclose(SEED), issued.index
    )
    assert all(not path.endswith(str(issued.index)) for path in static.fetched)


def test_another_documents_index_is_refused(issued: Issued) -> None:
    static = issued.static()
    builder = ReceiptBuilder(static, issued.trusted(), static.checkpoint)
    with pytest.raises(CommitmentMismatch):
        builder.build(issued.document.disclose(SEED), issued.index - 1)
    with pytest.raises(OutOfRange):
        builder.build(issued.document.disclose(SEED), static.tree.size)


def test_another_ledgers_checkpoint_is_refused(issued: Issued) -> None:
    static = issued.static()
    other = replace(issued.trusted(), origin="ledger.example/other")
    with pytest.raises(CheckpointUntrusted):
        ReceiptBuilder(static, other, static.checkpoint)


def test_every_spoilt_resource_is_noticed(issued: Issued) -> None:
    """Flip one bit in each resource in turn: a receipt is either not built, or is the same."""
    honest = issued.static()
    receipt = issued.receipt()
    noticed = 0
    for path in sorted(set(honest.files)):
        static = issued.static()
        data = bytearray(static.files[path])
        data[len(data) // 2] ^= 1
        static.files[path] = bytes(data)
        try:
            builder = ReceiptBuilder(static, issued.trusted(), static.files["checkpoint"])
            built = builder.build(issued.document.disclose(SEED), issued.index)
        except SudurError:
            noticed += 1
        else:
            assert path not in static.fetched or built == receipt, path
    assert noticed > 8


def test_every_missing_resource_is_noticed(issued: Issued) -> None:
    static = issued.static()
    ReceiptBuilder(static, issued.trusted(), static.checkpoint).build(
        issued.document.disclose(SEED), issued.index
    )
    for path in set(static.fetched):
        lacking = issued.static()
        checkpoint = lacking.checkpoint
        del lacking.files[path]
        with pytest.raises(SudurError):
            ReceiptBuilder(lacking, issued.trusted(), checkpoint).build(
                issued.document.disclose(SEED), issued.index
            )
