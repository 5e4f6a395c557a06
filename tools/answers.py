"""A node's answers to inquiries, read out of its messages. All raise FormatError for what none may say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from ledger.errors import FormatError
from ledger.figures import FigureKey
from ledger.inquiries import AsOf, Issued, Named, Referred, Reply, Sent, Standing
from ledger.leaves import NONE, LeafType
from ledger.records import Basis, Outcome, SendKind, Status
from ledger.reports import counter
from sudur.v1 import ledger_pb2 as pb

_E = TypeVar("_E", bound=IntEnum)


@dataclass(frozen=True, slots=True)
class FiguresAnswer:
    """An agency's counters as a node states them."""

    agency: Named
    figures: Mapping[FigureKey, int]
    as_of: AsOf


def read_reference(answer: pb.LookupReferenceResponse) -> tuple[Referred, AsOf]:
    kind = _member(LeafType, answer.kind, "kind")
    referred = Referred(
        index=answer.index,
        kind=kind,
        agency=_named(answer.agency),
        time_ms=answer.time_ms,
        subject=_index(answer.subject),
        standing=_standing(answer.standing) if answer.HasField("standing") else None,
        issued=_issued(answer.issued) if answer.HasField("issued") else None,
        attestation=answer.attestation or None,
        sent=_sent(answer.exchange) if answer.HasField("exchange") else None,
        recipient=_named(answer.recipient) if answer.HasField("recipient") else None,
    )
    return referred, _as_of(answer.tree_size, answer.as_of_ms)


def read_exchanges(answer: pb.GetExchangesResponse) -> tuple[list[Sent], AsOf]:
    return [_sent(one) for one in answer.exchanges], _as_of(answer.tree_size, answer.as_of_ms)


def read_sends(answer: pb.ListSendsResponse) -> tuple[list[Sent], int | None]:
    return [_sent(one) for one in answer.exchanges], _index(answer.next)


def read_figures(answer: pb.GetFiguresResponse) -> FiguresAnswer:
    agency = _named(answer.agency)
    figures = {}
    columns = (answer.metrics, answer.periods, answer.a, answer.b, answer.counts)
    if len(set(map(len, columns))) != 1:
        raise FormatError("the columns are not of one length", where="figures")
    for *parts, count in zip(*columns, strict=True):
        key, number = counter(agency.number, parts, count, "figures")
        figures[key] = number
    if len(figures) != len(answer.counts):
        raise FormatError("a counter comes twice", where="figures")
    return FiguresAnswer(agency, figures, _as_of(answer.tree_size, answer.as_of_ms))


def _as_of(size: int, time_ms: int) -> AsOf:
    if size < 1:
        raise FormatError("no tree has size 0", where="tree_size")
    return AsOf(size, time_ms)


def _named(one: pb.NamedAgency) -> Named:
    return Named(one.number, _texts(one.names))


def _texts(texts: Iterable[pb.Text]) -> dict[str, str]:
    return {one.language: one.text for one in texts}


def _standing(one: pb.Standing) -> Standing:
    status = _member(Status, one.status, "status")
    if one.changed == NONE:
        return Standing(status)
    return Standing(status, one.changed, one.time_ms, one.reason, _index(one.replacement))


def _issued(one: pb.IssuedDocument) -> Issued:
    return Issued(one.document_type, _texts(one.labels), _member(Basis, one.basis, "basis"))


def _sent(one: pb.Exchange) -> Sent:
    return Sent(
        index=one.index,
        agency=one.agency,
        recipient=one.recipient,
        kind=_member(SendKind, one.kind, "kind of SEND"),
        time_ms=one.time_ms,
        due_days=one.due_days,
        follows=_index(one.follows),
        reminds=_index(one.reminds),
        received=_reply(one.received) if one.HasField("received") else None,
        final=_reply(one.final) if one.HasField("final") else None,
    )


def _reply(one: pb.Reply) -> Reply:
    return Reply(one.index, one.agency, _member(Outcome, one.outcome, "outcome"), one.time_ms)


def _index(index: int) -> int | None:
    return None if index == NONE else index


def _member(kind: type[_E], value: int, where: str) -> _E:
    try:
        return kind(value)
    except ValueError:
        raise FormatError(f"{value} is not known", where=where) from None
