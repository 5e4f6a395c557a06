"""A node's messages read strictly: what the contract does not allow is AnswerWrong, whatever a node sends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import suppress
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import FormatError
from ledger.figures import FigureKey, Metric
from ledger.inquiries import AsOf, Named, Reply, Standing
from ledger.leaves import NONE, LeafType
from ledger.records import Basis, Outcome, SendKind, Status
from sudur.v1 import ledger_pb2 as pb
from tools.answers import read_exchanges, read_figures, read_reference, read_sends
from tools.client import LedgerClient
from tools.errors import AnswerWrong

METHODS = ("LookupReference", "GetExchanges", "ListSends", "GetFigures")


class Script:
    """A server that answers each call with the next message of its script."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.requests: list[Any] = []

    def handlers(self) -> grpc.GenericRpcHandler:
        def answer(request: Any, context: Any) -> Any:
            self.requests.append(request)
            return self.answers.pop(0)

        made = {
            name: grpc.unary_unary_rpc_method_handler(
                answer,
                request_deserializer=getattr(pb, f"{name}Request").FromString,
                response_serializer=getattr(pb, f"{name}Response").SerializeToString,
            )
            for name in METHODS
        }
        return grpc.method_handlers_generic_handler("sudur.v1.LedgerService", made)


@pytest.fixture
def scripted() -> Iterator[tuple[Script, LedgerClient]]:
    script = Script()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((script.handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with LedgerClient(f"127.0.0.1:{port}") as client:
        yield script, client
    server.stop(None)


def exchange(index: int, **more: Any) -> pb.Exchange:
    usual = {"agency": 1, "recipient": 2, "kind": 1, "time_ms": 5, "follows": NONE, "reminds": NONE}
    return pb.Exchange(index=index, **{**usual, **more})


def test_a_reference(scripted: tuple[Script, LedgerClient]) -> None:
    script, client = scripted
    script.answers = [
        pb.LookupReferenceResponse(
            index=7,
            kind=pb.LEAF_KIND_ISSUE,
            agency=pb.NamedAgency(number=3, names=[pb.Text(language="en", text="Three")]),
            time_ms=9,
            subject=NONE,
            standing=pb.Standing(status=3, changed=8, time_ms=10, reason=2, replacement=11),
            issued=pb.IssuedDocument(document_type=4, basis=2),
            tree_size=12,
            as_of_ms=13,
        )
    ]
    found, as_of = client.reference("777")
    assert script.requests[0].number == "777"
    assert (found.index, found.kind, found.agency) == (7, LeafType.ISSUE, Named(3, {"en": "Three"}))
    assert found.standing == Standing(Status.SUPERSEDED, 8, 10, 2, 11)
    assert found.issued is not None
    assert found.issued.basis is Basis.MIGRATED
    assert (found.subject, found.sent, as_of) == (None, None, AsOf(12, 13))


def test_exchanges_are_those_asked_for(scripted: tuple[Script, LedgerClient]) -> None:
    script, client = scripted
    final = pb.Reply(index=6, agency=2, outcome=3, time_ms=8)
    answer = pb.GetExchangesResponse(exchanges=[exchange(5, final=final)], tree_size=9, as_of_ms=1)
    script.answers = [answer, answer]
    (sent,), _ = client.exchanges([5])
    assert (sent.kind, sent.final, sent.received) == (
        SendKind.REQUEST,
        Reply(6, 2, Outcome.RETURNED, 8),
        None,
    )
    with pytest.raises(AnswerWrong, match="not those"):
        client.exchanges([6])


def test_pages_follow_one_another(scripted: tuple[Script, LedgerClient]) -> None:
    script, client = scripted
    script.answers = [
        pb.ListSendsResponse(exchanges=[exchange(5), exchange(9)], next=12, tree_size=20),
        pb.ListSendsResponse(exchanges=[exchange(12)], next=NONE, tree_size=21),
    ]
    assert [sent.index for sent in client.sends_to(2, 4)] == [5, 9, 12]
    assert [(one.recipient, one.start) for one in script.requests] == [(2, 4), (2, 12)]


@pytest.mark.parametrize(
    ("indexes", "following"), [([3], NONE), ([9, 5], NONE), ([5, 5], NONE), ([5, 9], 9), ([], 12)]
)
def test_pages_that_lead_astray(
    scripted: tuple[Script, LedgerClient], indexes: list[int], following: int
) -> None:
    script, client = scripted
    script.answers = [pb.ListSendsResponse(exchanges=map(exchange, indexes), next=following, tree_size=20)]
    with pytest.raises(AnswerWrong):
        list(client.sends_to(2, 4))


def test_figures_are_of_the_agency_asked_for(scripted: tuple[Script, LedgerClient]) -> None:
    script, client = scripted
    answer = pb.GetFiguresResponse(
        metrics=[4], periods=[672], a=[1], b=[0], counts=[6], tree_size=3, agency=pb.NamedAgency(number=2)
    )
    script.answers = [answer, answer]
    assert client.figures(2).figures == {FigureKey(2, Metric.SENT, 672, 1): 6}
    with pytest.raises(AnswerWrong, match="another agency"):
        client.figures(3)


@pytest.mark.parametrize(
    "answer",
    [
        pb.GetFiguresResponse(metrics=[4], tree_size=3),
        pb.GetFiguresResponse(metrics=[4, 4], periods=[1, 1], a=[1, 1], b=[0, 0], counts=[1, 2], tree_size=3),
        pb.GetFiguresResponse(metrics=[99], periods=[1], a=[1], b=[0], counts=[1], tree_size=3),
        pb.GetFiguresResponse(metrics=[4], periods=[1], a=[1], b=[0], counts=[0], tree_size=3),
        pb.GetFiguresResponse(),
    ],
)
def test_figures_that_are_none(scripted: tuple[Script, LedgerClient], answer: pb.GetFiguresResponse) -> None:
    script, client = scripted
    script.answers = [answer]
    with pytest.raises(AnswerWrong):
        client.figures(0)


@pytest.mark.parametrize(
    "answer",
    [
        pb.LookupReferenceResponse(),
        pb.LookupReferenceResponse(kind=pb.LEAF_KIND_ISSUE),
        pb.LookupReferenceResponse(kind=pb.LeafKind.ValueType(77), tree_size=1),
        pb.LookupReferenceResponse(kind=pb.LEAF_KIND_ISSUE, tree_size=1, standing=pb.Standing(status=4)),
        pb.LookupReferenceResponse(kind=pb.LEAF_KIND_ISSUE, tree_size=1, issued=pb.IssuedDocument(basis=4)),
        pb.LookupReferenceResponse(kind=pb.LEAF_KIND_SEND, tree_size=1, exchange=exchange(1, kind=3)),
    ],
)
def test_references_that_are_none(
    scripted: tuple[Script, LedgerClient], answer: pb.LookupReferenceResponse
) -> None:
    script, client = scripted
    script.answers = [answer]
    with pytest.raises(AnswerWrong):
        client.reference("098")


READERS: list[tuple[type[Message], Callable[[Any], object]]] = [
    (pb.LookupReferenceResponse, read_reference),
    (pb.GetExchangesResponse, read_exchanges),
    (pb.ListSendsResponse, read_sends),
    (pb.GetFiguresResponse, read_figures),
]


@given(st.binary(max_size=200))
def test_any_message_is_read_or_refused(data: bytes) -> None:
    for kind, read in READERS:
        with suppress(DecodeError, FormatError):
            read(kind.FromString(data))
