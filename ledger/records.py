"""The six records that agencies log: ISSUE, STATUS, ATTEST, SEND, ANSWER, AFFIRM.

Each is a fixed-size leaf. Records travel *packed*: every leaf behind its u16 length, the form that
entry bundles have too. Format: docs/format.md, sections ISSUE to AFFIRM.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Any, ClassVar, Final, TypeVar

from ledger.errors import LeafFormatError
from ledger.hashing import HASH_SIZE
from ledger.leaves import FORMAT_VERSION, NONE, RECORD_TYPES, LeafType, leaf_type

MAX_RECORDS: Final = 256
"""Most records that one SUBMISSION covers, so that both are never more than two tiles apart."""

NO_HASH: Final = bytes(32)
"""Thirty-two zero bytes: no commitment, or no envelope."""

UNDECLARED_TYPE: Final = 0
MAX_DUE_DAYS: Final = 3_650


class Basis(IntEnum):
    """On what grounds a document was logged."""

    ORIGINAL = 0
    ARCHIVE = 1
    MIGRATED = 2
    REPLACEMENT = 3


class Status(IntEnum):
    """A subject's status: two bits in the status list."""

    VALID = 0
    REVOKED = 1
    SUSPENDED = 2
    SUPERSEDED = 3


REASONS: Final[dict[int, str]] = {
    0: "unstated",
    1: "issued in error",
    2: "obtained by fraud",
    3: "issued by somebody with a stolen key",
    4: "its contents are no longer true",
    5: "by decision of a court or an authority",
    6: "at the holder's request",
}
"""The reasons for a change of status that have a name; others may be agreed on."""


class SendKind(IntEnum):
    REQUEST = 1
    CIRCULATED = 2


ATTEST_KINDS: Final[dict[int, str]] = {1: "legalisation", 2: "certified copy", 3: "translation"}
"""The kinds of attestation that have a name; others may be agreed on."""


class Outcome(IntEnum):
    RECEIVED = 1
    ANSWERED = 2
    RETURNED = 3


@dataclass(frozen=True, slots=True)
class Issue:
    """A document was issued; ``commitment`` hides and binds its contents. 41 bytes."""

    agency: int
    document_type: int
    basis: Basis
    commitment: bytes

    TYPE: ClassVar = LeafType.ISSUE
    LAYOUT: ClassVar = Struct(">BBIHB32s")

    def encode(self) -> bytes:
        return _pack(self, self.agency, self.document_type, self.basis, _thirty_two(self.commitment))

    @classmethod
    def decode(cls, leaf: bytes) -> Issue:
        _, _, agency, document_type, basis, commitment = _unpack(cls, leaf)
        return cls(agency, document_type, _member(Basis, basis, "basis"), commitment)


@dataclass(frozen=True, slots=True)
class StatusChange:
    """The status of an ISSUE or ATTEST changed. ``previous``: its latest STATUS, or itself. 32 bytes."""

    agency: int
    subject: int
    previous: int
    status: Status
    reason: int
    replacement: int

    TYPE: ClassVar = LeafType.STATUS
    LAYOUT: ClassVar = Struct(">BBIQQBBQ")

    def encode(self) -> bytes:
        return _pack(
            self,
            self.agency,
            self.subject,
            self.previous,
            self.status,
            self.reason,
            self.replacement,
        )

    @classmethod
    def decode(cls, leaf: bytes) -> StatusChange:
        _, _, agency, subject, previous, status, reason, replacement = _unpack(cls, leaf)
        change = cls(agency, subject, previous, _member(Status, status, "status"), reason, replacement)
        if replacement != NONE and change.status is not Status.SUPERSEDED:
            raise LeafFormatError("only a superseded document names its replacement", where="STATUS")
        return change


@dataclass(frozen=True, slots=True)
class Attest:
    """An agency attested a subject; ``commitment`` is of the attested copy, or zeros. 47 bytes."""

    agency: int
    subject: int
    kind: int
    commitment: bytes

    TYPE: ClassVar = LeafType.ATTEST
    LAYOUT: ClassVar = Struct(">BBIQB32s")

    def encode(self) -> bytes:
        return _pack(self, self.agency, self.subject, self.kind, _thirty_two(self.commitment))

    @classmethod
    def decode(cls, leaf: bytes) -> Attest:
        _, _, agency, subject, kind, commitment = _unpack(cls, leaf)
        if kind == 0:
            raise LeafFormatError("attestation kind 0 is not used", where="ATTEST")
        return cls(agency, subject, kind, commitment)


@dataclass(frozen=True, slots=True)
class Send:
    """A request for confirmation, or a circulated document, went to ``recipient``. 85 bytes.

    ``due``: days after the block, at most 3,650, 0 none. ``follows``: an earlier SEND, or NONE.
    """

    agency: int
    recipient: int
    commitment: bytes
    kind: SendKind
    due: int
    follows: int
    envelope: bytes

    TYPE: ClassVar = LeafType.SEND
    LAYOUT: ClassVar = Struct(">BBII32sBHQ32s")

    def encode(self) -> bytes:
        return _pack(
            self,
            self.agency,
            self.recipient,
            _thirty_two(self.commitment),
            self.kind,
            self.due,
            self.follows,
            _thirty_two(self.envelope),
        )

    @classmethod
    def decode(cls, leaf: bytes) -> Send:
        _, _, agency, recipient, commitment, kind, due, follows, envelope = _unpack(cls, leaf)
        if due > MAX_DUE_DAYS:
            raise LeafFormatError(f"{due} days to answer, at most {MAX_DUE_DAYS} are allowed", where="SEND")
        return cls(agency, recipient, commitment, _member(SendKind, kind, "kind"), due, follows, envelope)


@dataclass(frozen=True, slots=True)
class Answer:
    """The recipient of a SEND received, answered or returned it; the last two are final. 79 bytes."""

    agency: int
    subject: int
    outcome: Outcome
    commitment: bytes
    envelope: bytes

    TYPE: ClassVar = LeafType.ANSWER
    LAYOUT: ClassVar = Struct(">BBIQB32s32s")

    def encode(self) -> bytes:
        return _pack(
            self,
            self.agency,
            self.subject,
            self.outcome,
            _thirty_two(self.commitment),
            _thirty_two(self.envelope),
        )

    @classmethod
    def decode(cls, leaf: bytes) -> Answer:
        _, _, agency, subject, outcome, commitment, envelope = _unpack(cls, leaf)
        answer = cls(agency, subject, _member(Outcome, outcome, "outcome"), commitment, envelope)
        if answer.outcome is Outcome.RECEIVED and (commitment, envelope) != (NO_HASH, NO_HASH):
            raise LeafFormatError("that something was received bears no contents", where="ANSWER")
        return answer


@dataclass(frozen=True, slots=True)
class Affirm:
    """After a key theft: the target's leaves ``first`` to ``last`` (inclusive) are genuine. 26 bytes."""

    agency: int
    target: int
    first: int
    last: int

    TYPE: ClassVar = LeafType.AFFIRM
    LAYOUT: ClassVar = Struct(">BBIIQQ")

    def encode(self) -> bytes:
        return _pack(self, self.agency, self.target, self.first, self.last)

    @classmethod
    def decode(cls, leaf: bytes) -> Affirm:
        _, _, agency, target, first, last = _unpack(cls, leaf)
        if first > last:
            raise LeafFormatError(f"the range {first} to {last} is empty", where="AFFIRM")
        return cls(agency, target, first, last)


_E = TypeVar("_E", bound=IntEnum)

Record = Issue | StatusChange | Attest | Send | Answer | Affirm

_BY_TYPE: Final[dict[LeafType, type[Record]]] = {
    LeafType.ISSUE: Issue,
    LeafType.STATUS: StatusChange,
    LeafType.ATTEST: Attest,
    LeafType.SEND: Send,
    LeafType.ANSWER: Answer,
    LeafType.AFFIRM: Affirm,
}


def parse_record(leaf: bytes) -> Record:
    """Read a record leaf of any of the six types. Raises LeafFormatError."""
    found = leaf_type(leaf)
    if found not in RECORD_TYPES:
        raise LeafFormatError(f"{found.name} is no record that a submission may carry")
    return _BY_TYPE[found].decode(leaf)


def _pack(record: Record, *fields: int | bytes) -> bytes:
    try:
        return record.LAYOUT.pack(FORMAT_VERSION, record.TYPE, *fields)
    except struct.error as error:
        raise LeafFormatError(f"a number does not fit: {error}", where=record.TYPE.name) from None


def _thirty_two(value: bytes) -> bytes:
    """32 bytes as they are: packing would cut or fill up any others without a word."""
    if len(value) != HASH_SIZE:
        raise LeafFormatError(f"a hash has {HASH_SIZE} bytes, not {len(value)}")
    return value


def _unpack(record: type[Record], leaf: bytes) -> tuple[Any, ...]:
    if len(leaf) != record.LAYOUT.size or leaf[:2] != bytes((FORMAT_VERSION, record.TYPE)):
        raise LeafFormatError(
            f"a {record.TYPE.name} leaf is {record.LAYOUT.size} bytes of type 0x{record.TYPE:02x},"
            f" this one is {len(leaf)} bytes"
        )
    return record.LAYOUT.unpack(leaf)


def _member(kind: type[_E], value: int, where: str) -> _E:
    try:
        return kind(value)
    except ValueError:
        raise LeafFormatError(f"{where} {value} is not known", where=kind.__name__) from None
