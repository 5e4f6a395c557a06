"""Answers of :mod:`node.doors.inquiries` as messages of the contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ledger.inquiries import REMARK, AsOf, Issued, Named, Referred, Reply, Sent, Standing
from ledger.leaves import NONE
from node.copying.block_source import Piece
from node.doors.inquiries import AgencyFigures, SendsPage
from sudur.v1 import ledger_pb2


def reference_response(found: Referred, as_of: AsOf) -> ledger_pb2.LookupReferenceResponse:
    return ledger_pb2.LookupReferenceResponse(
        index=found.index,
        kind=ledger_pb2.LeafKind.ValueType(found.kind),
        agency=_named(found.agency),
        time_ms=found.time_ms,
        subject=_index(found.subject),
        standing=None if found.standing is None else _standing(found.standing),
        issued=None if found.issued is None else _issued(found.issued),
        attestation=found.attestation or 0,
        exchange=None if found.sent is None else _exchange(found.sent, as_of),
        recipient=None if found.recipient is None else _named(found.recipient),
        tree_size=as_of.size,
        as_of_ms=as_of.time_ms,
        remark=REMARK,
    )


def exchanges_response(sends: list[Sent], as_of: AsOf) -> ledger_pb2.GetExchangesResponse:
    return ledger_pb2.GetExchangesResponse(
        exchanges=[_exchange(one, as_of) for one in sends], tree_size=as_of.size, as_of_ms=as_of.time_ms
    )


def sends_response(page: SendsPage) -> ledger_pb2.ListSendsResponse:
    return ledger_pb2.ListSendsResponse(
        exchanges=[_exchange(one, page.as_of) for one in page.sends],
        next=_index(page.next),
        tree_size=page.as_of.size,
        as_of_ms=page.as_of.time_ms,
    )


def figures_response(found: AgencyFigures) -> ledger_pb2.GetFiguresResponse:
    """By columns: a tenth of the time and half the bytes that a message for each counter would take."""
    _, metrics, periods, a, b = zip(*found.figures, strict=True) if found.figures else ((),) * 5
    return ledger_pb2.GetFiguresResponse(
        metrics=metrics,
        periods=periods,
        a=a,
        b=b,
        counts=found.figures.values(),
        tree_size=found.as_of.size,
        as_of_ms=found.as_of.time_ms,
        agency=_named(found.agency),
    )


def _named(named: Named) -> ledger_pb2.NamedAgency:
    return ledger_pb2.NamedAgency(number=named.number, names=_texts(named.names))


def _texts(texts: Mapping[str, str]) -> list[ledger_pb2.Text]:
    return [ledger_pb2.Text(language=language, text=text) for language, text in texts.items()]


def _standing(standing: Standing) -> ledger_pb2.Standing:
    return ledger_pb2.Standing(
        status=standing.status,
        changed=_index(standing.changed),
        time_ms=standing.time_ms or 0,
        reason=standing.reason or 0,
        replacement=_index(standing.replacement),
    )


def _issued(issued: Issued) -> ledger_pb2.IssuedDocument:
    return ledger_pb2.IssuedDocument(
        document_type=issued.document_type, labels=_texts(issued.labels), basis=issued.basis
    )


def _exchange(sent: Sent, as_of: AsOf) -> ledger_pb2.Exchange:
    return ledger_pb2.Exchange(
        index=sent.index,
        agency=sent.agency,
        recipient=sent.recipient,
        kind=sent.kind,
        time_ms=sent.time_ms,
        due_days=sent.due_days,
        follows=_index(sent.follows),
        reminds=_index(sent.reminds),
        received=None if sent.received is None else _reply(sent.received),
        final=None if sent.final is None else _reply(sent.final),
        overdue=sent.overdue(as_of.time_ms),
    )


def _reply(reply: Reply) -> ledger_pb2.Reply:
    return ledger_pb2.Reply(
        index=reply.index, agency=reply.agency, outcome=reply.outcome, time_ms=reply.time_ms
    )


def _index(index: int | None) -> int:
    return NONE if index is None else index


def blocks_response(
    pieces: Iterable[Piece], newest: int, checkpoint: bytes = b""
) -> ledger_pb2.StreamBlocksResponse:
    return ledger_pb2.StreamBlocksResponse(
        pieces=[
            ledger_pb2.BlockPiece(
                number=one.number, packed=one.packed, last=one.last, checkpoint=one.note or b""
            )
            for one in pieces
        ],
        newest_block=newest,
        checkpoint=checkpoint,
    )
