"""What can be asked about a leaf or an exchange by its number, and the JSON that answers it.

A reference number read out over the telephone, a request followed by its number: the answers are what
the public log shows, as of one size. They prove nothing by themselves, and never speak of a paper:
whoever holds one verifies its code. JSON: docs/lookup.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeVar

from ledger.canonical_json import U64_MAX, Json, Reader
from ledger.changes import MAX_AGENCY, MAX_TYPE, labels
from ledger.errors import FormatError
from ledger.leaves import LeafType
from ledger.records import Basis, Outcome, SendKind, Status
from ledger.references import reference_digits
from ledger.signing_policy import utc_day

REMARK: Final = (
    "This tells what the public log shows. It does not verify a paper: anybody can write this number on"
    " one. Verify the code on the paper."
)
MAX_SENDS: Final = 256
"""Exchanges in one answer."""

_MAX_MS: Final = 2**53 - 1


@dataclass(frozen=True, slots=True)
class AsOf:
    """The tree size that an answer is of, and the time of its seal, ms."""

    size: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Named:
    """An agency with its names by language; the authority is 0 and has none."""

    number: int
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """An ANSWER: who gave it (the recipient or its successor), what it says, and when."""

    index: int
    agency: int
    outcome: Outcome
    time_ms: int


@dataclass(frozen=True, slots=True)
class Sent:
    """A SEND and what has become of it. ``due_days``: 0 for none; ``reminds``: the SEND that is answered
    in its stead.
    """

    index: int
    agency: int
    recipient: int
    kind: SendKind
    time_ms: int
    due_days: int
    follows: int | None
    reminds: int | None
    received: Reply | None
    final: Reply | None

    def overdue(self, now_ms: int) -> bool:
        """Whether a final answer is missing after its last day (UTC)."""
        waits = self.due_days > 0 and self.final is None and self.reminds is None
        return waits and utc_day(now_ms) > utc_day(self.time_ms) + self.due_days


@dataclass(frozen=True, slots=True)
class Issued:
    """What an ISSUE declares: the type's number (0: none) with its labels by language, and the basis."""

    document_type: int
    labels: Mapping[str, str]
    basis: Basis


@dataclass(frozen=True, slots=True)
class Standing:
    """The status of an ISSUE or ATTEST. ``changed``: index of its latest STATUS, which was logged at
    ``time_ms`` for ``reason``; all None when it never changed.
    """

    status: Status
    changed: int | None = None
    time_ms: int | None = None
    reason: int | None = None
    replacement: int | None = None


@dataclass(frozen=True, slots=True)
class Referred:
    """The leaf at ``index``, logged at ``time_ms``. ``subject``: the leaf that it speaks of, if any.

    ``standing`` is of an ISSUE or ATTEST, ``issued`` of an ISSUE, ``attestation`` (its kind) of an
    ATTEST, ``sent`` and ``recipient`` of a SEND.
    """

    index: int
    kind: LeafType
    agency: Named
    time_ms: int
    subject: int | None = None
    standing: Standing | None = None
    issued: Issued | None = None
    attestation: int | None = None
    sent: Sent | None = None
    recipient: Named | None = None


# --- as JSON -----------------------------------------------------------------------------------


def as_of_json(as_of: AsOf) -> dict[str, Json]:
    return {"size": as_of.size, "as_of_ms": as_of.time_ms}


def read_as_of(reader: Reader) -> AsOf:
    return AsOf(reader.number("size", 1, U64_MAX), reader.number("as_of_ms", 0, _MAX_MS))


def referred_json(referred: Referred, as_of: AsOf) -> dict[str, Json]:
    """The answer to a reference number."""
    standing, issued, sent = referred.standing, referred.issued, referred.sent
    return {
        "reference": reference_digits(referred.index),
        "index": referred.index,
        "kind": _word(referred.kind),
        "agency": _named_json(referred.agency),
        "time_ms": referred.time_ms,
        "subject": referred.subject,
        "standing": None
        if standing is None
        else {
            "status": _word(standing.status),
            "changed": standing.changed,
            "time_ms": standing.time_ms,
            "reason": standing.reason,
            "replacement": standing.replacement,
        },
        "issued": None
        if issued is None
        else {
            "document_type": issued.document_type,
            "labels": dict(issued.labels),
            "basis": _word(issued.basis),
        },
        "attestation": referred.attestation,
        "sent": None if sent is None else sent_json(sent, as_of),
        "recipient": None if referred.recipient is None else _named_json(referred.recipient),
        **as_of_json(as_of),
        "remark": REMARK,
    }


def read_referred(value: Json, where: str) -> tuple[Referred, AsOf]:
    """The inverse of :func:`referred_json`. Raises FormatError."""
    reader = Reader(value, where)
    reader.text("reference")
    reader.text("remark", limit=1_024)
    as_of = read_as_of(reader)
    referred = Referred(
        index=_index(reader, "index"),
        kind=_member(reader, "kind", LeafType),
        agency=_named(reader.member("agency")),
        time_ms=_time(reader, "time_ms"),
        subject=_optional_index(reader, "subject"),
        standing=None if reader.any("standing") is None else _standing(reader.member("standing")),
        issued=None if reader.any("issued") is None else _issued(reader.member("issued")),
        attestation=None if reader.any("attestation") is None else reader.number("attestation", 1, 255),
        sent=None if reader.any("sent") is None else read_sent(reader.member("sent")),
        recipient=None if reader.any("recipient") is None else _named(reader.member("recipient")),
    )
    reader.done()
    return referred, as_of


def sent_json(sent: Sent, as_of: AsOf) -> dict[str, Json]:
    """An exchange, with whether it is overdue as of then."""
    return {
        "reference": reference_digits(sent.index),
        "index": sent.index,
        "agency": sent.agency,
        "recipient": sent.recipient,
        "kind": _word(sent.kind),
        "time_ms": sent.time_ms,
        "due_days": sent.due_days,
        "follows": sent.follows,
        "reminds": sent.reminds,
        "received": _reply_json(sent.received),
        "final": _reply_json(sent.final),
        "overdue": sent.overdue(as_of.time_ms),
    }


def read_sent(reader: Reader) -> Sent:
    """The inverse of :func:`sent_json`. Raises FormatError."""
    reader.text("reference")
    reader.flag("overdue")
    sent = Sent(
        index=_index(reader, "index"),
        agency=reader.number("agency", 0, MAX_AGENCY),
        recipient=reader.number("recipient", 0, MAX_AGENCY),
        kind=_member(reader, "kind", SendKind),
        time_ms=_time(reader, "time_ms"),
        due_days=reader.number("due_days", 0, 65_535),
        follows=_optional_index(reader, "follows"),
        reminds=_optional_index(reader, "reminds"),
        received=None if reader.any("received") is None else _reply(reader.member("received")),
        final=None if reader.any("final") is None else _reply(reader.member("final")),
    )
    reader.done()
    return sent


def _named_json(named: Named) -> Json:
    return {"number": named.number, "names": dict(named.names)}


def _named(reader: Reader) -> Named:
    number = reader.number("number", 0, MAX_AGENCY)
    named = Named(number, labels(reader, "names") if reader.any("names") else {})
    reader.done()
    return named


def _reply_json(reply: Reply | None) -> Json:
    if reply is None:
        return None
    return {
        "index": reply.index,
        "agency": reply.agency,
        "outcome": _word(reply.outcome),
        "time_ms": reply.time_ms,
    }


def _reply(reader: Reader) -> Reply:
    reply = Reply(
        _index(reader, "index"),
        reader.number("agency", 0, MAX_AGENCY),
        _member(reader, "outcome", Outcome),
        _time(reader, "time_ms"),
    )
    reader.done()
    return reply


def _standing(reader: Reader) -> Standing:
    standing = Standing(
        _member(reader, "status", Status),
        _optional_index(reader, "changed"),
        None if reader.any("time_ms") is None else _time(reader, "time_ms"),
        None if reader.any("reason") is None else reader.number("reason", 0, 255),
        _optional_index(reader, "replacement"),
    )
    reader.done()
    return standing


def _issued(reader: Reader) -> Issued:
    issued = Issued(
        reader.number("document_type", 0, MAX_TYPE),
        labels(reader, "labels") if reader.any("labels") else {},
        _member(reader, "basis", Basis),
    )
    reader.done()
    return issued


_E = TypeVar("_E", bound=IntEnum)


def _word(member: IntEnum) -> str:
    return member.name.lower()


def _member(reader: Reader, name: str, kind: type[_E]) -> _E:
    word = reader.text(name)
    for member in kind:
        if word == _word(member):
            return member
    raise FormatError(f"{word[:40]!a} is not known", where=reader.at(name))


def _index(reader: Reader, name: str) -> int:
    return reader.number(name, 0, U64_MAX - 1)


def _optional_index(reader: Reader, name: str) -> int | None:
    return None if reader.any(name) is None else _index(reader, name)


def _time(reader: Reader, name: str) -> int:
    return reader.number(name, 0, _MAX_MS)
