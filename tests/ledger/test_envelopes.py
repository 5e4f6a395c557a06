"""Envelopes: one form outside and inside, bound to their record, and nothing believed that is not."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.changes import MAX_AGENCY
from ledger.documents import Disclosure, Document, Field, Hidden, Shown
from ledger.envelope_bodies import (
    Issued,
    Letter,
    Reply,
    ReplyOutcome,
    letter_plaintext,
    open_letter,
    open_reply,
    reply_plaintext,
)
from ledger.envelopes import (
    BOX_OVERHEAD,
    MAX_BODY,
    MAX_ENVELOPE,
    MAX_PLAINTEXT,
    Attachment,
    Envelope,
    Route,
    Verb,
    padded_size,
    read_plaintext,
    request_message,
    write_parts,
    write_plaintext,
)
from ledger.errors import (
    CommitmentMismatch,
    DocumentFormatError,
    EnvelopeFormatError,
    EnvelopeWrongSender,
    FormatError,
    SudurError,
    TooLarge,
    VerificationError,
)
from ledger.records import NO_HASH, Answer, Outcome, Send, SendKind

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "envelopes.json").read_text())
GENESIS = bytes.fromhex(VECTORS["genesis"])
SENDER, RECIPIENT = VECTORS["sender"], VECTORS["recipient"]
SEED = bytes(range(16))
AGENCY = st.integers(1, MAX_AGENCY)
HASH = st.binary(min_size=32, max_size=32)


def letter(*files: Attachment, sender: int = SENDER) -> Letter:
    fields = [Field.text("holder", "زينب"), *(Field.file(one.name, one.digest) for one in files)]
    return Letter(Document.build(sender, 0, fields), SEED, files)


def read_letter(found: Letter) -> Any:
    return {
        "type": found.document.document_type,
        "fields": [[field.kind, field.name, field.value.hex()] for field in found.document.fields],
        "files": [[one.name, one.data.hex()] for one in found.files],
    }


def read_reply(found: Reply) -> Any:
    return {
        "outcome": found.outcome,
        "note": found.note,
        "issued": None if found.issued is None else str(found.issued.index),
        "successor": found.successor,
        "files": [[one.name, one.data.hex()] for one in found.files],
    }


# --- known answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["plaintexts"], ids=lambda case: case["desc"])
def test_known_answers(case: dict[str, Any]) -> None:
    plaintext = bytes.fromhex(case["plaintext"]).ljust(case["size"], b"\0")
    route = Route(GENESIS, SENDER, RECIPIENT, bytes.fromhex(case["commitment"]))
    try:
        if case["kind"] == "letter":
            found = open_letter(plaintext, route)
            got, again = read_letter(found), letter_plaintext(found, GENESIS, RECIPIENT)
        else:
            answer = open_reply(plaintext, route)
            got, again = read_reply(answer), reply_plaintext(answer, GENESIS, SENDER, RECIPIENT)
    except SudurError as error:
        got = error.code
    else:
        assert again == (route, plaintext)
    assert got == case["want"]


def test_routes_come_from_the_records() -> None:
    send = Send(7, 9, b"c" * 32, SendKind.REQUEST, 0, 0, b"e" * 32)
    answer = Answer(9, 55, Outcome.ANSWERED, b"a" * 32, NO_HASH)
    assert Route.of_send(GENESIS, send) == Route(GENESIS, 7, 9, b"c" * 32)
    assert Route.of_answer(GENESIS, answer, send) == Route(GENESIS, 9, 7, b"a" * 32)


# --- sizes -------------------------------------------------------------------------------------


@given(AGENCY, st.integers(1, 65_535), st.integers(73, MAX_PLAINTEXT).map(padded_size))
def test_the_outer_form_is_read_as_it_was_written(recipient: int, number: int, size: int) -> None:
    envelope = Envelope(recipient, number, bytes(size + BOX_OVERHEAD))
    data = envelope.encode()
    assert len(data) <= MAX_ENVELOPE
    assert Envelope.decode(data) == envelope


@pytest.mark.parametrize("size", [72, 73, 4095, 4097, 61_441, MAX_PLAINTEXT - 1])
def test_a_size_that_nothing_is_padded_to_is_refused(size: int) -> None:
    with pytest.raises(EnvelopeFormatError):
        Envelope.decode(Envelope(1, 1, bytes(size + BOX_OVERHEAD)).encode())


def test_what_says_more_is_as_long_as_what_says_less() -> None:
    denied = Reply(ReplyOutcome.DENIED, SEED)
    fields = tuple(Shown(Field.text(f"field {n}", "قيمة"), SEED) for n in range(10))
    document = Disclosure(SENDER, 0, (Shown(Field.text("type", "0"), SEED), *fields))
    confirmed = Reply(ReplyOutcome.CONFIRMED, SEED, "مؤكد", Issued(10**9, document))
    sizes = {len(reply_plaintext(one, GENESIS, SENDER, RECIPIENT)[1]) for one in (denied, confirmed)}
    assert sizes == {4096}


def test_the_largest_file_that_fits_and_one_byte_more() -> None:
    room = MAX_BODY - len(letter(Attachment("scan", b"")).encode())
    route, plaintext = letter_plaintext(letter(Attachment("scan", bytes(room))), GENESIS, RECIPIENT)
    assert len(plaintext) == MAX_PLAINTEXT
    assert len(open_letter(plaintext, route).files[0].data) == room
    with pytest.raises(TooLarge, match="another way"):
        letter_plaintext(letter(Attachment("scan", bytes(room + 1))), GENESIS, RECIPIENT)
    with pytest.raises(TooLarge):
        read_plaintext(plaintext + b"\0")


def test_more_files_than_a_byte_counts_are_refused() -> None:
    with pytest.raises(TooLarge, match="255"):
        write_parts(b"{}", (Attachment("a", b""),) * 256)


# --- what is said ------------------------------------------------------------------------------


def test_a_letter_is_bound_to_its_sender_and_its_use() -> None:
    ours, theirs = letter(), letter(sender=8)
    assert ours.commitment(GENESIS) != theirs.commitment(GENESIS)
    assert ours.commitment(GENESIS) != ours.document.commitment(GENESIS, SEED)
    route, plaintext = letter_plaintext(ours, GENESIS, RECIPIENT)
    with pytest.raises(EnvelopeWrongSender, match="agency 8"):
        open_letter(plaintext, replace(route, sender=8))


def test_files_stand_in_the_order_of_their_fields() -> None:
    one, two = Attachment("one", b"1"), Attachment("two", b"2")
    good = letter(one, two)
    assert Letter.decode(good.encode() + bytes(4096 - 72 - len(good.encode())), SENDER) == good
    with pytest.raises(EnvelopeFormatError, match="order"):
        replace(good, files=(two, one)).encode()
    with pytest.raises(CommitmentMismatch):
        replace(good, files=(Attachment("one", b"2"),)).encode()
    with pytest.raises(EnvelopeFormatError, match="no file field"):
        replace(good, files=(Attachment("three", b""),)).encode()


def test_a_seed_of_another_size_is_refused() -> None:
    for short in (replace(letter(), seed=b"short"), Reply(ReplyOutcome.DENIED, b"short")):
        with pytest.raises(DocumentFormatError, match="seed"):
            short.encode()


@pytest.mark.parametrize(
    "reply",
    [
        Reply(ReplyOutcome.DENIED, SEED, "two\nlines"),
        Reply(ReplyOutcome.DENIED, SEED, "\u202eoverride"),
        Reply(ReplyOutcome.DENIED, SEED, "n" * 16_385),
        Reply(ReplyOutcome.DENIED, SEED, successor=4),
        Reply(ReplyOutcome.DENIED, SEED, files=(Attachment("outcome", b""),)),
        Reply(ReplyOutcome.DENIED, SEED, files=(Attachment("a", b""), Attachment("a", b""))),
        Reply(ReplyOutcome.DENIED, SEED, files=(Attachment("", b""),)),
        Reply(ReplyOutcome.DENIED, SEED, issued=Issued(3, Disclosure(1, 0, (Hidden(bytes(32)),)))),
        Reply(ReplyOutcome.CONFIRMED, SEED, issued=Issued(3, Disclosure(1, 0, (Hidden(bytes(32)),)))),
        Reply(ReplyOutcome.CONFIRMED, SEED, issued=Issued(2**64 - 1, Disclosure(1, 0, ()))),
    ],
    ids=repr,
)
def test_a_reply_that_may_not_be_sent(reply: Reply) -> None:
    with pytest.raises((DocumentFormatError, EnvelopeFormatError)):
        reply.encode()


# --- whatever comes in -------------------------------------------------------------------------


@given(st.binary(max_size=300), st.integers(0, 70_000))
@example(b"\1\4\0\0\0\1\0\1", 65_537)
def test_the_outer_parser_raises_only_our_errors(data: bytes, size: int) -> None:
    with suppress(FormatError):
        Envelope.decode(data.ljust(size, b"\0"))


@given(st.binary(max_size=300), st.booleans(), st.data())
def test_the_inner_parsers_raise_only_our_errors(junk: bytes, as_letter: bool, data: st.DataObject) -> None:
    if as_letter:
        route, good = letter_plaintext(letter(Attachment("scan", b"scan")), GENESIS, RECIPIENT)
    else:
        reply = Reply(ReplyOutcome.MORE_NEEDED, SEED, "الأصل", files=(Attachment("form", b"form"),))
        route, good = reply_plaintext(reply, GENESIS, SENDER, RECIPIENT)
    at = data.draw(st.integers(72, 400))
    for plaintext in (junk, good[:72] + junk, good[:at] + junk + good[at + len(junk) :], good[:at]):
        try:
            found: Letter | Reply
            found = open_letter(plaintext, route) if as_letter else open_reply(plaintext, route)
        except (FormatError, VerificationError):
            continue
        assert plaintext == good, found


@given(st.integers(0, 8 * 4096 - 1))
def test_one_flipped_bit_inside_never_opens(bit: int) -> None:
    route, good = letter_plaintext(letter(Attachment("scan", b"scan")), GENESIS, RECIPIENT)
    flipped = bytearray(good)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises((FormatError, VerificationError)):
        open_letter(bytes(flipped), route)


@given(HASH, AGENCY, AGENCY, HASH, st.binary(min_size=1, max_size=MAX_BODY))
def test_a_plaintext_is_padded_and_read(
    genesis: bytes, sender: int, recipient: int, bound: bytes, body: bytes
) -> None:
    route = Route(genesis, sender, recipient, bound)
    plaintext = write_plaintext(route, body)
    assert len(plaintext) % 4096 == 0 or len(plaintext) == MAX_PLAINTEXT
    found, read = read_plaintext(plaintext)
    assert found == route
    assert read.rstrip(b"\0") == body.rstrip(b"\0")


# --- asking for one ----------------------------------------------------------------------------


def test_what_a_request_signs() -> None:
    message = request_message(GENESIS, b"f" * 32, Verb.DROP, 7, b"d" * 32, 1_767_225_600_000)
    wanted = b"sudur/v1/envelope\n" + GENESIS + b"f" * 32 + b"\3\0\0\0\7" + b"d" * 32
    assert message == wanted + bytes.fromhex("0000019b76daa800")
    assert sha256(message).digest() != sha256(wanted).digest()
