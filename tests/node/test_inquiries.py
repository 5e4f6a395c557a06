"""Reference numbers, exchanges, events and figures over real sockets, beside what was submitted."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from ledger.figures import Metric
from ledger.inquiries import MAX_SENDS, REMARK, read_referred, referred_json
from ledger.leaves import NONE, LeafType
from ledger.records import (
    NO_HASH,
    Answer,
    Attest,
    Basis,
    Outcome,
    Send,
    SendKind,
    Status,
    StatusChange,
)
from ledger.references import reference_digits, reference_text
from ledger.reports import CSV_COLUMNS, read_figures
from ledger.resources import Event, fetch_events
from ledger.seals import Seal
from node.doors import inquiry_models as models
from sudur.v1 import ledger_pb2 as pb
from tests.ledger.world import commitment, issue
from tests.node.served import Served, refused, serve

pytestmark = pytest.mark.asyncio(loop_scope="module")


def send(agency: int, recipient: int, name: str, *, due: int = 0, follows: int = NONE) -> bytes:
    return Send(agency, recipient, commitment(name), SendKind.REQUEST, due, follows, NO_HASH).encode()


def answer(agency: int, subject: int, outcome: Outcome) -> bytes:
    contents = NO_HASH if outcome is Outcome.RECEIVED else commitment(f"answer to {subject}")
    return Answer(agency, subject, outcome, contents, NO_HASH).encode()


@dataclass
class Busy:
    """A node with two agencies that have dealt with each other; the indexes of what they logged."""

    served: Served
    document: int
    revoked: int
    status: int
    attest: int
    answered: int
    received: int
    final: int
    waiting: int
    reminder: int


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def busy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Busy]:
    async with serve(tmp_path_factory.mktemp("node") / "data") as served:
        number = await served.define_type()
        one = await served.enrol(roles=("issue", "attest", "request"), types=(0, number))
        two = await served.enrol(roles=("issue",))
        assert (one, two) == (2, 3)

        async def log(agency: int, *records: bytes) -> int:
            return (await served.submit(agency, records)).placement.first_record_index

        document = await log(2, issue(2, "a", number), issue(2, "b", 0, Basis.ARCHIVE))
        status = await log(2, StatusChange(2, document + 1, document + 1, Status.REVOKED, 7, NONE).encode())
        attest = await log(2, Attest(2, document, 3, NO_HASH).encode())
        answered = await log(2, send(2, 3, "x", due=2), send(2, 3, "y", due=9))
        reminder = await log(2, send(2, 3, "again", follows=answered + 1))
        received = await log(3, answer(3, answered, Outcome.RECEIVED))
        final = await log(3, answer(3, answered, Outcome.ANSWERED))
        yield Busy(
            served,
            document,
            document + 1,
            status,
            attest,
            answered,
            received,
            final,
            answered + 1,
            reminder,
        )


async def get(busy: Busy, path: str) -> Any:
    found = await busy.served.http.get(path)
    assert found.status_code == 200, found.text
    assert found.headers["cache-control"] == "no-cache"
    return found.json()


async def look_up(busy: Busy, index: int) -> pb.LookupReferenceResponse:
    return await busy.served.stub.LookupReference(pb.LookupReferenceRequest(number=reference_text(index)))


# --- by reference number -----------------------------------------------------------------------


async def test_a_document_by_its_reference_number(busy: Busy) -> None:
    found = await look_up(busy, busy.document)
    assert (found.index, found.kind) == (busy.document, pb.LEAF_KIND_ISSUE)
    assert {one.language: one.text for one in found.agency.names} == {"en": "Agency 2", "ar": "دائرة 2"}
    assert (found.issued.document_type, found.issued.basis) == (1, Basis.ORIGINAL)
    assert [(one.language, one.text) for one in found.issued.labels] == [("en", "certificate")]
    assert (found.standing.status, found.standing.changed) == (Status.VALID, NONE)
    assert found.remark == REMARK
    assert "does not verify a paper" in found.remark
    assert found.tree_size == busy.served.size
    assert not found.HasField("exchange")
    assert found.time_ms == busy.served.node.ledger.store.block_of(busy.document).time_ms


async def test_one_that_was_revoked(busy: Busy) -> None:
    found = await look_up(busy, busy.revoked)
    assert (found.issued.document_type, found.issued.basis) == (0, Basis.ARCHIVE)
    standing = found.standing
    assert (standing.status, standing.changed, standing.reason) == (Status.REVOKED, busy.status, 7)
    assert standing.time_ms == busy.served.node.ledger.store.block_of(busy.status).time_ms
    assert standing.replacement == NONE


async def test_what_speaks_of_another_leaf(busy: Busy) -> None:
    attest = await look_up(busy, busy.attest)
    assert (attest.kind, attest.subject, attest.attestation) == (pb.LEAF_KIND_ATTEST, busy.document, 3)
    assert attest.standing.status == Status.VALID
    status = await look_up(busy, busy.status)
    assert (status.kind, status.subject) == (pb.LEAF_KIND_STATUS, busy.revoked)
    final = await look_up(busy, busy.final)
    assert (final.kind, final.subject, final.agency.number) == (pb.LEAF_KIND_ANSWER, busy.answered, 3)
    submission = await look_up(busy, busy.document - 1)
    assert (submission.kind, submission.agency.number) == (pb.LEAF_KIND_SUBMISSION, 2)
    genesis = await look_up(busy, 0)
    assert (genesis.kind, genesis.agency.number, genesis.subject) == (pb.LEAF_KIND_REGISTRY, 0, NONE)


async def test_a_request_by_its_reference_number(busy: Busy) -> None:
    found = await look_up(busy, busy.answered)
    assert (found.recipient.number, found.exchange.recipient, found.exchange.due_days) == (3, 3, 2)
    assert (found.exchange.received.index, found.exchange.final.index) == (busy.received, busy.final)
    assert found.exchange.final.outcome == Outcome.ANSWERED
    assert not found.exchange.overdue
    open_ = (await look_up(busy, busy.waiting)).exchange
    assert not open_.HasField("received")
    assert not open_.HasField("final")
    assert (await look_up(busy, busy.reminder)).exchange.reminds == busy.waiting


async def test_http_says_the_same_in_its_model(busy: Busy) -> None:
    """Of every leaf that there is: one of each kind is among them."""
    kinds = set()
    for index in range(busy.served.size):
        digits = reference_digits(index)
        body = await get(busy, f"/v1/reference/{digits}")
        models.ReferenceAnswer.model_validate(body)
        referred, as_of = read_referred(body, "answer")
        assert referred_json(referred, as_of) == body
        kinds.add(referred.kind)
        over_grpc = await look_up(busy, index)
        assert (over_grpc.index, int(over_grpc.kind)) == (index, int(referred.kind))
        assert over_grpc.time_ms == referred.time_ms
    assert kinds == set(LeafType) - {LeafType.AFFIRM}


@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [
        ("", grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED"),
        ("12x", grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED"),
        ("101755", grpc.StatusCode.INVALID_ARGUMENT, "REFERENCE_INVALID"),
        ("9" * 65, grpc.StatusCode.INVALID_ARGUMENT, "TOO_LARGE"),
        (reference_digits(2**63), grpc.StatusCode.OUT_OF_RANGE, "OUT_OF_RANGE"),
    ],
)
async def test_numbers_that_lead_nowhere(busy: Busy, number: str, code: grpc.StatusCode, reason: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await busy.served.stub.LookupReference(pb.LookupReferenceRequest(number=number))
    found = refused(caught.value)
    assert (found.code, found.reason) == (code, reason)
    if number:
        problem = await busy.served.http.get(f"/v1/reference/{number}")
        assert problem.status_code == (404 if reason == "OUT_OF_RANGE" else 400)
        assert problem.headers["content-type"] == "application/problem+json"
        assert problem.json()["code"] == reason


# --- exchanges ---------------------------------------------------------------------------------


async def test_exchanges_in_the_order_asked_for(busy: Busy) -> None:
    indexes = [busy.reminder, busy.answered, busy.waiting]
    found = await busy.served.stub.GetExchanges(pb.GetExchangesRequest(indexes=indexes))
    assert [one.index for one in found.exchanges] == indexes
    assert found.tree_size == busy.served.size
    for index, one in zip(indexes, found.exchanges, strict=True):
        body = await get(busy, f"/v1/exchange/{index}")
        models.ExchangeAnswer.model_validate(body)
        assert (body["index"], body["size"]) == (one.index, found.tree_size)
        assert (body["final"] is not None) == one.HasField("final")


@pytest.mark.parametrize(
    ("indexes", "reason"),
    [
        ([], "MALFORMED"),
        ([0] * (MAX_SENDS + 1), "TOO_LARGE"),
        ([2**64 - 1], "OUT_OF_RANGE"),
        ([0], "NOT_FOUND"),
    ],
)
async def test_exchanges_that_there_are_none_of(busy: Busy, indexes: list[int], reason: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await busy.served.stub.GetExchanges(pb.GetExchangesRequest(indexes=indexes))
    assert refused(caught.value).reason == reason
    if len(indexes) == 1:
        assert (await busy.served.http.get(f"/v1/exchange/{indexes[0]}")).json()["code"] == reason


async def test_sends_to_an_agency_come_in_pages(busy: Busy) -> None:
    wanted = [busy.answered, busy.waiting, busy.reminder]
    seen, start = [], 0
    while start != NONE:
        page = await busy.served.stub.ListSends(pb.ListSendsRequest(recipient=3, start=start, limit=2))
        assert 1 <= len(page.exchanges) <= 2
        seen += [one.index for one in page.exchanges]
        start = page.next
    assert seen == wanted
    body = await get(busy, f"/v1/sends/3/{busy.waiting}")
    models.SendsAnswer.model_validate(body)
    assert [one["index"] for one in body["sends"]] == wanted[1:]
    assert body["next"] is None
    nobody = await busy.served.stub.ListSends(pb.ListSendsRequest(recipient=2))
    assert (list(nobody.exchanges), nobody.next) == ([], NONE)
    assert (await busy.served.http.get("/v1/sends/9/0")).json()["code"] == "UNKNOWN_AGENCY"


async def test_overdue_is_as_of_the_published_time(busy: Busy) -> None:
    sent = read_referred(await get(busy, f"/v1/reference/{reference_digits(busy.waiting)}"), "x")[0].sent
    assert sent is not None
    last_day_ends = (sent.time_ms // 86_400_000 + sent.due_days + 1) * 86_400_000
    assert not sent.overdue(last_day_ends - 1)
    assert sent.overdue(last_day_ends)


# --- events ------------------------------------------------------------------------------------


async def test_events_of_a_status_chunk(busy: Busy) -> None:
    found = await busy.served.http.get("/status/events/0")
    assert found.headers["cache-control"] == "no-cache"

    class Fetched:
        def fetch(self, path: str) -> bytes:
            assert path == "status/events/0"
            return found.content

    assert fetch_events(Fetched(), 0) == [
        Event(busy.document, LeafType.ATTEST, busy.attest),
        Event(busy.revoked, LeafType.STATUS, busy.status),
    ]
    beyond = await busy.served.http.get("/status/events/1")
    assert (beyond.status_code, beyond.json()["code"]) == (404, "NOT_FOUND")
    assert (await busy.served.http.get("/status/events/x")).status_code == 422


# --- figures -----------------------------------------------------------------------------------


async def figures(busy: Busy, agency: int) -> dict[tuple[int, int, int], int]:
    answer = await busy.served.stub.GetFigures(pb.GetFiguresRequest(agency=agency))
    assert answer.tree_size == busy.served.size
    rows = zip(answer.metrics, answer.a, answer.b, answer.counts, strict=True)
    return {(metric, a, b): count for metric, a, b, count in rows}


async def test_figures_of_an_agency_and_of_the_ledger(busy: Busy) -> None:
    two, three, ledger = [await figures(busy, agency) for agency in (2, 3, 0)]
    assert two == {
        (Metric.DOCUMENTS, 0, Basis.ARCHIVE): 1,
        (Metric.DOCUMENTS, 1, Basis.ORIGINAL): 1,
        (Metric.STATUS, Status.REVOKED, 0): 1,
        (Metric.ATTESTATIONS, 3, 0): 1,
        (Metric.SENT, SendKind.REQUEST, 0): 3,
    }
    assert three == {
        (Metric.ASKED, SendKind.REQUEST, 0): 2,
        (Metric.REMINDED, SendKind.REQUEST, 0): 1,
        (Metric.RECEIVED, SendKind.REQUEST, 0): 1,
        (Metric.ANSWERED, SendKind.REQUEST, Outcome.ANSWERED): 1,
        (Metric.DELAY, SendKind.REQUEST, 0): 1,
        (Metric.OPEN, SendKind.REQUEST, 0): 1,
        (Metric.DUE, SendKind.REQUEST, 0): 1,
    }
    assert ledger == two | three


async def test_figures_over_http_are_the_same(busy: Busy) -> None:
    for agency in (0, 1, 2, 3):
        body = await get(busy, f"/v1/figures/{agency}")
        models.FiguresAnswer.model_validate(body)
        number, counters, as_of, _ = read_figures(body, "answer")
        assert (number, as_of.size) == (agency, busy.served.size)
        over_grpc = await figures(busy, agency)
        assert {(key.metric, key.a, key.b): count for key, count in counters.items()} == over_grpc
        rows = await busy.served.http.get(f"/v1/figures/{agency}/csv")
        assert rows.headers["content-type"] == "text/csv; charset=utf-8"
        table = list(csv.reader(io.StringIO(rows.text)))
        assert tuple(table[0]) == CSV_COLUMNS
        assert len(table) == 1 + len(counters)
        assert all(row[6] == str(as_of.size) for row in table[1:])
    body = await get(busy, "/v1/figures/3")
    assert body["backlogs"]["request"]["open"] == 1
    (month,) = body["months"]
    assert month["exchanges"]["request"]["delays"] == {
        "answers": 1,
        "median_ms": 3_600_000,
        "ninth_ms": 3_600_000,
    }


async def test_figures_of_nobody(busy: Busy) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await busy.served.stub.GetFigures(pb.GetFiguresRequest(agency=99))
    assert refused(caught.value).reason == "UNKNOWN_AGENCY"
    for path in ("/v1/figures/99", "/v1/figures/99/csv"):
        assert (await busy.served.http.get(path)).json()["code"] == "UNKNOWN_AGENCY"


async def test_figures_while_blocks_come(tmp_path: Path) -> None:
    """Each answer is whole, of one published size, and says what the seal of that size says."""
    async with serve(tmp_path / "data") as served:
        writing = [asyncio.create_task(served.submit()) for _ in range(60)]
        sizes = set()
        while not all(task.done() for task in writing):
            answer = await served.stub.GetFigures(pb.GetFiguresRequest())
            await served.stub.GetCheckpoint(pb.GetCheckpointRequest(size=answer.tree_size))
            seal = Seal.decode(served.node.ledger.store.leaf(answer.tree_size - 1))
            counted = zip(answer.metrics, answer.counts, strict=True)
            assert sum(count for metric, count in counted if metric == Metric.DOCUMENTS) == seal.documents
            assert answer.as_of_ms == seal.time_ms
            sizes.add(answer.tree_size)
        await asyncio.gather(*writing)
    assert sizes
