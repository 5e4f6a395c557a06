"""What an envelope says: the letter of a SEND, the reply of an ANSWER.

Both open the commitment of their record: a letter by its fields and seed, a reply by what it says and a
seed of its own. So the log proves what was sent and what was answered, and only the two agencies know it.
Format: docs/format.md, section Envelopes.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import ClassVar

from ledger.canonical_json import Json, Reader, base64_text, encode, parse, u64_text
from ledger.changes import MAX_AGENCY, MAX_TYPE
from ledger.documents import (
    MAX_FIELDS,
    MAX_VALUE,
    SEED_SIZE,
    Disclosure,
    Document,
    Field,
    FieldKind,
    Shown,
    commitment,
    salt,
)
from ledger.envelopes import (
    MAX_BODY,
    Attachment,
    Route,
    read_parts,
    read_plaintext,
    write_parts,
    write_plaintext,
)
from ledger.errors import CommitmentMismatch, DocumentFormatError, EnvelopeFormatError, FormatError
from ledger.hashing import merkle_root
from ledger.leaves import NONE
from ledger.receipts import disclosure_from_json, disclosure_to_json


@dataclass(frozen=True, slots=True)
class Letter:
    """What a SEND sends: a document of the sender's, its seed, and those of its files that fit.

    ``files`` are of the document's file fields, in their order; those left out travel another way, and
    are checked against the digest in their field then.
    """

    document: Document
    seed: bytes
    files: tuple[Attachment, ...] = ()

    FORMAT: ClassVar[str] = "sudur-letter/v1"

    def check(self) -> None:
        """Raises DocumentFormatError; EnvelopeFormatError and CommitmentMismatch for its files."""
        self.document.check()
        _check_seed(self.seed)
        places = {field.name: at for at, field in enumerate(self.document.fields)}
        for one in self.files:
            field = self.document.fields[places[one.name]] if one.name in places else None
            if field is None or field.kind is not FieldKind.FILE:
                raise EnvelopeFormatError("no file field bears this name", where=one.name)
            _check_file(one, field)
        order = [places[one.name] for one in self.files]
        if any(a >= b for a, b in pairwise(order)):
            raise EnvelopeFormatError("its files are not in the order of their fields", where="files")

    def commitment(self, genesis: bytes) -> bytes:
        """The 32 bytes that the SEND logs. About 3 µs a field."""
        return _commitment("circulated", genesis, self.document.agency, self.document.fields, self.seed)

    def encode(self) -> bytes:
        """The body. Raises as :meth:`check`."""
        self.check()
        return write_parts(
            encode(
                {
                    "format": self.FORMAT,
                    "type": self.document.document_type,
                    "seed": base64_text(self.seed),
                    "fields": [_field_to_json(field) for field in self.document.fields],
                }
            ),
            self.files,
        )

    @classmethod
    def decode(cls, body: bytes, sender: int) -> Letter:
        """Raises FormatError, CommitmentMismatch for a file that is not its field's."""
        json, files = read_parts(body)
        reader = _open(json, cls.FORMAT)
        document = Document(
            sender,
            reader.number("type", 0, MAX_TYPE),
            tuple(_field_from_json(one) for one in reader.members("fields", limit=MAX_FIELDS)),
        )
        letter = cls(document, reader.data("seed", size=SEED_SIZE), files)
        reader.done()
        letter.check()
        return letter


class ReplyOutcome(StrEnum):
    """What an agency found. Only the asker learns it; the log says no more than "answered"."""

    CONFIRMED = "confirmed"
    DENIED = "denied"
    NO_RECORD = "no_record"
    MORE_NEEDED = "more_needed"
    DIFFERS = "differs"
    TRANSFERRED = "transferred"


@dataclass(frozen=True, slots=True)
class Issued:
    """The document that a confirmation issued: its ISSUE's index, and what opens its commitment."""

    index: int
    document: Disclosure


@dataclass(frozen=True, slots=True)
class Reply:
    """What an ANSWER answers. ``issued`` goes with confirmed alone, ``successor`` with transferred.

    ``note`` is plain text, 0 to 16,384 bytes; ``successor`` the agency whose business it is now.
    """

    outcome: ReplyOutcome
    seed: bytes
    note: str = ""
    issued: Issued | None = None
    successor: int | None = None
    files: tuple[Attachment, ...] = ()

    FORMAT: ClassVar[str] = "sudur-reply/v1"

    @property
    def fields(self) -> tuple[Field, ...]:
        """What the commitment is over: what it says, then the files. Raises DocumentFormatError."""
        issued = "" if self.issued is None else str(self.issued.index)
        successor = "" if self.successor is None else str(self.successor)
        said = {"outcome": self.outcome.value, "note": self.note, "issued": issued, "successor": successor}
        return (
            *(Field.text(name, value) for name, value in said.items()),
            *(Field.file(one.name, one.digest) for one in self.files),
        )

    def check(self) -> None:
        """Raises DocumentFormatError, EnvelopeFormatError."""
        _check_seed(self.seed)
        if self.issued is not None:
            if self.outcome is not ReplyOutcome.CONFIRMED:
                raise EnvelopeFormatError("only a confirmation issues a document", where="issued")
            if not 0 <= self.issued.index < NONE:
                raise EnvelopeFormatError("is no index of a leaf", where="issued")
            self.issued.document.check()
        if self.successor is not None and self.outcome is not ReplyOutcome.TRANSFERRED:
            raise EnvelopeFormatError("only what was transferred names another agency", where="successor")
        for field in self.fields:
            field.check()
        names = [field.name for field in self.fields]
        if len(names) > MAX_FIELDS or len(set(names)) != len(names):
            raise EnvelopeFormatError("its files need names of their own", where="files")

    def commitment(self, genesis: bytes, agency: int) -> bytes:
        """The 32 bytes that the ANSWER of ``agency`` logs."""
        return _commitment("answer", genesis, agency, self.fields, self.seed)

    def encode(self) -> bytes:
        """The body. Raises as :meth:`check`."""
        self.check()
        issued = None
        if self.issued is not None:
            issued = {
                "index": u64_text(self.issued.index),
                "document": disclosure_to_json(self.issued.document),
            }
        return write_parts(
            encode(
                {
                    "format": self.FORMAT,
                    "outcome": self.outcome.value,
                    "seed": base64_text(self.seed),
                    "note": self.note,
                    "issued": issued,
                    "successor": self.successor,
                }
            ),
            self.files,
        )

    @classmethod
    def decode(cls, body: bytes) -> Reply:
        """Raises FormatError."""
        json, files = read_parts(body)
        reader = _open(json, cls.FORMAT)
        reply = cls(
            _outcome(reader),
            reader.data("seed", size=SEED_SIZE),
            reader.text("note", limit=MAX_VALUE, empty=True),
            None if reader.any("issued") is None else _issued(reader.member("issued")),
            None if reader.any("successor") is None else reader.number("successor", 1, MAX_AGENCY),
            files,
        )
        reader.done()
        reply.check()
        return reply


# --- there and back ----------------------------------------------------------------------------


def letter_plaintext(letter: Letter, genesis: bytes, recipient: int) -> tuple[Route, bytes]:
    """What is sealed for a SEND of the document's agency, and the route that it will have in the log.

    Raises FormatError (TooLarge when it does not fit an envelope), CommitmentMismatch.
    """
    body = letter.encode()
    route = Route(genesis, letter.document.agency, recipient, letter.commitment(genesis))
    return route, write_plaintext(route, body)


def reply_plaintext(reply: Reply, genesis: bytes, sender: int, recipient: int) -> tuple[Route, bytes]:
    """The same for an ANSWER of ``sender``; ``recipient`` is the agency of the SEND. Raises FormatError."""
    body = reply.encode()
    route = Route(genesis, sender, recipient, reply.commitment(genesis, sender))
    return route, write_plaintext(route, body)


def open_letter(plaintext: bytes, route: Route) -> Letter:
    """The letter of the SEND whose route this is, all of it bound to the log.

    Raises FormatError, EnvelopeWrongLedger, EnvelopeWrongSender, EnvelopeWrongRecipient,
    EnvelopeWrongCommitment, CommitmentMismatch.
    """
    found, body = read_plaintext(plaintext)
    route.check(found)
    letter = Letter.decode(body, route.sender)
    _check_opened(letter.commitment(route.genesis), route)
    return letter


def open_reply(plaintext: bytes, route: Route) -> Reply:
    """The reply of the ANSWER whose route this is. Raises as :func:`open_letter`."""
    found, body = read_plaintext(plaintext)
    route.check(found)
    reply = Reply.decode(body)
    _check_opened(reply.commitment(route.genesis, route.sender), route)
    return reply


# --- parts -------------------------------------------------------------------------------------


def _commitment(purpose: str, genesis: bytes, agency: int, fields: tuple[Field, ...], seed: bytes) -> bytes:
    hashes = [Shown(field, salt(seed, at)).hash() for at, field in enumerate(fields)]
    return commitment(purpose, genesis, agency, len(hashes), merkle_root(hashes))


def _check_opened(found: bytes, route: Route) -> None:
    if not hmac.compare_digest(found, route.commitment):
        raise CommitmentMismatch(
            "what the envelope says is not what its sender committed to",
            where="envelope",
            fix=f"do not act on it; ask agency {route.sender}",
        )


def _check_seed(seed: bytes) -> None:
    if len(seed) != SEED_SIZE:
        raise DocumentFormatError(f"a seed has {SEED_SIZE} bytes, not {len(seed)}")


def _check_file(one: Attachment, field: Field) -> None:
    if not hmac.compare_digest(one.digest, field.value):
        raise CommitmentMismatch("the file is not the one whose digest the field has", where=one.name)


def _open(json: bytes, wanted: str) -> Reader:
    reader = Reader(parse(json, limit=MAX_BODY, where="envelope"), "envelope")
    found = reader.text("format", limit=64)
    if found != wanted:
        raise EnvelopeFormatError(f"{wanted} is expected, this is {found!r}", where=reader.at("format"))
    return reader


def _field_to_json(field: Field) -> Json:
    if field.kind is FieldKind.FILE:
        return {"name": field.name, "sha256": base64_text(field.value)}
    return {"name": field.name, "value": field.value.decode("utf-8")}


def _field_from_json(reader: Reader) -> Field:
    name = reader.text("name")
    if reader.has("sha256"):
        field = Field.file(name, reader.data("sha256", size=32))
    else:
        field = Field.text(name, reader.text("value", limit=MAX_VALUE, empty=True))
    reader.done()
    return field


def _outcome(reader: Reader) -> ReplyOutcome:
    text = reader.text("outcome", limit=32)
    try:
        return ReplyOutcome(text)
    except ValueError:
        raise FormatError(f"is none of {', '.join(ReplyOutcome)}", where=reader.at("outcome")) from None


def _issued(reader: Reader) -> Issued:
    issued = Issued(reader.u64("index"), disclosure_from_json(reader.member("document")))
    reader.done()
    return issued
